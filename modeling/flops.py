"""What a model costs at each depth: parameters and forward FLOPs, counted from its configuration alone.

Needs neither torch nor transformers, whose imports take longer than a plan.

A multiply-add counts as two FLOPs and only matrix products are counted (projections and attention), which is the
convention of `torch.utils.flop_counter` and of the scaling literature. Short residuals, the read-out sum and rope's
rotations cost nothing by it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    from .configuration_acn import AcnConfig


@dataclass(frozen=True)
class Architecture:
    """The fields of an [`AcnConfig`] that the cost depends on, with their meaning there, where there is no torch."""

    connectivity: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    position_embedding_type: str = "absolute"
    gated_mlp: bool = False
    head_dim: int | None = None
    type_vocab_size: int = 2
    tie_word_embeddings: bool = True

    @property
    def is_reversible(self) -> bool:
        """Whether the layers have two streams."""
        return self.connectivity == "reversible"

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim


AnyConfig: TypeAlias = Union[Architecture, "AcnConfig"]


def layer_flops(config: AnyConfig, seq_length: int, positions: int | None = None) -> int:
    """Forward FLOPs of one encoder layer on one sequence of `seq_length` tokens.

    Args:
        positions: tokens whose output is wanted (default: all); the others are keys and values only.
    """
    queries = seq_length if positions is None else positions
    hidden, inner = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_width  # hidden, unless heads were removed
    matrices = 3 if config.gated_mlp else 2  # up, down, and the gate
    key_value = 2 * seq_length * 2 * hidden * heads
    query_output_mlp = 2 * queries * (2 * hidden * heads + matrices * hidden * inner)
    attention = 2 * 2 * queries * seq_length * heads  # scores and weighted values
    return key_value + query_output_mlp + attention


def forward_flops(
    config: AnyConfig,
    seq_length: int,
    depth: int | None = None,
    num_labels: int = 0,
    masked_positions: int = 0,
) -> int:
    """Forward FLOPs of one sequence of `seq_length` tokens through the first `depth` layers (default: all) and a head.

    Args:
        num_labels: adds the pooler and a classifier with this many outputs; 0 for none. In training its last layer
            costs `layer_flops(config, seq_length, 1)` only.
        masked_positions: adds the masked-language-model head on this many positions, to which the last layer's output
            is limited then, as it is in training.
    """
    depth = config.num_hidden_layers if depth is None else depth
    hidden = config.hidden_size
    classifier = 2 * hidden * (hidden + num_labels) if num_labels else 0
    decoder = 2 * masked_positions * hidden * (hidden + config.vocab_size)
    layers = depth * layer_flops(config, seq_length)
    if masked_positions and depth:
        layers -= layer_flops(config, seq_length) - layer_flops(config, seq_length, masked_positions)
    return layers + classifier + decoder


def recomputed_flops(config: AnyConfig, seq_length: int, limited: bool) -> int:
    """FLOPs that a training step on one sequence computes a second time instead of keeping what they gave.

    They are the hardware's, not the model's: utilization (MFU) does not count them.

    Args:
        limited: the last layer is limited to some positions (`masked_positions`, [CLS]), and keeps what it computes.
    """
    if not config.is_reversible:
        return 0
    return max(0, config.num_hidden_layers - limited) * layer_flops(config, seq_length)


def tensor_sizes(config: AnyConfig, num_labels: int = 0) -> list[int]:
    """Elements of every parameter of the whole model, in any order; tied weights once.

    Args:
        num_labels: outputs of the classifier on the pooled token; 0 for the masked-language-model head instead.
    """
    return _outside_the_layers(config, num_labels) + config.num_hidden_layers * _of_a_layer(config)


def parameters_by_depth(config: AnyConfig, num_labels: int = 0) -> list[int]:
    """Parameters of the model cut at depth 0, 1, ..., L, with the head of [`tensor_sizes`]; tied weights count once."""
    layer, rest = sum(_of_a_layer(config)), sum(_outside_the_layers(config, num_labels))
    return [rest + depth * layer for depth in range(config.num_hidden_layers + 1)]


def _linear(inputs: int, outputs: int) -> list[int]:
    return [inputs * outputs, outputs]


def _of_a_layer(config: AnyConfig) -> list[int]:
    hidden, inner = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_width
    return [
        *_linear(hidden, 3 * heads),  # query, key and value
        *_linear(heads, hidden),
        *_linear(hidden, inner * (2 if config.gated_mlp else 1)),
        *_linear(inner, hidden),
        *(hidden,) * 4,  # two LayerNorms
        *([1] if config.connectivity == "hybrid" else []),  # the scale of the shortcut
    ]


def _outside_the_layers(config: AnyConfig, num_labels: int) -> list[int]:
    hidden, words = config.hidden_size, config.vocab_size
    positions = config.max_position_embeddings if config.position_embedding_type == "absolute" else 0
    embeddings = [rows * hidden for rows in (words, positions, config.type_vocab_size) if rows] + [hidden, hidden]
    embeddings += [hidden, hidden] if config.is_reversible else []  # the LayerNorm of the read-outs
    if num_labels:
        return embeddings + _linear(hidden, hidden) + _linear(hidden, num_labels)  # pooler, classifier
    decoder = [words] if config.tie_word_embeddings else _linear(hidden, words)
    return embeddings + _linear(hidden, hidden) + [hidden, hidden] + decoder
