"""Stopping at a step boundary: whatever asks for it only raises a flag, and the ranks agree on it between two steps."""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

EXIT_STOPPED = os.EX_TEMPFAIL
"""Exit code (75) of a run that was asked to stop and wrote a checkpoint: run the same command again to go on."""

STOP_FILE = "STOP"
"""RUN/STOP stops the run, which removes the file once its checkpoint is written."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_REASONS = ("", *(number.name for number in _SIGNALS), f"the file {STOP_FILE}", "stop_after_hours")
_LOOK_EVERY_SECONDS = 1.0  # for the file, which may lie on a busy network disk


class StopRequest:
    """Context manager that turns signals, the STOP file and a time limit into a `code`; nothing is done in a handler.

    SIGINT, SIGTERM and SIGUSR1 (Slurm's --signal) ask for a stop; a second SIGINT interrupts at once. The process of a
    stopped run is about to end: the SIGTERM or SIGUSR1 that stopped it is ignored from then on.
    """

    def __init__(self, run: Path, after_hours: float | None):
        self._file = run / STOP_FILE
        self._deadline = None if after_hours is None else time.monotonic() + 3600 * after_hours
        self._look_again = 0.0
        self._reason = ""
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._reason == "SIGINT":
            raise KeyboardInterrupt
        self._reason = signal.Signals(number).name

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            # sent to a whole process group it comes twice: from its sender, and a little later from the launcher
            comes_again = number != signal.SIGINT and self._reason == signal.Signals(number).name
            signal.signal(number, signal.SIG_IGN if comes_again else handler)

    def code(self) -> int:
        """0, or why this rank was asked to stop; the ranks agree on the largest code."""
        now = time.monotonic()
        if not self._reason and self._deadline is not None and now >= self._deadline:
            self._reason = "stop_after_hours"
        if not self._reason and now >= self._look_again:
            self._look_again = now + _LOOK_EVERY_SECONDS
            if self._file.exists():
                self._reason = f"the file {STOP_FILE}"
        return _REASONS.index(self._reason)

    def clear_file(self) -> None:
        """Remove the STOP file, so that the next start goes on."""
        self._file.unlink(missing_ok=True)


def reason(code: int) -> str:
    """What a code of `StopRequest` means, for people."""
    return _REASONS[code]
