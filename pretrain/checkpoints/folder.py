"""Checkpoints that are complete or do not count.

RUN/checkpoints/step-0000500/ holds DeepSpeed's files and, written last, COMPLETE: a JSON record of the run's progress
and of every file with its size and sha256. A folder without it, or whose files differ from it, is ignored.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist

from data_pipeline import DataError, file_sha256, read_record

from ..budget import Branch
from ..engine import gather_objects
from ..health import Health

MARKER = "COMPLETE"


@dataclass
class Progress:
    """What a run must know to go on, besides the weights and optimizer states DeepSpeed keeps.

    The data state is `samples` alone and the learning rate and random numbers are functions of `step`. The other fields
    tell whether a checkpoint fits the run that wants to continue it, and in what layout its files are.
    """

    step: int
    """Optimizer steps done, those left out for being sick included."""
    samples: int
    """Global samples consumed: the number of the next one."""
    world_size: int
    zero_stage: int
    precision: str
    model: dict[str, Any]
    order: dict[str, Any]
    """What decides which block is sample g: the corpus, the lanes, the window, the seed."""
    applied: int = 0
    """Optimizer steps that moved the weights: Adam's own count."""
    health: Health = field(default_factory=Health)
    seconds: float = 0.0
    """Seconds of training, over all restarts."""
    rate: float = 0.0
    """Learning rate of the last step, which a decay-only branch starts from."""
    branch: Branch | None = None
    """Where the run left another one, if it did."""
    optimizer: str = "adamw"
    """Whose states the checkpoint holds (`optim.name`)."""

    @property
    def layout(self) -> tuple[int, int, str]:
        """What decides how DeepSpeed cuts the states into files."""
        return self.world_size, self.zero_stage, self.precision


@dataclass
class Checkpoint:
    """A checkpoint on disk whose files are all there with the right sizes."""

    path: Path
    progress: Progress
    files: dict[str, dict[str, Any]]
    """By name below `path`: `bytes` and `sha256`."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file["bytes"] for file in self.files.values())

    def damaged_files(self, part: int = 0, parts: int = 1) -> list[str]:
        """Names of the files whose content is not what was written, looking at every `parts`-th file from `part` on."""
        largest_first = sorted(self.files, key=lambda name: -self.files[name]["bytes"])
        return [
            name for name in largest_first[part::parts] if file_sha256(self.path / name) != self.files[name]["sha256"]
        ]


@dataclass
class _Marker:
    """The content of COMPLETE."""

    progress: Progress
    files: dict[str, dict[str, Any]]


def checkpoint_folder(run: Path) -> Path:
    """The folder of a run's checkpoints."""
    return run / "checkpoints"


def step_name(step: int) -> str:
    """The name of what belongs to a step; names sort as the steps do."""
    return f"step-{step:07d}"


def step_of(name: str) -> int:
    """The inverse of `step_name`."""
    return int(name.removeprefix("step-"))


def step_folders(folder: Path) -> list[Path]:
    """What lies in `folder` under a `step_name`, in the order of the steps."""
    return sorted(folder.glob("step-*"))


def complete_checkpoints(run: Path) -> Iterator[Checkpoint]:
    """The checkpoints of `run` whose marker names exactly the files that are there, newest first."""
    for path in reversed(step_folders(checkpoint_folder(run))):
        checkpoint = read_checkpoint(path)
        if checkpoint is not None:
            yield checkpoint


def newest_complete(run: Path) -> Checkpoint | None:
    """The newest complete checkpoint of `run`, or None."""
    return next(complete_checkpoints(run), None)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None when it is incomplete."""
    try:
        marker = read_record(_Marker, path / MARKER)
        if {name: file["bytes"] for name, file in marker.files.items()} != file_sizes(path):
            return None
        return Checkpoint(path, marker.progress, marker.files)
    except (DataError, OSError, KeyError):
        return None


def newest_sound(run: Path, say: Callable[[str], None], at_most: int | None = None) -> Checkpoint | None:
    """The newest complete checkpoint of `run` whose files hold what was written into them, or None.

    A collective: the ranks share the reading, and all get the same answer. Damaged ones are passed over, loudly.

    Args:
        at_most: consider only those with at most this many steps.
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
        damaged = gather_objects(checkpoint.damaged_files(dist.get_rank(), dist.get_world_size()))
        names = [name for part in damaged for name in part]
        if not names:
            return checkpoint
        say(f"WARNING: {checkpoint.path} is damaged ({', '.join(names)}): the one before it is taken")
    return None


def write_marker(path: Path, progress: dict[str, Any], files: dict[str, dict[str, Any]]) -> None:
    """Make the checkpoint at `path` count; everything in `files` (as in `Checkpoint`) must have reached the disk."""
    aside = path / f"{MARKER}.tmp"
    with aside.open("w") as file:
        json.dump({"progress": progress, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path / MARKER)


def file_sizes(path: Path) -> dict[str, int]:
    """The bytes of every file of a checkpoint but its marker, by name below `path`."""
    files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith(MARKER))
    return {str(file.relative_to(path)): file.stat().st_size for file in sorted(files)}
