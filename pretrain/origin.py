"""What a new run starts from: nothing, the weights of another run, or all of another run's state."""

from dataclasses import dataclass
from pathlib import Path

from .checkpoint import Checkpoint, Progress, newest_complete, read
from .errors import PretrainError


@dataclass
class Origin:
    """The checkpoint a new run starts from, and how much of it is taken over."""

    checkpoint: Checkpoint
    branch: bool
    """True: weights, optimizer states, step and sample counter. False: the weights alone."""

    def problems(self, progress: Progress) -> list[str]:
        """Why a run that would begin with `progress` cannot start from here, each with its mend.

        Weights go into the same architecture, on a corpus of the same vocabulary; everything else needs the same corpus
        in the same order.
        """
        saved, field = self.checkpoint.progress, "branch_from" if self.branch else "init_from"
        where, mend = f"{field} {self.checkpoint.path}", "use the same"
        found = differences("model", saved.model, progress.model, where, mend)
        if self.branch:
            found += differences("order", saved.order, progress.order, where, mend)
            if saved.rate == 0:
                found.append(f"{where} has made no step: nothing to branch from")
        elif saved.order["tokenizer"] != progress.order["tokenizer"]:
            found.append(
                f"{where} was trained with another tokenizer than that of `data`: prepare the "
                "corpus with `acn prepare --tokenizer` and the first corpus's tokenizer folder"
            )
        return found


def find_origin(branch_from: str | None, init_from: str | None) -> Origin | None:
    """The origin that these fields of the configuration ask for, at most one of them set.

    Raises:
        PretrainError: there is no complete checkpoint there.
    """
    source = branch_from or init_from
    if source is None:
        return None
    checkpoint = read(Path(source)) or newest_complete(Path(source))
    if checkpoint is None:
        field = "branch_from" if branch_from else "init_from"
        raise PretrainError(f"{field}={source} is neither a run nor a complete checkpoint of one")
    return Origin(checkpoint, branch=branch_from is not None)


def differences(part: str, before: dict, now: dict, where: str, mend: str) -> list[str]:
    """The values in which `now` is not what the checkpoint `where` was written with."""
    return [
        f"{part}: {key}={now.get(key)}, but {where} was written with {before.get(key)}: {mend}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
