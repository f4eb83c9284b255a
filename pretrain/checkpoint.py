"""Checkpoints that are complete or do not count.

RUN/checkpoints/step-0000500/ holds DeepSpeed's files and, written last, COMPLETE: a JSON record of the run's progress
and of every file with its size. A folder without it, or whose files differ from it, is ignored.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

MARKER = "COMPLETE"


@dataclass
class CheckpointConfig:
    """When to save and what to keep."""

    every: int = 500
    """Steps between two checkpoints; stopping and finishing always write one. 0: only then."""
    keep: int = 2
    """Complete checkpoints to keep; older ones are deleted."""

    def problems(self) -> list[str]:
        """Every bad value, each with its mend."""
        found = []
        if self.every < 0:
            found.append(f"checkpoint.every={self.every} must not be negative")
        if self.keep < 1:
            found.append(f"checkpoint.keep={self.keep} must be at least 1")
        return found


@dataclass
class Progress:
    """What a run must know to go on, besides the weights and optimizer states DeepSpeed keeps.

    The data state is `samples` alone and the learning rate and random numbers are functions of `step`. The other fields
    tell whether a checkpoint fits the run that wants to continue it.
    """

    step: int
    """Optimizer steps done."""
    samples: int
    """Global samples consumed: the number of the next one."""
    world_size: int
    zero_stage: int
    precision: str
    model: dict[str, Any]
    order: dict[str, Any]
    """What decides which block is sample g: the corpus, the lanes, the window, the seed."""


@dataclass
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    progress: Progress


def checkpoints(run: Path) -> Path:
    """The folder of a run's checkpoints."""
    return run / "checkpoints"


def newest_complete(run: Path) -> Checkpoint | None:
    """The newest checkpoint of `run` whose marker names exactly the files that are there, or None."""
    for path in sorted(checkpoints(run).glob("step-*"), reverse=True):
        checkpoint = read(path)
        if checkpoint is not None:
            return checkpoint
    return None


def read(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None when it is incomplete."""
    try:
        marker = json.loads((path / MARKER).read_text())
        if marker["files"] != _file_sizes(path):
            return None
        return Checkpoint(path, Progress(**marker["progress"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(engine: Any, run: Path, progress: Progress, keep: int) -> Path:
    """Write a checkpoint of `engine` and delete all but the newest `keep`. A collective: every rank calls it."""
    path = checkpoints(run) / f"step-{progress.step:07d}"
    if dist.get_rank() == 0:
        shutil.rmtree(path, ignore_errors=True)  # what a crash left here
        path.mkdir(parents=True)
    dist.barrier()
    engine.save_checkpoint(str(path.parent), tag=path.name, client_state={}, save_latest=False)
    dist.barrier()
    if dist.get_rank() == 0:
        marker = {"progress": asdict(progress), "files": _file_sizes(path)}
        aside = path / f"{MARKER}.tmp"
        aside.write_text(json.dumps(marker, indent=1))
        os.replace(aside, path / MARKER)
        _prune(path.parent, keep)
    dist.barrier()
    return path


def load(engine: Any, checkpoint: Checkpoint) -> None:
    """Restore weights and optimizer states of the same world size and ZeRO stage."""
    loaded, _ = engine.load_checkpoint(str(checkpoint.path.parent), tag=checkpoint.path.name)
    assert loaded is not None, f"DeepSpeed did not load the complete checkpoint {checkpoint.path}"


def _file_sizes(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith(MARKER))
    return {str(file.relative_to(path)): file.stat().st_size for file in sorted(files)}


def _prune(folder: Path, keep: int) -> None:
    complete = [path for path in sorted(folder.glob("step-*")) if (path / MARKER).exists()]
    for path in complete[:-keep]:
        (path / MARKER).unlink()  # first, so that a crash in between leaves no half of a checkpoint that counts
        shutil.rmtree(path)
