"""What a new run starts from: nothing, a model, the weights of another run, or all of another run's state."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem
from modeling import AcnForMaskedLM

from ..config import PretrainConfig
from ..errors import PretrainError
from .export import find_checkpoint, load_weights
from .folder import Checkpoint, Progress
from .soundness import check_together, newest_sound, start_over
from .starting_model import StartingModel, find_starting_model, starts_from_model


@dataclass
class Origin:
    """The checkpoint a new run starts from, and how much of it is taken over."""

    checkpoint: Checkpoint
    branch: bool
    """True: weights, optimizer states, step and sample counter. False: the weights alone."""

    def problems(self, progress: Progress) -> list[Problem]:
        """Why a run that would begin with `progress` cannot start from here, each with its fix.

        Weights go into the same architecture, on a corpus of the same vocabulary; everything else needs the same corpus
        in the same order. Weights of a residual model also begin one without its shortcuts, as a BERT's do.
        """
        saved, field = self.checkpoint.progress, "branch_from" if self.branch else "init_from"
        path, fix = str(self.checkpoint.path), "use the same"
        where = f"{field} {path}"
        theirs = saved.model
        ours = progress.model["connectivity"]
        if not self.branch and theirs["connectivity"] == "residual" and ours in ("acn", "feedforward"):
            theirs = theirs | {"connectivity": ours}
        found = differences("model", theirs, progress.model, where, fix)
        if self.branch:
            found += differences("order", saved.order, progress.order, where, fix)
            if saved.rate == 0:
                found.append(Problem(field, wrong=f"{path} has made no step", fix="nothing to branch from"))
        elif saved.order["tokenizer"] != progress.order["tokenizer"]:
            found.append(
                Problem(
                    field,
                    wrong=f"{path} was trained with another tokenizer than that of `data`",
                    fix="prepare the corpus with `acn prepare --tokenizer` and the first corpus's tokenizer folder",
                )
            )
        return found

    def give_weights(self, model: AcnForMaskedLM) -> str:
        """Begin `model` with the weights here, unless the run branches off and loads all of the state. A collective.

        Returns:
            Where they are from.

        Raises:
            PretrainError: a file of the checkpoint is damaged or holds more than data, or a weight is not finite.
        """
        check_together(self.checkpoint)
        if not self.branch:
            load_weights(model, self.checkpoint)
        return str(self.checkpoint.path)


def find_start(
    config: PretrainConfig, say: Callable[[str], None]
) -> tuple[Checkpoint | None, Origin | StartingModel | None]:
    """The sound checkpoint that a run goes on from, or what a new one starts from; at most one. A collective.

    Raises:
        PretrainError: none of the checkpoints that the run has is sound, or there is none where it is to start from.
    """
    run = Path(config.output)
    resumed = newest_sound(run, say, trusted=config.trust_checkpoint)
    if resumed is not None:
        return resumed, None
    start_over(run, config.checkpoint, say)
    return None, find_origin(config.branch_from, config.init_from, config.trust_checkpoint)


def find_origin(branch_from: str | None, init_from: str | None, trusted: bool) -> Origin | StartingModel | None:
    """The origin that these fields of the configuration ask for, at most one of them set.

    Args:
        trusted: the user vouches for what is in its files (`trust_checkpoint`).

    Raises:
        PretrainError: there is neither a complete checkpoint nor a model there.
        DataError: it is a model of the Hub, and cannot be had.
    """
    source = branch_from or init_from
    if source is None:
        return None
    if branch_from is None and starts_from_model(init_from):
        return find_starting_model(source)
    try:
        return Origin(find_checkpoint(Path(source), trusted), branch=branch_from is not None)
    except PretrainError as error:
        raise PretrainError(f"{'branch_from' if branch_from else 'init_from'}: {error}") from None


def differences(part: str, before: dict, now: dict, where: str, fix: str) -> list[Problem]:
    """The values in which `now` is not what the checkpoint `where` was written with."""
    return [
        Problem(part, wrong=f": {key}={now.get(key)}, but {where} was written with {before.get(key)}", fix=fix)
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
