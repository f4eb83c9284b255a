"""Everything that can be known to be wrong with a run before it starts, reported together."""

from pathlib import Path

from huggingface_hub.errors import StrictDataclassError

from data_pipeline import DataError, TokenStream, world_problems
from modeling import AcnConfig

from .checkpoint import Checkpoint, Progress, newest_complete
from .config import PretrainConfig
from .errors import PretrainError


def check_run(config: PretrainConfig, world_size: int) -> None:
    """Raise one `PretrainError` with every problem of the run, each naming the field and the mend.

    Touches nothing: it reads the prepared corpus's manifest and the run's newest checkpoint.
    """
    found = config.problems() + _output_problems(Path(config.output))
    if not config.problems():
        found += _batch_problems(config, world_size)
        found += _data_problems(config, world_size)
    if found:
        raise PretrainError("\n".join(found))


def _batch_problems(config: PretrainConfig, world_size: int) -> list[str]:
    share, rest = divmod(config.global_batch_size, world_size)
    if rest == 0 and share % config.micro_batch_size:
        return [
            f"micro_batch_size={config.micro_batch_size} does not divide one rank's share of the global batch "
            f"({config.global_batch_size} blocks / {world_size} ranks = {share}): change one of them"
        ]
    return []


def _data_problems(config: PretrainConfig, world_size: int) -> list[str]:
    try:
        stream = TokenStream(config.data, config.stream, config.masking)
    except DataError as error:
        return [str(error)]
    found = world_problems(stream.lanes, world_size, config.global_batch_size)
    longest = config.model.max_position_embeddings
    if stream.seq_length > longest:
        found.append(f"model.max_position_embeddings={longest} is below the corpus's seq_length {stream.seq_length}")
    progress = first_progress(config, stream, world_size)
    try:
        AcnConfig(**progress.model)
    except StrictDataclassError as error:  # the cause names the field
        return [*found, f"model: {error.__cause__ or error}"]
    resumed = newest_complete(Path(config.output))
    return found + (_resume_problems(resumed, progress) if resumed else [])


def _output_problems(output: Path) -> list[str]:
    if not output.exists() or (output / "config.yaml").exists() or (output.is_dir() and not any(output.iterdir())):
        return []
    return [f"output={output} exists and is not a run of `acn pretrain`: choose another folder or remove it"]


def first_progress(config: PretrainConfig, stream: TokenStream, world_size: int) -> Progress:
    """The progress of a run that has not begun."""
    return Progress(
        step=0,
        samples=0,
        world_size=world_size,
        zero_stage=config.zero_stage,
        precision=config.precision,
        model=config.model.acn_fields(stream.manifest),
        order=stream.identity(),
    )


def _resume_problems(checkpoint: Checkpoint, progress: Progress) -> list[str]:
    saved = checkpoint.progress
    mend = "use the same as before, or another output folder"
    found = [
        f"{name}={getattr(progress, name)}, but {checkpoint.path} was written with {getattr(saved, name)}: {mend}"
        for name in ("world_size", "zero_stage", "precision")
        if getattr(saved, name) != getattr(progress, name)
    ]
    for part in ("model", "order"):
        before, now = getattr(saved, part), getattr(progress, part)
        found += [
            f"{part}: {key}={now.get(key)}, but {checkpoint.path} was written with {before.get(key)}: {mend}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
    return found
