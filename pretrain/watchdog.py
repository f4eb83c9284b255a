"""Says which rank waits for what when a step hangs."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_EVERY_SECONDS = 1.0


class Watchdog:
    """A thread that complains on stderr when one `doing` lasts longer than `patience` seconds, once for each.

    It ends nothing: a dead rank ends the collectives of the others, and their time-out ends what merely hangs.
    """

    def __init__(self, rank: int, patience: float):
        self._rank, self._patience = rank, patience
        self._doing: tuple[str, float] | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    @contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """Watch over a block of code; `activity` completes the sentence "rank 3 has been ... for 60 s"."""
        outer, self._doing = self._doing, (activity, time.monotonic())
        try:
            yield
        finally:
            self._doing = outer

    def _watch(self) -> None:
        reported = None
        while not self._end.wait(LOOK_EVERY_SECONDS):
            doing = self._doing
            if doing is None or doing is reported:
                continue
            activity, since = doing
            waited = time.monotonic() - since
            if waited > self._patience:
                reported = doing
                where = f"rank {self._rank} on {socket.gethostname()}"
                print(f"WARNING: {where} has been {activity} for {waited:.0f} s", file=sys.stderr, flush=True)
