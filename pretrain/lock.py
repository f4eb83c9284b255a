"""One job at a time in a run's folder."""

import fcntl
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .errors import PretrainError

PATIENCE_SECONDS = 90.0
"""How long a new job waits for the one before it, which may still be writing its last checkpoint."""


def lock_run(run: Path, say: Callable[[str], None], patience: float = PATIENCE_SECONDS) -> IO[str]:
    """Hold RUN/.lock until the returned file is closed or the process ends, however it ends.

    A file system without locks is taken as it is: there nothing guards a run against a second job.

    Raises:
        PretrainError: another process holds it for longer than `patience` seconds.
    """
    run.mkdir(parents=True, exist_ok=True)
    file = (run / ".lock").open("a+")
    deadline = time.monotonic() + patience
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            if time.monotonic() > deadline:
                raise PretrainError(f"output={run} is in use by {holder}: end it, or choose another folder") from None
            if not told:
                say(f"waiting for {holder} to leave {run}")
                told = True
            time.sleep(0.5)
        except OSError:
            return file
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file
