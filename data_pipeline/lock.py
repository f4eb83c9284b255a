"""One job at a time in an output folder."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from .errors import DataError
from .filesystem import LOCK_FILE, os_problem
from .problems import Problem

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""How file systems say that they cannot lock: Lustre without its option, NFS without its service, some of FUSE's."""
_GATE_SECONDS = 5.0
_VANISHED = 100  # times that a folder may be taken away by the one who made it, before that is an error


class OutputLock:
    """The right to write a folder, held until `release` or the end of the process, however it ends.

    A file system without locks is taken as it is: there nothing guards a folder against a second job.

    Args:
        output: the folder. It is made where it is missing, with those above it; who finds it empty in the end, a
            mistake was found before the first file for instance, takes it away again.
        beside: hold a file next to the folder instead of one inside: for a folder that comes into being by a rename, or
            must not exist yet.
        part: the job shares the folder with those of other parts, and excludes the same part and jobs without one.
        patience: seconds to wait for the job before this one.
        say: is told for whom it waits.

    Raises:
        DataError: another process holds it for longer than `patience`, or the folder cannot be written.
    """

    def __init__(
        self, output: Path, *, beside: bool = False, part: str = "", patience: float = 0.0,
        say: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self._output, self._patience, self._say = output, patience, say
        place = Path(os.path.abspath(output))
        self._file = place / LOCK_FILE
        if beside:
            self._file = place.parent / f".{os.fsdecode(os.fsencode(place.name)[:200])}{LOCK_FILE}"
        self._made: list[Path] = []
        self._held: list[FileLock] = []
        try:
            with suppress(FileNotFoundError):
                os.lstat(place)  # a name that is too long is seen here also where the lock is beside it
            self._acquire(part)
        except OSError as error:
            self.release()
            raise DataError(os_problem(error, "output", output)) from error
        except BaseException:
            self.release()
            raise

    def _acquire(self, part: str) -> None:
        if not part:
            self._hold(self._file, self._patience)
            for other in sorted(self._file.parent.iterdir()):
                if other.name.startswith(f"{self._file.name}-"):
                    self._hold(other, 0.0)
            return
        # whoever comes in passes the file of whole jobs, so that one of those sees all parts there are
        self._hold(self._file, _GATE_SECONDS)
        self._hold(self._file.with_name(f"{self._file.name}-{part.replace('/', '-of-')}"), self._patience)
        self._let_go(self._held[0])

    def _hold(self, file: Path, patience: float) -> None:
        """Lock one file, made where it is missing."""
        # the soft lock is a file that outlives a killed job, which would keep the job after it out
        lock = FileLock(file, thread_local=False, fallback_to_soft=False, poll_interval=0.1, on_acquired=_write_holder)
        self._held.append(lock)
        for turn in range(_VANISHED):
            try:
                self._make_folder(file.parent)
                self._wait(lock, file, patience)
                return
            except FileNotFoundError:  # whoever had made the folder took it away in this moment
                if turn == _VANISHED - 1:
                    raise
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return

    def _wait(self, lock: FileLock, file: Path, patience: float) -> None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not file.exists():  # it has just been let go, or cannot be made at all
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file)) from None
            if patience and self._say is not None:
                self._say(f"waiting for {_read_holder(file)} to leave {self._output}")
            try:
                lock.acquire(timeout=patience)
            except Timeout:
                wrong, fix = f"is in use by {_read_holder(file)}", "wait for its end, or choose another folder"
                raise DataError(Problem("output", self._output, wrong, fix)) from None

    def _make_folder(self, folder: Path) -> None:
        """Make it and those above it, and remember which were not there."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            try:
                folder.mkdir()
                self._made.append(folder)
            except FileExistsError:
                if not folder.is_dir():  # a file, or a link that leads nowhere
                    raise

    def _let_go(self, lock: FileLock) -> None:
        self._held.remove(lock)
        if lock.is_locked:
            with suppress(OSError):
                os.unlink(lock.lock_file)  # while it is held: who waits for it sees that, and makes a new one
            lock.release()

    def release(self) -> None:
        """Let the next job in. A folder that this one made and left empty goes."""
        for lock in self._held[::-1]:
            self._let_go(lock)
        for folder in self._made[::-1]:
            with suppress(OSError):
                folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _read_holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:  # it has ended in this moment
        return "another process"
