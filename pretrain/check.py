"""Everything that can be known to be wrong with a run before it starts, reported together."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import is_flash_attn_2_available

from data_pipeline import DataError, OutputLock, Problem, path_inside
from data_pipeline.stream import TokenStream, world_problems
from modeling import AcnConfig, precision_refusal, resolve_precision

from .checkpoints import (
    Checkpoint,
    Origin,
    Progress,
    StartingModel,
    damaged_problem,
    differences,
    find_origin,
    inherited_fields,
    marked_folders,
    newest_complete,
    size_problems,
    with_sizes,
)
from .config import PretrainConfig, data_problems, plain_problems
from .distil import carry_problems, find_teacher, teacher_problems
from .engine import gather_objects
from .errors import PretrainError
from .optim import CONVERTIBLE
from .step import what_waits

Config = TypeVar("Config", bound=PretrainConfig)

PATIENCE_SECONDS = 90.0
"""How long a new job waits for the one before it in its folder, which may still be writing its last checkpoint."""


def check_run(config: Config, world_size: int) -> Config:
    """`config` with the sizes of the model that it starts from, if it starts from one.

    Writes nothing: it reads the prepared corpus's manifest and the run's newest checkpoint. A model of the Hub is
    downloaded.

    Raises:
        PretrainError: with every problem of the run, each naming the field and the fix.
    """
    found = size_problems(config)
    config = with_sizes(config)
    found += plain_problems(config) + _kernel_problems(config)
    offloaded = config.offload.optimizer != "none"
    found += _folder_problems(Path(config.output))
    found += config.optim.sharding_problems(config.zero_stage, offloaded, resolve_precision(config.precision))
    if not config.problems():
        found += _batch_problems(config, world_size)
        if not data_problems(config.data):
            found += _data_problems(config, world_size)
    if found:
        raise PretrainError(*found)
    return config


def hold_folder(run: Path, say: Callable[[str], None]) -> OutputLock | None:
    """Hold the run's folder, on rank 0. A collective.

    Raises:
        DataError: on all ranks; another job holds it for longer than its last checkpoint can take, or it cannot be
            written.
    """
    lock, problem = None, None
    if dist.get_rank() == 0:
        try:
            lock = OutputLock(run, patience=PATIENCE_SECONDS, say=say)
        except DataError as error:
            problem = error
    problem = gather_objects(problem)[0]
    if problem is not None:
        raise problem
    return lock


def _folder_problems(run: Path) -> list[Problem]:
    """Links out of the run's folder, and pipes, where a run goes on writing: it may be of somebody else's making."""
    found = []
    for name in ("metrics.jsonl", ".lock", "samples", *(f"samples/{path.name}" for path in run.glob("samples/*"))):
        try:
            path_inside(run, name)
        except DataError as error:
            found += error.problems
    return found


def _kernel_problems(config: PretrainConfig) -> list[Problem]:
    """Why this machine cannot run the precision, the attention or the compiled layers that are asked for."""
    found = []
    if (refusal := precision_refusal(config.precision)) is not None:
        found.append(Problem("precision", config.precision, f": {refusal}", "use bf16 or fp32"))
    if config.attention == "flash_attention_2":
        if not is_flash_attn_2_available():
            found.append(
                Problem(
                    "attention",
                    "flash_attention_2",
                    "needs a GPU and the package flash-attn",
                    "install it, or use auto",
                )
            )
        if resolve_precision(config.precision) == "fp32":
            found.append(
                Problem(
                    "attention", "flash_attention_2", "computes in half precision", "set precision bf16, or use auto"
                )
            )
    if not torch.cuda.is_available():
        if config.attention == "flex_attention":
            found.append(Problem("attention", "flex_attention", "cannot train on a CPU", "use auto"))
        if config.compile is True and config.optim.name == "muon":
            found.append(
                Problem("compile", "true", "does not go with optim.name=muon on a CPU", "leave one of them out")
            )
        if config.compile == "graphs":
            found.append(Problem("compile", "graphs", "needs a GPU: its graphs are CUDA's", "use auto"))
    if config.run_ahead is True and (waiting := what_waits(config)):
        wrong = f"does not go with {', '.join(waiting)}, for which the host reads back what every step brought forth"
        found.append(Problem("run_ahead", "true", wrong, "use auto, or change those"))
    return found


def _batch_problems(config: PretrainConfig, world_size: int) -> list[Problem]:
    found = []
    micro_batch = config.micro_batch(world_size)
    for name, blocks in (
        ("global", config.global_batch_size),
        ("first (batch_warmup.start)", config.batch_warmup.start),
    ):
        share, rest = divmod(blocks or 0, world_size)
        if rest == 0 and micro_batch and share % micro_batch:
            found.append(
                Problem(
                    "micro_batch_size",
                    micro_batch,
                    f"does not divide one rank's share of the {name} batch ({blocks} blocks / {world_size} ranks "
                    f"= {share})",
                    "change one of them",
                )
            )
    start = config.batch_warmup.start or 0
    if start % world_size:
        found.append(
            Problem("batch_warmup.start", start, f"is not a multiple of the {world_size} ranks", "change one of them")
        )
    return found


def _data_problems(config: PretrainConfig, world_size: int) -> list[Problem]:
    try:
        stream = TokenStream(config.data, config.stream, config.masking)
    except DataError as error:
        return error.problems
    found = world_problems(stream.lanes, world_size, config.global_batch_size)
    longest = config.model.max_position_embeddings
    if stream.seq_length > longest:
        found.append(
            Problem("model.max_position_embeddings", longest, f"is below the corpus's seq_length {stream.seq_length}")
        )
    try:
        progress = first_progress(config, stream, world_size)
    except (PretrainError, DataError):  # of the model that it starts from: `size_problems` says so
        return found
    try:
        model = AcnConfig(**progress.model)
    except StrictDataclassError as error:  # the cause names the field
        return [*found, Problem("model", wrong=f": {error.__cause__ or error}")]
    run = Path(config.output)
    resumed = newest_complete(run)
    found += _anneal_problems(config, stream)
    if config.teacher.model is not None or resumed is not None:  # else it is what the run starts from
        found += _teacher_problems(config, stream, model)
    if resumed is None and config.checkpoint.damaged == "stop" and marked_folders(run):
        found.append(damaged_problem(run))
    return found + (_resume_problems(resumed, progress) if resumed else _start_problems(config, stream, progress))


def _start_problems(config: PretrainConfig, stream: TokenStream, progress: Progress) -> list[Problem]:
    """What is wrong with the beginning of a new run."""
    steps = config.plan(stream.blocks, stream.seq_length, branch=None).steps
    if steps == 0:
        name = "tokens" if config.tokens is not None else "epochs"
        return [
            Problem(
                name,
                f"{getattr(config, name):g}",
                "is less than the first global batch",
                "allow more, or make it smaller",
            )
        ]
    try:
        origin = find_origin(config.branch_from, config.init_from, config.trust_checkpoint)
    except (PretrainError, DataError) as error:
        return error.problems
    if origin is None:
        return []
    found = origin.problems(progress) + (_carry_problems(origin, progress) if config.carry_shortcuts else [])
    if isinstance(origin, Origin) and origin.branch:
        saved = origin.checkpoint.progress
        if steps is not None and steps <= saved.step:
            found.append(
                Problem(
                    "",
                    wrong=f"the budget of {steps} steps in all is used up at {origin.checkpoint.path}",
                    fix="allow more",
                )
            )
        found += _state_problems(origin.checkpoint, progress)
    return found


def _carry_problems(origin: Origin | StartingModel, progress: Progress) -> list[Problem]:
    """Why the layers of the run's model cannot carry the shortcuts of what it starts from."""
    of_model = origin.config if isinstance(origin, StartingModel) else AcnConfig(**origin.checkpoint.progress.model)
    source = of_model.connectivity
    found = carry_problems(AcnConfig(**progress.model))
    if source != "residual":
        wrong = f": what init_from names has connectivity {source}, and no shortcuts to carry"
        found.append(Problem("carry_shortcuts", wrong=wrong, fix="leave it out"))
    return found


def _anneal_problems(config: PretrainConfig, stream: TokenStream) -> list[Problem]:
    """An annealing that does not end before the run does."""
    plan = config.plan(stream.blocks, stream.seq_length, branch=None)
    if not plan.steps or plan.shortcut_scale(plan.steps - 1, 0.0) == 0:
        return []
    wrong = f"of {plan.steps} steps leaves none at scale 0, as the model that is left must be trained"
    return [Problem("anneal.share", config.anneal.share, wrong, "make it smaller")]


def _teacher_problems(config: PretrainConfig, stream: TokenStream, model: AcnConfig) -> list[Problem]:
    """Why the run's teacher, if it has one, cannot teach this model on this corpus."""
    if (name := config.teacher.source(config.init_from)) is None:
        return []
    try:
        source = find_teacher(name, config.trust_checkpoint)
    except (PretrainError, DataError) as error:
        return error.problems
    return teacher_problems(source, model, stream.manifest.tokenizer, stream.seq_length)


def first_progress(config: PretrainConfig, stream: TokenStream, world_size: int) -> Progress:
    """The progress of a run that has not begun."""
    return Progress(
        step=0,
        samples=0,
        world_size=world_size,
        zero_stage=config.zero_stage,
        precision=resolve_precision(config.precision),
        model=config.model.acn_fields(stream.manifest) | inherited_fields(config),
        order=stream.identity(),
        optimizer=config.optim.name,
        taught=config.teacher.taught,
    )


def _resume_problems(checkpoint: Checkpoint, progress: Progress) -> list[Problem]:
    saved, fix = checkpoint.progress, "use the same as before, or another output folder"
    found = differences("model", saved.model, progress.model, f"{checkpoint.path}", fix)
    found += differences("order", saved.order, progress.order, f"{checkpoint.path}", fix)
    return found + _state_problems(checkpoint, progress)


def _state_problems(checkpoint: Checkpoint, progress: Progress) -> list[Problem]:
    """Why the optimizer states of `checkpoint` cannot be those of a run with `progress`."""
    saved = checkpoint.progress
    if saved.taught != progress.taught:
        held = "has" if saved.taught else "lacks"
        wrong = f", but {checkpoint.path} {held} the states of the projection that only a run with a teacher has"
        return [Problem("teacher.weight", 1 if progress.taught else 0, wrong, "use the same, or start with init_from")]
    if saved.optimizer != progress.optimizer:
        return [
            Problem("optim.name", progress.optimizer, f", but {checkpoint.path} has the states of {saved.optimizer}")
        ]
    sharded = saved.zero_stage or progress.zero_stage
    if saved.optimizer not in CONVERTIBLE and sharded and saved.layout != progress.layout:
        return [
            Problem(
                "optim.name",
                saved.optimizer,
                f": {checkpoint.path} was written by {saved.world_size} rank(s), zero_stage {saved.zero_stage}, "
                f"{saved.precision}, and cannot be converted",
                "use the same",
            )
        ]
    return []
