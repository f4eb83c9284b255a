"""The arithmetic of `acn plan`: states exact, activations estimated, time by a model at an assumed utilization."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from data_pipeline import DataError, Problem
from modeling import AnyConfig, Architecture, recomputed_flops, tensor_sizes
from pretrain import PretrainConfig, PretrainError
from pretrain.distil import training_flops

from ...errors import LaunchError
from .config import PlanConfig, Precision
from .gpus import Gpu, find_gpu
from .memory import ModelSize, activation_bytes, checkpoint_bytes, state_bytes, teacher_bytes
from .step_time import Network, StepTime, model_step_time
from .traffic import step_traffic

RESERVE = 2e9
"""Bytes of a GPU that are nobody's: CUDA's context, NCCL's buffers, workspaces of the matrix products."""
FILL = 0.9
"""Share of the rest that a plan may use; the allocator loses some to fragmentation, and activations are an estimate."""
OTHER_SIZES = tuple(2**power for power in range(3, 11))
"""Numbers of GPUs, 8 to 1,024, whose step times are planned beside those of the cluster asked for."""


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
    teacher: float = 0.0
    """Weights of the run's teacher."""

    @property
    def total(self) -> float:
        """Everything but the reserve."""
        return self.weights + self.gradients + self.optimizer + self.buffers + self.activations + self.teacher


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
    recomputed_flops_per_token: float
    """Beside those, of what a reversible model computes a second time; times count it, MFU does not."""
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
    stage: int
    """ZeRO stage that times are given for: that of the best layout, or the recipe's where none fits."""
    step_time: StepTime
    """On the cluster asked for."""
    other_sizes: list[StepTime]
    """On clusters of the same machines with `OTHER_SIZES` GPUs, as far as these divide the global batch."""
    layouts: list[Layout]
    checkpoint: int
    checkpoints_kept: int
    courses: list[Course]

    @property
    def best(self) -> Layout | None:
        """The layout to take; None if none fits."""
        return best_layout(self.layouts)

    @property
    def tokens_per_second(self) -> float:
        """Of the cluster asked for."""
        return self.step_time.tokens_per_second

    def plain(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self) | {
            "best": None if self.best is None else asdict(self.best),
            "tokens_per_second": self.tokens_per_second,
            "step_time": _plain(self.step_time),
            "other_sizes": [_plain(time) for time in self.other_sizes],
        }


def _plain(time: StepTime) -> dict[str, Any]:
    figures = ("seconds", "tokens_per_second", "efficiency")
    return asdict(time) | {name: getattr(time, name) for name in figures}


def best_layout(layouts: list[Layout]) -> Layout | None:
    """The lowest stage that fits without further measures, which cost time; None if none fits.

    Stage 0 sends the least (`traffic`), but it holds more, and sums the micro-batches of bf16 in bf16.
    """
    return next((layout for layout in layouts if layout.fits and layout.stage), None)


def plan_run(config: PlanConfig) -> RunPlan:
    """The plan of a recipe on a cluster.

    Raises:
        LaunchError: every problem of the configuration, each with its fix.
    """
    found = config.problems()
    given = (config.gpu_memory, config.gpu_tflops, config.node_bandwidth, config.network_bandwidth)
    gpu = find_gpu(config.gpu, config.arithmetic, *given)
    if isinstance(gpu, Problem):
        found.append(gpu)
    if found or isinstance(gpu, Problem):
        raise LaunchError(*found)
    config = _with_sizes(config)
    blocks, seq_length, vocab_size = _corpus(config)
    longest = config.recipe.model.max_position_embeddings
    if seq_length > longest:
        raise LaunchError(f"model.max_position_embeddings={longest} is below seq_length={seq_length}")
    model, teacher = architecture(config.recipe, vocab_size), _teacher(config)
    width = model.hidden_size
    projection = [width * width, width, width, width] if teacher is not None else []
    size = ModelSize.of([*tensor_sizes(model), *projection])
    targets = config.recipe.masking.targets(seq_length)
    flops = training_flops(model, seq_length, targets, teacher, config.recipe.teacher.masked, config.recipe.supervision)
    flops_per_token = flops / seq_length
    again = (
        recomputed_flops(model, seq_length, limited=teacher is None and config.recipe.supervision.kind == "none")
        / seq_length
    )
    micro_batch = config.recipe.micro_batch(config.ranks)
    layouts = _layouts(config, model, teacher, size, gpu, micro_batch, seq_length, targets)
    best = best_layout(layouts)
    stage = config.recipe.zero_stage if best is None else best.stage
    times = {
        ranks: _step_time(config, size, gpu, stage, ranks, seq_length, flops_per_token + again)
        for ranks in {config.ranks, *other_sizes(config)}
    }
    time = times.pop(config.ranks)
    steps, tokens = _budget(config, blocks, seq_length, time.tokens_per_second)
    return RunPlan(
        connectivity=config.recipe.model.connectivity,
        parameters=size.parameters,
        flops_per_token=flops_per_token,
        recomputed_flops_per_token=again,
        seq_length=seq_length,
        vocab_size=vocab_size,
        precision=config.arithmetic,
        ranks=config.ranks,
        gpu=gpu,
        micro_batch=micro_batch,
        accumulation=config.recipe.global_batch_size // config.ranks // micro_batch,
        tokens_per_step=config.recipe.global_batch_size * seq_length,
        steps=steps,
        mfu=config.mfu,
        stage=stage,
        step_time=time,
        other_sizes=[times[ranks] for ranks in sorted(times)],
        layouts=layouts,
        checkpoint=checkpoint_bytes(size, config.recipe.zero_stage, config.arithmetic),
        checkpoints_kept=config.recipe.checkpoint.keep + 1,  # the new one is complete before the oldest goes
        courses=_courses(config, tokens, time.tokens_per_second),
    )


def _with_sizes(config: PlanConfig) -> PlanConfig:
    """`config` with the sizes of the model that its recipe starts from, if it starts from one."""
    if config.recipe.init_from is None:
        return config
    from pretrain.checkpoints import size_problems, with_sizes  # here, because it needs torch

    if found := size_problems(config.recipe):
        raise LaunchError(*found)
    return replace(config, recipe=with_sizes(config.recipe))


def _corpus(config: PlanConfig) -> tuple[int | None, int, int]:
    """(blocks of an epoch if known, tokens of a block, vocabulary)."""
    if not config.recipe.data:
        return None, config.seq_length, config.vocab_size
    from data_pipeline.stream import TokenStream

    stream = TokenStream(config.recipe.data, config.recipe.stream, config.recipe.masking)
    return stream.blocks, stream.seq_length, stream.manifest.tokenizer.vocab_size


def architecture(recipe: PretrainConfig, vocab_size: int) -> Architecture:
    """What the cost of a recipe's model depends on, for a corpus of so many words.

    Args:
        recipe: with the sizes of the model that it starts from, if it starts from one (`with_sizes`).
    """
    given = asdict(recipe.model) | {"vocab_size": vocab_size}
    if recipe.init_from is not None:
        from pretrain.checkpoints import inherited_fields  # here, because it needs torch

        given |= inherited_fields(recipe)
    return Architecture(**{field.name: given[field.name] for field in fields(Architecture) if field.name in given})


def _teacher(config: PlanConfig) -> AnyConfig | None:
    """The architecture of the recipe's teacher, if it has one. Raises LaunchError where it is not there."""
    name = config.recipe.teacher.source(config.recipe.init_from)
    if name is None:
        return None
    from pretrain.distil import find_teacher  # here, because it needs torch

    try:
        return find_teacher(name).config
    except (PretrainError, DataError) as error:
        raise LaunchError(*error.problems) from error


def other_sizes(config: PlanConfig) -> list[int]:
    """Those of `OTHER_SIZES` that are whole machines, or a part of one, and divide the global batch."""
    whole = [ranks for ranks in OTHER_SIZES if ranks < config.gpus or ranks % config.gpus == 0]
    return [ranks for ranks in whole if config.recipe.global_batch_size % ranks == 0]


def _step_time(
    config: PlanConfig, size: ModelSize, gpu: Gpu, stage: int, ranks: int, seq_length: int, flops_per_token: float
) -> StepTime:
    """A step of the recipe's global batch on so many of its GPUs."""
    share, micro_batch = config.recipe.global_batch_size // ranks, config.recipe.micro_batch(ranks)
    accumulation = max(1, share // micro_batch)
    return model_step_time(
        step_traffic(size, stage, config.arithmetic, accumulation),
        Network(config.gpus, gpu.node_bandwidth, gpu.network_bandwidth),
        ranks=ranks,
        micro_batch=micro_batch,
        accumulation=accumulation,
        tokens=config.recipe.global_batch_size * seq_length,
        rank_seconds=share * seq_length * flops_per_token / (gpu.flops * config.mfu),
    )


def _layouts(
    config: PlanConfig,
    model: Architecture,
    teacher: AnyConfig | None,
    size: ModelSize,
    gpu: Gpu,
    micro_batch: int,
    seq_length: int,
    targets: int,
) -> list[Layout]:
    """Every layout, the ones that cost least time first."""
    layouts = []
    beside = 0 if teacher is None else teacher_bytes(teacher, config.arithmetic)
    learning = teacher is not None, config.recipe.teacher.masked, config.recipe.supervision
    for checkpointing, offload in ((False, False), (True, False), (False, True), (True, True)):
        if checkpointing and model.is_reversible:  # which keeps less already
            continue
        activations = activation_bytes(
            model, micro_batch, seq_length, targets, config.arithmetic, checkpointing, *learning
        ).total
        for stage in (1, 2, 3) if offload else (0, 1, 2, 3):
            states = state_bytes(size, stage, config.arithmetic, config.ranks, overlap=True, offload_optimizer=offload)
            layouts.append(
                Layout(
                    stage=stage,
                    checkpointing=checkpointing,
                    offload=offload,
                    **asdict(states),
                    activations=activations,
                    fits=states.total + activations + beside <= FILL * (gpu.memory - RESERVE),
                    teacher=beside,
                )
            )
    return layouts


def _budget(
    config: PlanConfig, blocks: int | None, seq_length: int, tokens_per_second: float
) -> tuple[int | None, int]:
    """(steps, tokens) of the run's budget; a budget of hours has no number of steps of its own."""
    if config.recipe.hours is not None:
        return None, int(config.recipe.hours * 3600 * tokens_per_second)
    if config.recipe.epochs is not None and blocks is None:
        raise LaunchError(
            f"epochs={config.recipe.epochs:g}: give --data, the corpus whose epochs they are, or plan in tokens"
        )
    plan = config.recipe.plan(blocks or 0, seq_length, branch=None)
    assert plan.steps is not None, "only a budget of hours has none"
    return plan.steps, plan.samples(plan.steps) * seq_length


def _courses(config: PlanConfig, tokens: int, tokens_per_second: float) -> list[Course]:
    """The run, its twin at the same tokens, and what the paper gives the residual one: half the tokens.

    A reversible run is alone: the twins' tokens cost less.
    """
    ours = config.recipe.model.connectivity
    twin: Literal["acn", "residual"] = "acn" if ours == "residual" else "residual"
    half = (
        (f"{twin}, half the tokens", tokens // 2) if twin == "residual" else (f"{twin}, twice the tokens", tokens * 2)
    )
    found = []
    for name, count in ((ours, tokens), *(() if ours == "reversible" else ((twin, tokens), half))):
        hours = count / tokens_per_second / 3600 * config.ranks
        price = None if config.price_per_gpu_hour is None else hours * config.price_per_gpu_hour
        found.append(Course(name, count, hours / config.ranks / 24, hours, price))
    return found
