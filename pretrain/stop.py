"""Stopping at a step boundary: signals only raise a flag, and the ranks agree on it between two steps."""

import os
import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

EXIT_STOPPED = os.EX_TEMPFAIL
"""Exit code (75) of a run that was asked to stop and wrote a checkpoint: run the same command again to go on."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Context manager that turns SIGINT, SIGTERM and SIGUSR1 into `requested`; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.requested == "SIGINT":
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def __enter__(self) -> "StopFlag":
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop. A collective: every rank calls it at the same step boundary."""
        flag = torch.tensor(int(self.requested is not None), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())
