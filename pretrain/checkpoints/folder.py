"""Checkpoints that are complete or do not count.

RUN/checkpoints/step-0000500/ holds DeepSpeed's files and, written last, COMPLETE: a JSON record of the run's progress
and of every file with its size and sha256. A folder without it, or whose files differ from it, is ignored.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline import DataError, Problem, file_sha256, files_inside, read_record

from ..budget import Branch
from ..errors import PretrainError
from ..health import Health

MARKER = "COMPLETE"
ENGINE_CONFIG = "deepspeed.json"
"""What every run has from its start on: the resolved settings of its engine."""


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
    shortcut_scale: float = 0.0
    """Scale of the annealed shortcuts in the last step; 0: the weights are those of a plain acn."""
    taught: bool = False
    """Whether the checkpoint also holds the projection of a run with a teacher."""
    branch: Branch | None = None
    """Where the run left another one, if it did."""
    optimizer: str = "adamw"
    """Whose states the checkpoint holds (`optim.name`)."""

    @property
    def trained_model(self) -> dict[str, Any]:
        """The fields of the model that computes what was trained: `model`, unless its shortcuts are still annealed.

        Those are a hybrid's, whose scalars all have the last step's scale.
        """
        if not self.shortcut_scale:
            return self.model
        return self.model | {"connectivity": "hybrid", "hybrid_init": self.shortcut_scale}

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
    trusted: bool = False
    """The user vouches for it (`trust_checkpoint`): its files may hold more than data, whose code then runs."""

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
class _File:
    """What COMPLETE says of a file."""

    bytes: int
    sha256: str


@dataclass
class _Marker:
    """The content of COMPLETE."""

    progress: Progress
    files: dict[str, _File]


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


def marked_folders(run: Path) -> list[Path]:
    """The checkpoints of `run` that were complete once, whatever has become of them, in the order of the steps."""
    return [path for path in step_folders(checkpoint_folder(run)) if (path / MARKER).is_file()]


def checkpoint_around(path: Path) -> Path | None:
    """The checkpoint, or the folder of all checkpoints of a run, that `path` is or lies in; None where it does not.

    Whatever is added to a checkpoint makes it one that does not count.
    """
    real = Path(os.path.realpath(path))  # unlike `resolve`, links in a circle are no error here
    for folder in (real, *real.parents):
        run = folder.parent
        is_of_run = folder == checkpoint_folder(run) and ((run / ENGINE_CONFIG).is_file() or marked_folders(run))
        if is_of_run or (folder / MARKER).is_file():
            return folder
    return None


def newest_complete(run: Path) -> Checkpoint | None:
    """The newest complete checkpoint of `run`, or None."""
    return next(complete_checkpoints(run), None)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None when it is incomplete."""
    try:
        return open_checkpoint(path)
    except (PretrainError, OSError):
        return None


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`.

    Raises:
        PretrainError: its marker is missing or damaged, or other files are there than it names, links out of it and
            pipes included.
        OSError: the folder cannot be looked into.
    """
    fix = "take another checkpoint"
    marker = read_record(_Marker, path / MARKER, PretrainError, fix)
    try:
        named, there = {name: file.bytes for name, file in marker.files.items()}, file_sizes(path)
    except DataError as error:
        raise PretrainError(*error.problems) from error
    odd = sorted(name for name in {*named, *there} if named.get(name) != there.get(name))
    if odd:
        wrong = f"is damaged: missing, of another size, or not named by its {MARKER}: {', '.join(odd[:3])}"
        raise PretrainError(Problem(str(path), wrong=wrong, fix=fix))
    return Checkpoint(path, marker.progress, {name: asdict(file) for name, file in marker.files.items()})


def write_marker(path: Path, progress: dict[str, Any], files: dict[str, dict[str, Any]]) -> None:
    """Make the checkpoint at `path` count; everything in `files` (as in `Checkpoint`) must have reached the disk."""
    aside = path / f"{MARKER}.tmp"
    with aside.open("w") as file:
        json.dump({"progress": progress, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path / MARKER)


def file_sizes(path: Path) -> dict[str, int]:
    """The bytes of every file of a checkpoint but its marker, by name below `path`.

    Raises:
        DataError: something in it leads out of it, or is neither file nor folder.
    """
    names = [name for name in files_inside(path) if not name.rpartition("/")[2].startswith(MARKER)]
    return {name: (path / name).stat().st_size for name in names}
