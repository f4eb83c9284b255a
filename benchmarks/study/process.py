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


class Processes:
    """Runs commands, from any thread, until `end` ends all of them.

    Args:
        threads: OMP_NUM_THREADS of each command, unless the environment sets it.
    """

    def __init__(self, threads: int) -> None:
        self._environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        self._running: set[subprocess.Popen] = set()
        self._ended = False

    def __call__(self, command: Sequence[str], log: Path, seconds: float) -> int:
        """Run `command`, its output appended to `log`; ask it to stop after `seconds`, and end it a minute later.

        Returns:
            Its exit code, or OUT_OF_TIME if it had to be ended.
        """
        if self._ended:
            return OUT_OF_TIME
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            # a group of its own: a rank, or a rank's thread, must not outlive the verb
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
            self._running.add(process)
            if self._ended:  # while it was being started, by somebody who has not seen it
                _end(process)
            try:
                code = process.wait(timeout=max(seconds, 1.0))
            except subprocess.TimeoutExpired:
                _end(process)
                code = OUT_OF_TIME
            self._running.discard(process)
            return OUT_OF_TIME if self._ended else code

    def end(self) -> None:
        """Ask every command to stop, and end it a minute later; those to come are not begun."""
        self._ended = True
        for process in list(self._running):
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """A stop signal to the command, then the end of its whole group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
