"""Which local shards have been found to be what their manifest says, so that a machine hashes each of them once.

    CACHE/verified/FOLDER-HASH      a line for each verified file: its sha256, size, time of change and inode

A file that was changed or replaced has another line. Lines are appended in one write each, so processes may share a
record; where it cannot be written, each process hashes for itself.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from ..filesystem import file_sha256
from ..shards import Shard

_WORTH_A_LINE = 1 << 20  # bytes: hashing less takes about as long as remembering it


class VerifiedShards:
    """Compares the shards of a prepared folder with their sha256, each when it is first asked for."""

    def __init__(self, folder: Path, cache: Path | None) -> None:
        """Remember in `cache` what was verified; None remembers in this object only."""
        self._folder = folder
        self._record = None
        if cache is not None:
            self._record = cache / "verified" / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self._known: set[str] | None = None

    def holds(self, shard: Shard) -> bool:
        """Whether the file is the one that the manifest means; OSError where it cannot be read."""
        file = self._folder / shard.file
        status = file.stat()
        line = f"{shard.sha256} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
        if self._known is None:
            self._known = self._read()
        if line in self._known:
            return True
        if file_sha256(file) != shard.sha256:
            return False
        self._known.add(line)
        if shard.bytes >= _WORTH_A_LINE:
            self._append(line)
        return True

    def _read(self) -> set[str]:
        try:
            return set(self._record.read_text().splitlines()) if self._record is not None else set()
        except (OSError, UnicodeDecodeError):
            return set()

    def _append(self, line: str) -> None:
        if self._record is None:
            return
        with suppress(OSError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with self._record.open("ab", buffering=0) as file:
                file.write(f"{line}\n".encode())
