"""Fetched shards on a local disk, shared by all processes of a machine.

    CACHE/shards/SHA256   CACHE/partial/SHA256   CACHE/locks/...   CACHE/size   CACHE/folders/URL-HASH/manifest.json ...

Files are named by their content, so whoever finds one can use it, whatever corpus it came from. A file is written
in partial/, checked, and renamed into shards/: nobody ever sees a part of one. File locks, which the system releases
when a process dies, let one process fetch a shard while the others wait for it. Evicting a shard that another process
is reading does no harm: an open file keeps its content until it is closed.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from ..errors import DataError, ShardFault
from ..names import path_inside
from ..problems import Problem

_LOCKS = 256
_EVICT_TO = 0.9  # evicting a little more than needed makes scanning the folder rare
_STALE_SECONDS = 3600.0  # a partial file this old belongs to a process that was killed


class ShardCache:
    """A size-bounded folder of shards. Threads and processes may share one folder."""

    def __init__(self, folder: str | Path, limit: int) -> None:
        """Use at most `limit` bytes of `folder`, which is made if need be; DataError where that fails."""
        self.folder = Path(folder).expanduser()
        self._limit = limit
        self.fetched = 0
        """Shards that this object fetched, those evicted and fetched again included."""
        try:
            for part in ("shards", "partial", "locks", "folders"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def __contains__(self, sha256: str) -> bool:
        return self._file(sha256).exists()

    def open(self, sha256: str, name: str, fetch: Callable[[], bytes]) -> pa.NativeFile:
        """The shard with this content, opened for reading, fetched first where the cache lacks it.

        Raises ShardFault, with the shard's `name`, when `fetch` keeps giving other content, and whatever it raises.
        """
        while True:
            try:
                file = path_inside(self.folder, f"shards/{sha256}")
                os.utime(file)  # last use, for evicting
                return pa.OSFile(str(file), "rb")
            except FileNotFoundError:  # not there yet, or evicted by another process this moment
                self.ensure(sha256, name, fetch)

    def ensure(self, sha256: str, name: str, fetch: Callable[[], bytes]) -> None:
        """Fetch a shard that the cache lacks; errors as for `open`."""
        if sha256 in self:
            return
        number = int(sha256[:8], 16) % _LOCKS
        with self._lock(f"shard-{number}"):
            if sha256 in self:  # another process has fetched it meanwhile
                return
            content = _checked(sha256, name, fetch)
            partial = path_inside(self.folder, f"partial/{sha256}")
            try:
                partial.write_bytes(content)
                self._admit(partial, self._file(sha256), len(content))
            except OSError as error:
                raise self._unusable(error) from error
            self.fetched += 1

    def _admit(self, partial: Path, file: Path, size: int) -> None:
        """Make a checked file visible, evicting the least recently used shards where there is no room for it."""
        with self._lock("size"):
            record = path_inside(self.folder, "size")
            try:
                total = int(record.read_text()) + size
            except (FileNotFoundError, ValueError):  # a new cache, or a process was killed while it wrote
                total = self._limit + 1
            if total > self._limit:
                self._remove_stale_partials()
                total = self._evict(size) + size
            record.write_text(str(total))  # first: a process killed here counts too much, never too little
            os.replace(partial, file)

    def _remove_stale_partials(self) -> None:
        for partial in (self.folder / "partial").iterdir():
            with suppress(FileNotFoundError):  # it has just been finished
                if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                    partial.unlink()

    def _evict(self, size: int) -> int:
        """Make room for `size` bytes; returns the bytes that are left. Only the holder of the size lock may."""
        shards = [(entry.stat(), entry.path) for entry in os.scandir(self.folder / "shards")]
        total = sum(status.st_size for status, _ in shards)
        goal = total if total + size <= self._limit else int(self._limit * _EVICT_TO) - size
        for status, path in sorted(shards, key=lambda shard: shard[0].st_mtime):
            if total <= goal:
                break
            os.unlink(path)
            total -= status.st_size
        return total

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with path_inside(self.folder, f"locks/{name}").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield  # closing the file releases the lock

    def _file(self, sha256: str) -> Path:
        return self.folder / "shards" / sha256

    def _unusable(self, error: OSError) -> DataError:
        return DataError(
            f"stream.remote.cache={self.folder} cannot be written ({error.strerror or error}): "
            "name a folder on a disk with room, or lower stream.remote.cache_gb"
        )


def _checked(sha256: str, name: str, fetch: Callable[[], bytes]) -> bytes:
    """What `fetch` gives, if it is the right content; once more if not, for it may have been spoilt on the way."""
    for _ in range(2):
        content = fetch()
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    raise ShardFault(
        Problem(
            f"shard {name}",
            wrong="has other content than the manifest's sha256 says",
            fix="restore the file or run `acn prepare` again",
        )
    )
