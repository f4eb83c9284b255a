"""What a checkpoint must pass before anything in it is used: its files are those that were written, and only data.

DeepSpeed writes pickles, which can run any code when they are loaded, and loads them as such. Here nothing is loaded
but tensors, numbers, texts and containers (torch's `weights_only`), and the few plain classes that DeepSpeed 0.19.8
stores beside them.
"""

import itertools
import os
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from data_pipeline import Problem

from ..engine import gather_objects
from ..errors import PretrainError
from .config import CheckpointConfig
from .folder import MARKER, Checkpoint, checkpoint_folder, complete_checkpoints, marked_folders, step_folders

# classes that hold numbers and do nothing when they are made
_PLAIN_CLASSES = (
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
)
# torch's own switches, which win over what a call of torch.load says, or leaves open
_NEVER_FREELY, _FREELY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Meanwhile every `torch.load` of this process, DeepSpeed's too, reads data only, unless `checkpoint` is trusted.

    Raises:
        PretrainError: a file holds something else, which is named and has not been run.
    """
    switches = (_NEVER_FREELY, _FREELY)
    before = {name: os.environ.pop(name, None) for name in switches}
    os.environ[_FREELY if checkpoint.trusted else _NEVER_FREELY] = "1"
    needed = checkpoint.progress.zero_stage > 0 and not checkpoint.trusted
    classes = [pkgutil.resolve_name(name) for name in _PLAIN_CLASSES] if needed else []
    try:
        with torch.serialization.safe_globals(classes):
            yield
    except Exception as error:  # torch, and DeepSpeed around it, say "this is not data" in several classes
        found = [] if checkpoint.trusted else foreign_problems(checkpoint)
        if not found and isinstance(error, pickle.UnpicklingError):
            found = [_foreign(checkpoint.path, str(error).strip().partition("\n")[0])]
        if found:
            raise PretrainError(*found) from error
        raise
    finally:
        for name in switches:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def foreign_problems(checkpoint: Checkpoint, part: int = 0, parts: int = 1) -> list[Problem]:
    """The files that hold more than data, looking at every `parts`-th one from `part` on. Nothing is loaded."""
    found = []
    for name in sorted(checkpoint.files)[part::parts]:
        path = checkpoint.path / name
        try:
            foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - set(_PLAIN_CLASSES)
        except Exception as error:  # whatever torch's readers say of a file that is none of torch.save
            found.append(_foreign(path, f"it is no file that torch.save writes today: {error!r}"))
            continue
        if foreign:
            found.append(_foreign(path, ", ".join(sorted(foreign))))
    return found


def _foreign(path: Path, what: str) -> Problem:
    return Problem(
        str(path),
        wrong=f"holds more than data ({what}), and loading it could run code of whoever wrote it",
        fix="take a checkpoint of your own, or say --trust_checkpoint if you trust where it comes from",
    )


def diverged(path: Path, found: str) -> PretrainError:
    """What to say of a checkpoint that is of no use."""
    fix = "take an earlier checkpoint, and train on with a lower optim.lr"
    return PretrainError(Problem(str(path), wrong=f"is of a training that diverged: {found}", fix=fix))


def check_sound(checkpoint: Checkpoint) -> None:
    """Raise `PretrainError` unless the files hold what was written into them. Reads all of them."""
    if damaged := checkpoint.damaged_files():
        raise PretrainError(_damaged(checkpoint.path, damaged))


def check_together(checkpoint: Checkpoint) -> None:
    """Raise `PretrainError` unless the files hold what was written, and only data. A collective: the ranks share it."""
    if damaged := _damaged_files(checkpoint):
        raise PretrainError(_damaged(checkpoint.path, damaged))
    _refuse_foreign(checkpoint)


def _damaged(path: Path, names: list[str]) -> Problem:
    return Problem(str(path), wrong=f"is damaged ({', '.join(names)})", fix="take another checkpoint")


def _damaged_files(checkpoint: Checkpoint) -> list[str]:
    shares = gather_objects(checkpoint.damaged_files(dist.get_rank(), dist.get_world_size()))
    return [name for share in shares for name in share]


def _refuse_foreign(checkpoint: Checkpoint) -> None:
    if checkpoint.trusted:
        return
    shares = gather_objects(foreign_problems(checkpoint, dist.get_rank(), dist.get_world_size()))
    if found := [problem for share in shares for problem in share]:
        raise PretrainError(*found)


def newest_sound(
    run: Path, say: Callable[[str], None], at_most: int | None = None, trusted: bool = False
) -> Checkpoint | None:
    """The newest complete checkpoint of `run` whose files hold what was written into them, or None.

    A collective: the ranks share the reading, and all get the same answer. Damaged ones are passed over, loudly.

    Args:
        at_most: consider only those with at most this many steps.
        trusted: the user vouches for what is in them.

    Raises:
        PretrainError: a file of it holds more than data.
    """
    candidates: list[Any] = [None]
    if dist.get_rank() == 0:
        candidates = [
            [item for item in complete_checkpoints(run) if at_most is None or item.progress.step <= at_most],
        ]
        whole = {item.path for item in complete_checkpoints(run)}
        for path in step_folders(checkpoint_folder(run)):
            if path not in whole:
                say(f"WARNING: {path} is incomplete (no {MARKER} marker, or other files than it names): ignored")
    dist.broadcast_object_list(candidates, src=0)
    for checkpoint in candidates[0]:
        names = _damaged_files(checkpoint)
        if not names:
            checkpoint = replace(checkpoint, trusted=trusted)
            _refuse_foreign(checkpoint)
            return checkpoint
        say(f"WARNING: {checkpoint.path} is damaged ({', '.join(names)}): the one before it is taken")
    return None


def start_over(run: Path, config: CheckpointConfig, say: Callable[[str], None]) -> None:
    """A run without a sound checkpoint begins: put damaged ones aside if that was asked for. A collective.

    Raises:
        PretrainError: it had checkpoints, and they are damaged: not to be trained over without being told to.
    """
    problem: Problem | None = None
    if dist.get_rank() == 0 and (marked := marked_folders(run)):
        problem = damaged_problem(run) if config.damaged == "stop" else _put_aside(marked, say)
    if problem := gather_objects(problem)[0]:
        raise PretrainError(problem)


def _put_aside(damaged: list[Path], say: Callable[[str], None]) -> Problem | None:
    """Rename the checkpoints, so that the new ones are not taken for older ones; what stands in the way, if it does."""
    for path in damaged:
        names = (path.with_name(f"damaged-{path.name}" + "+" * often) for often in itertools.count())
        aside = next(name for name in names if not name.exists())
        try:
            path.rename(aside)
        except OSError as error:
            return Problem(str(path), wrong=f"cannot be put aside ({error.strerror})", fix="remove it")
        say(f"WARNING: {path} is damaged and was put aside as {aside.name}: the run starts over")
    return None


def damaged_problem(run: Path) -> Problem:
    """That none of the checkpoints which `run` has is sound."""
    return Problem(
        "output",
        run,
        f"has no checkpoint that is not damaged (the newest is {marked_folders(run)[-1]}), and would start over",
        "put their files back as they were, or say --checkpoint.damaged restart",
    )
