"""How DeepSpeed's checkpoint files reach the disk: hashed while they are written, in the background if wanted.

Plugged into the engine as its `CheckpointEngine`. No call raises for the disk's sake: DeepSpeed saves collectively, and
a rank that left in the middle would leave the others waiting. Errors are kept until `finish`, where all ranks learn of
them.
"""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, cast

import torch
from torch.utils._pytree import tree_map

from .. import lean_deepspeed  # noqa: F401

# isort: split
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine


@dataclass(frozen=True)
class WrittenFile:
    """What is known of a file from having written it."""

    path: str
    bytes: int
    sha256: str


class HashingWriter(CheckpointEngine):
    """Writes each state with torch.save; `finish` says what was written."""

    def __init__(self, asynchronous: bool):
        super().__init__()
        self._threads = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._written: list[Future[WrittenFile]] = []

    def create(self, info: CheckpointCommitInfo) -> None:
        """A checkpoint begins: nothing to do."""

    def save(self, state_dict: Any, path: str) -> None:
        """Write `state_dict`, or take a snapshot of it in host memory and write that in the background."""
        if self._threads is None:
            done: Future[WrittenFile] = Future()
            try:
                done.set_result(_write(state_dict, path))
            except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
                done.set_exception(error)
            self._written.append(done)
        else:
            self._written.append(self._threads.submit(_write, tree_map(_host_copy, state_dict), path))

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read a file of `save`; called by DeepSpeed within `soundness.loading`, which says what may be in it."""
        return torch.load(path, map_location=map_location)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """A checkpoint's files are handed over: whether they arrived is asked with `finish`."""
        return True

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        return not all(file.done() for file in self._written)

    def finish(self) -> tuple[list[WrittenFile], str | None]:
        """Wait for every file since the last call; returns them and the first error, if any."""
        files, error = [], None
        for written in self._written:
            try:
                files.append(written.result())
            except (OSError, RuntimeError) as problem:
                error = error or str(problem)
        self._written = []
        return files, error


class _HashingFile:
    """What torch.save needs of a file, hashing what passes."""

    def __init__(self, file: Any):
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(state: Any, path: str) -> WrittenFile:
    with open(path, "wb") as file:
        hashing = _HashingFile(file)
        torch.save(state, cast(IO[bytes], hashing))
        file.flush()
        os.fsync(file.fileno())  # the COMPLETE marker must not reach the disk before what it vouches for
    return WrittenFile(path, hashing.bytes, hashing.digest.hexdigest())


def _host_copy(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
