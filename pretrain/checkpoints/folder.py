"""Checkpoints that are complete or do not count.

RUN/checkpoints/step-0000500/ holds DeepSpeed's files and, written last, COMPLETE: a JSON record of the run's progress
and of every file with its size and sha256. A folder without it, or whose files differ from it, is ignored.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ..budget import Branch
from ..files import file_sha256
from ..recovery import Health
from .config import CheckpointConfig

MARKER = "COMPLETE"
# What DeepSpeed asks of a checkpoint that may be converted for another number of ranks (its universal checkpoints).
CLIENT_STATE = {"universal_checkpoint_info": {"universal_checkpoint_version": 0.4}}


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

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        """The inverse of `dataclasses.asdict`."""
        branch = values.get("branch")
        parts = {"health": Health(**values["health"]), "branch": Branch(**branch) if branch else None}
        return cls(**{**values, **parts})

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


def checkpoint_folder(run: Path) -> Path:
    """The folder of a run's checkpoints."""
    return run / "checkpoints"


def complete_checkpoints(run: Path) -> Iterator[Checkpoint]:
    """The checkpoints of `run` whose marker names exactly the files that are there, newest first."""
    for path in sorted(checkpoint_folder(run).glob("step-*"), reverse=True):
        checkpoint = read_checkpoint(path)
        if checkpoint is not None:
            yield checkpoint


def newest_complete(run: Path) -> Checkpoint | None:
    """The newest complete checkpoint of `run`, or None."""
    return next(complete_checkpoints(run), None)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None when it is incomplete."""
    try:
        marker = json.loads((path / MARKER).read_text())
        files = marker["files"]
        if {name: file["bytes"] for name, file in files.items()} != _file_sizes(path):
            return None
        return Checkpoint(path, Progress.from_json(marker["progress"]), files)
    except (OSError, ValueError, KeyError, TypeError):
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
        for path in sorted(checkpoint_folder(run).glob("step-*")):
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


class Saver:
    """Writes the checkpoints of one run. Its methods are collectives: every rank calls them at the same step."""

    def __init__(
        self,
        engine: Any,
        run: Path,
        config: CheckpointConfig,
        say: Callable[[str], None],
        log: Callable[[dict[str, float], int], None] = lambda metrics, step: None,
    ):
        from .writer import HashingWriter  # imports DeepSpeed, which takes seconds that only ranks should spend

        self._engine, self._run, self._config, self._say, self._log = engine, run, config, say, log
        self._writer = HashingWriter(config.asynchronous)
        engine.checkpoint_engine = self._writer
        # `acn export` does what this script of DeepSpeed's does; copying it could fail on rank 0 alone
        engine._copy_recovery_script = lambda *_: None
        self._pending: tuple[Path, dict[str, Any], float] | None = None  # folder, progress, beginning
        self._bytes = 0
        self._blocked = 0.0  # seconds that training waited for the pending checkpoint

    @property
    def busy(self) -> bool:
        """Whether this rank is still writing in the background."""
        return self._pending is not None and self._writer.busy

    @property
    def pending(self) -> bool:
        """Whether a checkpoint waits for its marker; the same on all ranks."""
        return self._pending is not None

    def save(self, progress: Progress, extra: dict[str, Any] | None = None) -> bool:
        """Write a checkpoint, or begin to; False when the disk did not take it and the older ones stand.

        Args:
            extra: more states for rank 0 to write with torch.save, by file name.
        """
        if self.pending:
            self.finish()
        path = checkpoint_folder(self._run) / f"step-{progress.step:07d}"
        began = time.monotonic()
        problem = gather_objects(self._prepare(path) if dist.get_rank() == 0 else None)[0]
        if problem:
            self._say(f"WARNING: no checkpoint at step {progress.step}: {problem}")
            return False
        client_state = {**CLIENT_STATE, "optimizer_order": self._engine.optimizer_order}
        self._engine.save_checkpoint(str(path.parent), tag=path.name, client_state=client_state, save_latest=False)
        if dist.get_rank() == 0:
            for name, state in (extra or {}).items():
                self._writer.save(state, str(path / name))
        self._pending = (path, asdict(progress), began)  # a copy: training goes on counting
        self._blocked = time.monotonic() - began
        return True if self._config.asynchronous else self.finish()

    def finish(self) -> bool:
        """Wait for the files of the pending checkpoint and mark it complete; False when that failed."""
        assert self._pending is not None
        path, progress, began = self._pending
        self._pending = None
        waited = time.monotonic()
        written, error = self._writer.finish()
        outcomes = gather_objects((written, error))
        problem = next((error for _, error in outcomes if error), None)
        if dist.get_rank() == 0 and problem is None:
            files = [file for written, _ in outcomes for file in written]
            problem = self._mark(path, progress, {Path(file.path).name: file for file in files})
        problem = gather_objects(problem)[0]
        if problem:
            if dist.get_rank() == 0:
                shutil.rmtree(path, ignore_errors=True)
            self._say(f"WARNING: the checkpoint at step {progress['step']} could not be written: {problem}")
            return False
        now = time.monotonic()
        self._blocked += now - waited
        sizes = {"checkpoint/seconds": now - began, "checkpoint/megabytes": self._bytes / 1e6}
        self._log(sizes | {"checkpoint/blocked_seconds": self._blocked}, progress["step"])
        self._say(
            f"step {progress['step']}  checkpoint {path} ({self._bytes / 1e6:,.1f} MB in {now - began:.1f} s"
            + (f", training waited {self._blocked:.1f} s)" if self._config.asynchronous else ")")
        )
        return True

    def _prepare(self, path: Path) -> str | None:
        """An empty folder with room for it; or why not. Rank 0 only."""
        try:
            shutil.rmtree(path, ignore_errors=True)  # what a crash left here
            path.mkdir(parents=True)
            newest = newest_complete(self._run)
            need = newest.bytes if newest else 0
            free = shutil.disk_usage(path).free
            if free < need:
                path.rmdir()
                return f"{path.parent} has {free / 1e9:.2f} GB free, {need / 1e9:.2f} GB are needed: make room there"
        except OSError as error:
            return str(error)
        return None

    def _mark(self, path: Path, progress: dict[str, Any], written: dict[str, Any]) -> str | None:
        """Write the marker and delete what need not be kept; or why not. Rank 0 only."""
        try:
            files = {}
            for name, size in _file_sizes(path).items():
                known = written.get(Path(name).name)
                if known is not None and known.bytes != size:
                    return f"{path / name} has {size} bytes instead of {known.bytes}"
                files[name] = {"bytes": size, "sha256": known.sha256 if known else file_sha256(path / name)}
            self._bytes = sum(_file_sizes(path).values())
            aside = path / f"{MARKER}.tmp"
            with aside.open("w") as file:
                json.dump({"progress": progress, "files": files}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path / MARKER)
            _prune(path.parent, self._config)
        except OSError as error:
            return str(error)
        return None


def load_checkpoint(engine: Any, checkpoint: Checkpoint) -> None:
    """Restore weights and optimizer states of the same layout. A collective."""
    loaded, _ = engine.load_checkpoint(str(checkpoint.path.parent), tag=checkpoint.path.name)
    assert loaded is not None, f"DeepSpeed did not load the complete checkpoint {checkpoint.path}"


def gather_objects(value: Any) -> list[Any]:
    """The `value` of every rank, by rank. A collective."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _file_sizes(path: Path) -> dict[str, int]:
    files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith(MARKER))
    return {str(file.relative_to(path)): file.stat().st_size for file in sorted(files)}


def _prune(folder: Path, config: CheckpointConfig) -> None:
    marked = [path for path in sorted(folder.glob("step-*")) if (path / MARKER).exists()]
    for path in marked[: -config.keep]:
        step = int(path.name.removeprefix("step-"))
        if config.keep_every and step % config.keep_every == 0:
            continue
        (path / MARKER).unlink()  # first, so that a crash in between leaves no half of a checkpoint that counts
        shutil.rmtree(path)
