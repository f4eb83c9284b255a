"""One job at a time in a run's folder."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from .errors import PretrainError

PATIENCE_SECONDS = 90.0
"""How long a new job waits for the one before it, which may still be writing its last checkpoint."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""How file systems say that they cannot lock: Lustre without its option, NFS without its service, some of FUSE's."""


def lock_run(run: Path, say: Callable[[str], None], patience: float = PATIENCE_SECONDS) -> BaseFileLock:
    """Hold RUN/.lock until the returned lock is released or the process ends, however it ends.

    A file system without locks is taken as it is: there nothing guards a run against a second job.

    Raises:
        PretrainError: another process holds it for longer than `patience` seconds.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / ".lock"
    # the soft lock is a file that outlives a killed job, which would keep the job after it out
    lock = FileLock(path, thread_local=False, fallback_to_soft=False, poll_interval=0.5, on_acquired=_write_holder)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for {_read_holder(path)} to leave {run}")
            lock.acquire(timeout=patience)
    except Timeout:
        holder = _read_holder(path)
        raise PretrainError(f"output={run} is in use by {holder}: end it, or choose another folder") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return lock


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _read_holder(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() or "another process"
