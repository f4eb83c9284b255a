"""What a rank's device has to hold: optimizer states and weights exactly, activations as an estimate.

The states follow from what DeepSpeed 0.19.8 allocates for our configuration (ZeRO, Rajbhandari et al., arXiv
1910.02054, with its variants for bf16); `benchmarks/memory.py` compares them with real engines. The activations are
those that autograd keeps for an eager forward pass with fused attention; compiled layers keep less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modeling import AnyConfig, DepthSupervision, tensor_sizes
from pretrain import LARGEST_BUCKET

from .config import Precision

PERSISTENT_ELEMENTS = 100_000
"""Stage 3 keeps tensors up to this size whole on every rank (DeepSpeed's stage3_param_persistence_threshold)."""


@dataclass(frozen=True)
class ModelSize:
    """What the memory of the states depends on."""

    parameters: int
    """Tied weights count once."""
    persistent: int = 0
    """Elements in tensors that ZeRO stage 3 never shards (`PERSISTENT_ELEMENTS`)."""
    persistent_tensors: int = 0
    """How many tensors those are."""

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "ModelSize":
        """The size of a model from the number of elements of each of its tensors."""
        persistent = [size for size in sizes if size <= PERSISTENT_ELEMENTS]
        return cls(sum(sizes), sum(persistent), len(persistent))


@dataclass(frozen=True)
class States:
    """Bytes that one rank's device holds while gradients are complete, the moment before the optimizer steps."""

    weights: float
    gradients: float
    optimizer: float
    """Moments, and the fp32 weights where they are a copy of their own."""
    buffers: float
    """Buckets that gradients are reduced in."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def state_bytes(
    size: ModelSize,
    stage: int,
    precision: Precision,
    ranks: int,
    *,
    overlap: bool = False,
    offload_optimizer: bool = False,
) -> States:
    """The states of a model under a ZeRO stage with AdamW or LAMB; Muon has one moment less for its matrices.

    Args:
        ranks: what ZeRO shards over.
        overlap: gradients are reduced beside the backward pass, as on GPUs: there are two buckets then.
        offload_optimizer: optimizer states live in host memory.
    """
    n, low = size.parameters, 4 if precision == "fp32" else 2
    share = n / ranks
    bucket = min(LARGEST_BUCKET, n) * low * (2 if overlap else 1)
    if stage == 0:
        copy = 0 if precision == "fp32" else 4 * n
        return States(weights=low * n, gradients=low * n, optimizer=copy + 8 * n, buffers=0.0)
    optimizer = 0.0 if offload_optimizer else 12 * share
    if stage == 1:
        # bf16 sums its micro-batches in a whole fp32 buffer (BF16_Optimizer)
        if precision == "bf16":
            return States(low * n, (4 + low) * n, optimizer, buffers=0.0)
        return States(low * n, low * n, optimizer, bucket)
    if stage == 2:
        return States(low * n, 4 * share, optimizer, bucket)
    whole = low * size.persistent
    return States(low * share + whole, 4 * share, optimizer, bucket)


@dataclass(frozen=True)
class Activations:
    """Bytes of one forward and backward pass."""

    kept: int
    """Alive from the forward to the backward pass."""
    passing: int
    """Needed beside them at the loss, which is where the peak is."""

    @property
    def total(self) -> int:
        """Both."""
        return self.kept + self.passing


def activation_bytes(
    config: AnyConfig,
    micro_batch: int,
    seq_length: int,
    targets: int,
    precision: Precision,
    checkpointing: bool = False,
    taught: bool = False,
    masked: bool = True,
    supervision: DepthSupervision | None = None,
) -> Activations:
    """What a forward and backward pass needs: an estimate; of layers that are left out at random all are counted.

    The same for every connectivity but reversible: a short residual and the read-out are additions, of which autograd
    keeps nothing. A reversible model keeps the two streams of one depth in fp32, and has one layer's activations at a
    time in the backward pass, which are `passing` where they are more than the logits.

    Args:
        micro_batch: blocks.
        seq_length: tokens of a block.
        targets: masked positions of a block; only they are decoded.
        checkpointing: only each layer's input is kept, and one layer at a time computed again.
        taught: the read-out of every token is matched with a teacher's states.
        masked: whether masked tokens are predicted; always without a teacher.
        supervision: None: the whole model alone is trained.
    """
    supervision = supervision or DepthSupervision()
    supervised, depths = supervision.kind != "none", supervision.depths_per_step(config.num_hidden_layers)
    low = 4 if precision == "fp32" else 2
    hidden, inner = config.hidden_size, config.intermediate_size
    # of a layer: its input, query, key, value, their context, the inputs of both norms and of the feed-forward
    # sub-layer, then what surrounds the activation function; of attention and norms a few scalars per token
    kept = (8 * hidden + (4 if config.gated_mlp else 2) * inner) * low + 4 * config.num_attention_heads + 16
    count = config.num_hidden_layers
    layers = seq_length * (count * hidden * low + kept if checkpointing else count * kept)
    if count and not checkpointing and not taught and not supervised:
        # the last layer: input, key and value of every token, the rest of the targets alone, their input once more
        layers -= (seq_length - targets) * (kept - 3 * hidden * low) - targets * hidden * low
    embeddings, rebuilt = 2 * hidden * low, 0
    if config.is_reversible and count:
        limited = not taught and not supervised
        layers, rebuilt = _rebuilt_bytes(config, seq_length, targets, kept, low, depths, limited)
        embeddings -= hidden * low  # x_0 itself is not kept
    # the logits' gradient, which the loss makes beside them; in fp16 instead log-probabilities in fp32
    head = 4 * hidden * low + (4 if precision == "fp16" else low) * config.vocab_size
    passing = (10 if precision == "fp16" else low) * config.vocab_size  # logits; of fp16 their fp32 copy, its gradient
    # log-probabilities of both depths that are compared, in fp32, and beside them the divergence word by word
    compared = 8 * config.vocab_size if supervision.kind == "adaptive" else 0
    passing += compared // 2
    # the states; of each depth the inputs of the projection and of its norm, the difference in fp32
    states, match = (hidden * low, (2 * low + 4) * hidden) if taught else (0, 0)
    # copies in fp32 of the difference, and its square
    matching = (8 if precision == "fp32" else 12) * hidden if taught else 0
    decoded = targets if masked else 0
    # a read-out of every token, which masked positions are gathered from; a projection has kept it
    gathered = hidden * low if supervised and masked and not taught else 0
    tokens = seq_length * (embeddings + states + depths * (match + gathered))
    return Activations(
        kept=micro_batch * (tokens + layers + decoded * (depths * head + compared)),
        passing=micro_batch * max(decoded * passing + seq_length * matching, rebuilt),
    )


def _rebuilt_bytes(
    config: AnyConfig, seq_length: int, targets: int, kept: int, low: int, depths: int, limited: bool
) -> tuple[int, int]:
    """What the layers of a reversible model keep of a block, and what the backward pass has beside it at a time.

    Args:
        kept: bytes of one token that a layer keeps which computes nothing again.
        low: bytes of a number.
        depths: read-outs that have a loss.
        limited: the last layer computes the targets alone, and keeps its own.
    """
    hidden = config.hidden_size
    streams = 2 * hidden * 4
    own = seq_length * (3 * hidden * low + 16) + targets * (kept - 3 * hidden * low + 2 * hidden * (4 - low) + 16)
    read_out = (targets if limited else seq_length) * (4 * hidden + 8)
    layers = seq_length * streams + limited * own + depths * read_out
    return layers, seq_length * (kept + 3 * streams) if config.num_hidden_layers > limited else 0


def teacher_bytes(teacher: AnyConfig, precision: Precision) -> int:
    """Bytes of a teacher's weights, which every rank holds whole; what it computes is gone before the loss, but for its
    states (see `activation_bytes`)."""
    hidden = teacher.hidden_size
    head = (hidden + 1) * (hidden + 1)  # pooler and one class, which a teacher has not
    return (sum(tensor_sizes(teacher, num_labels=1)) - head) * (4 if precision == "fp32" else 2)


def checkpoint_bytes(size: ModelSize, stage: int, precision: Precision) -> int:
    """Bytes on disk of one checkpoint: both moments, fp32 weights, and the weights as they are computed with, which
    stage 3 leaves out and which are the fp32 weights themselves in plain fp32."""
    low = 4 if precision == "fp32" else 2
    one_copy = stage == 3 or (stage == 0 and precision == "fp32")
    return size.parameters * (12 if one_copy else 12 + low)
