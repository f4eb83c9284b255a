"""Running a command with all its descendants, for so long and no longer."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 60.0
OUT_OF_TIME = -1
"""Instead of an exit code: the command was ended at its time limit."""


def execute(command: Sequence[str], log: Path, seconds: float) -> int:
    """Run `command`, its output appended to `log`; ask it to stop after `seconds`, and end it a minute later.

    Ctrl-C is passed on in the same way, and raised here once the command has ended.

    Returns:
        Its exit code, or OUT_OF_TIME if it had to be ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        # a group of its own: a rank, or a rank's thread, must not outlive the verb
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(timeout=max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            _end(process)
            return OUT_OF_TIME
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen) -> None:
    """A stop signal to the command, then the end of its whole group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
