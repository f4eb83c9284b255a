"""The arithmetic of `acn plan`: states exact, activations estimated, time at an assumed utilization."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError

from modeling import AcnConfig, AcnForMaskedLM, forward_flops
from pretrain import PretrainConfig
from pretrain.memory import ModelSize, Precision, activation_bytes, checkpoint_bytes, state_bytes

from ..errors import LaunchError
from .gpus import Gpu, find_gpu

RESERVE = 2e9
"""Bytes of a GPU that are nobody's: CUDA's context, NCCL's buffers, workspaces of the matrix products."""
FILL = 0.9
"""Share of the rest that a plan may use; the allocator loses some to fragmentation, and activations are an estimate."""


@dataclass
class PlanConfig(PretrainConfig):
    """A recipe and a cluster. `data` and `output` may be left out."""

    data: str = ""
    """Folder written by `acn prepare`, if there is one: its vocabulary and sequence length are taken, and its size."""
    output: str = ""
    """Not used: nothing is written."""
    vocab_size: int = 32768
    """Tokens of the vocabulary, where `data` does not say."""
    seq_length: int = 128
    """Tokens of a block, where `data` does not say."""
    nodes: int = 1
    """Machines."""
    gpus: int = 8
    """GPUs of each machine."""
    gpu: str = "H100"
    """Kind of GPU; for one that is not in the table give gpu_memory and gpu_tflops too."""
    gpu_memory: float | None = None
    """Memory of one GPU in GB (1e9 bytes), instead of the table's."""
    gpu_tflops: float | None = None
    """Dense TFLOP/s of one GPU in the run's precision, instead of the table's."""
    mfu: float = 0.4
    """Assumed model FLOPs utilization: the share of the GPUs' peak that the training makes use of."""
    price_per_gpu_hour: float | None = None
    """What one GPU costs per hour, in any currency."""
    find_micro_batch: bool = False
    """Try on the GPU of this machine how large a micro-batch fits, which takes some seconds."""
    json: str | None = None
    """Also write the plan to this file."""

    @property
    def ranks(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus

    @property
    def arithmetic(self) -> Precision:
        """The precision planned for: GPUs that matter here have bf16, which `auto` takes."""
        return "bf16" if self.precision == "auto" else self.precision

    def problems(self) -> list[str]:
        """Every bad value, each with its mend."""
        found = super().problems()
        for name in ("nodes", "gpus", "vocab_size", "seq_length"):
            if getattr(self, name) < 1:
                found.append(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("gpu_memory", "gpu_tflops", "price_per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                found.append(f"{name}={value} must be above 0")
        if not 0 < self.mfu <= 1:
            found.append(f"mfu={self.mfu} must be in (0, 1]")
        if min(self.nodes, self.gpus, self.global_batch_size) > 0 and self.global_batch_size % self.ranks:
            found.append(f"global_batch_size={self.global_batch_size} is not a multiple of the {self.ranks} GPUs")
        return found


@dataclass(frozen=True)
class Layout:
    """One way to place the training on the GPUs, and what each of them then holds, in bytes."""

    stage: int
    checkpointing: bool
    offload: bool
    """Optimizer states in host memory."""
    weights: float
    gradients: float
    optimizer: float
    buffers: float
    activations: float
    fits: bool

    @property
    def total(self) -> float:
        """Everything but the reserve."""
        return self.weights + self.gradients + self.optimizer + self.buffers + self.activations


@dataclass(frozen=True)
class Course:
    """The time and the price of one training."""

    connectivity: str
    tokens: int
    days: float
    gpu_hours: float
    price: float | None


@dataclass(frozen=True)
class RunPlan:
    """All that `acn plan` says."""

    connectivity: str
    parameters: int
    flops_per_token: float
    """Of forward and backward pass together, the decoder of the masked positions included."""
    seq_length: int
    vocab_size: int
    precision: Precision
    ranks: int
    gpu: Gpu
    micro_batch: int
    accumulation: int
    tokens_per_step: int
    steps: int | None
    mfu: float
    tokens_per_second: float
    layouts: list[Layout]
    checkpoint: int
    checkpoints_kept: int
    courses: list[Course]

    @property
    def best(self) -> Layout | None:
        """The layout to take: the lowest stage that fits without further measures, which cost time; None if none fits.

        Stages 1 and 2 move as many bytes as plain data parallelism, stage 3 half as many again (arXiv 1910.02054).
        Stage 0 has nothing for it: it holds more, and sums the micro-batches of bf16 in bf16.
        """
        return next((layout for layout in self.layouts if layout.fits and layout.stage), None)

    def plain(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self) | {"best": None if self.best is None else asdict(self.best)}


def plan_run(config: PlanConfig) -> RunPlan:
    """The plan of a recipe on a cluster.

    Raises:
        LaunchError: every problem of the configuration, each with its mend.
    """
    found = config.problems()
    gpu = find_gpu(config.gpu, config.arithmetic, config.gpu_memory, config.gpu_tflops)
    if isinstance(gpu, str):
        found.append(gpu)
    if found or isinstance(gpu, str):
        raise LaunchError("\n".join(found))
    blocks, seq_length, vocab_size = _corpus(config)
    model = model_config(config, vocab_size, seq_length)
    size = model_size(model)
    targets = config.masking.targets(seq_length)
    # the backward pass costs twice the forward pass
    flops_per_token = 3 * forward_flops(model, seq_length, masked_positions=targets) / seq_length
    micro_batch = config.micro_batch(config.ranks)
    tokens_per_second = config.ranks * gpu.flops * config.mfu / flops_per_token
    steps, tokens = _budget(config, blocks, seq_length, tokens_per_second)
    return RunPlan(
        connectivity=config.model.connectivity,
        parameters=size.parameters,
        flops_per_token=flops_per_token,
        seq_length=seq_length,
        vocab_size=vocab_size,
        precision=config.arithmetic,
        ranks=config.ranks,
        gpu=gpu,
        micro_batch=micro_batch,
        accumulation=config.global_batch_size // config.ranks // micro_batch,
        tokens_per_step=config.global_batch_size * seq_length,
        steps=steps,
        mfu=config.mfu,
        tokens_per_second=tokens_per_second,
        layouts=_layouts(config, model, size, gpu, micro_batch, seq_length, targets),
        checkpoint=checkpoint_bytes(size, config.zero_stage, config.arithmetic),
        checkpoints_kept=config.checkpoint.keep + 1,  # the new one is complete before the oldest goes
        courses=_courses(config, tokens, tokens_per_second),
    )


def _corpus(config: PlanConfig) -> tuple[int | None, int, int]:
    """(blocks of an epoch if known, tokens of a block, vocabulary)."""
    if not config.data:
        return None, config.seq_length, config.vocab_size
    from data_pipeline import TokenStream

    stream = TokenStream(config.data, config.stream, config.masking)
    return stream.blocks, stream.seq_length, stream.manifest.tokenizer.vocab_size


def model_config(config: PlanConfig, vocab_size: int, seq_length: int) -> AcnConfig:
    """The architecture of the recipe for a corpus. Raises LaunchError for one that cannot be."""
    longest = config.model.max_position_embeddings
    if seq_length > longest:
        raise LaunchError(f"model.max_position_embeddings={longest} is below seq_length={seq_length}")
    try:
        return AcnConfig(**asdict(config.model), vocab_size=vocab_size)
    except StrictDataclassError as error:  # the cause names the field
        raise LaunchError(f"model: {error.__cause__ or error}") from error


def model_size(config: AcnConfig) -> ModelSize:
    """Counted on the model itself, which has no memory on torch's meta device."""
    with torch.device("meta"):
        model = AcnForMaskedLM(config)
    return ModelSize.of([p.numel() for p in model.parameters()])


def _layouts(
    config: PlanConfig, model: AcnConfig, size: ModelSize, gpu: Gpu, micro_batch: int, seq_length: int, targets: int
) -> list[Layout]:
    """Every layout, the ones that cost least time first."""
    layouts = []
    for checkpointing, offload in ((False, False), (True, False), (False, True), (True, True)):
        activations = activation_bytes(model, micro_batch, seq_length, targets, config.arithmetic, checkpointing).total
        for stage in (1, 2, 3) if offload else (0, 1, 2, 3):
            states = state_bytes(size, stage, config.arithmetic, config.ranks, overlap=True, offload_optimizer=offload)
            layouts.append(
                Layout(
                    stage=stage,
                    checkpointing=checkpointing,
                    offload=offload,
                    **asdict(states),
                    activations=activations,
                    fits=states.total + activations <= FILL * (gpu.memory - RESERVE),
                )
            )
    return layouts


def _budget(
    config: PlanConfig, blocks: int | None, seq_length: int, tokens_per_second: float
) -> tuple[int | None, int]:
    """(steps, tokens) of the run's budget; a budget of hours has no number of steps of its own."""
    if config.hours is not None:
        return None, int(config.hours * 3600 * tokens_per_second)
    if config.epochs is not None and blocks is None:
        raise LaunchError(
            f"epochs={config.epochs:g}: give --data, the corpus whose epochs they are, or plan in --tokens"
        )
    plan = config.plan(blocks or 0, seq_length, branch=None)
    assert plan.steps is not None, "only a budget of hours has none"
    return plan.steps, plan.samples(plan.steps) * seq_length


def _courses(config: PlanConfig, tokens: int, tokens_per_second: float) -> list[Course]:
    """The run, its twin at the same tokens, and what the paper gives the residual one: half the tokens."""
    ours = config.model.connectivity
    twin: Literal["acn", "residual"] = "acn" if ours == "residual" else "residual"
    half = (
        (f"{twin}, half the tokens", tokens // 2) if twin == "residual" else (f"{twin}, twice the tokens", tokens * 2)
    )
    found = []
    for name, count in ((ours, tokens), (twin, tokens), half):
        hours = count / tokens_per_second / 3600 * config.ranks
        price = None if config.price_per_gpu_hour is None else hours * config.price_per_gpu_hour
        found.append(Course(name, count, hours / config.ranks / 24, hours, price))
    return found
