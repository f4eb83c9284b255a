"""How far `acn prepare` is: a live line on a terminal, else a line now and then."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.status import Status

from ..wording import duration

_REPORT_SECONDS = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """What has been done of a unit since its beginning."""

    documents: int
    bytes: int
    """Bytes of text, as UTF-8."""
    tokens: int
    share: float
    """Share of the unit's stored bytes, 0 to 1."""


class Stages:
    """Says, of work that a library does, in what stage it is and for how long: a thread speaks while it is silent.

    A live line on a terminal, else a line every `seconds`.
    """

    def __init__(self, verb: str, say: Say, seconds: float = _REPORT_SECONDS) -> None:
        self._verb, self._say, self._seconds = verb, say, seconds
        self._stage: tuple[str, float | None] = ("beginning", None)
        self._began = time.monotonic()
        self._done = threading.Event()
        console = Console(stderr=True)
        self._status = Status(verb, console=console) if say is print and console.is_terminal else None
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> "Stages":
        if self._status:
            self._status.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._status:
            self._status.stop()

    def tell(self, doing: str, share: float | None) -> None:
        """Take note of the stage, and of its share that is done where that is known."""
        self._stage = (doing, share)

    def _speak(self) -> None:
        while not self._done.wait(0.5 if self._status else self._seconds):
            if self._status:
                self._status.update(self._line())
            else:
                self._say(self._line())

    def _line(self) -> str:
        doing, share = self._stage
        done = "" if share is None else f", {share:.0%} of the text"
        return f"{self._verb}: {doing}{done}, {duration(time.monotonic() - self._began)} so far"


class Progress:
    """Adds up the steps of all units and says so. `weights` are the stored bytes of the units still to do."""

    def __init__(self, verb: str, weights: dict[int, int], say: Say) -> None:
        self._verb, self._weights, self._say = verb, weights, say
        self._steps: dict[int, Step] = {}
        self._settled = Step(0, 0, 0, 0.0)  # of the finished units; its share counts stored bytes
        self._began = self._said = time.monotonic()
        console = Console(stderr=True)
        self._status = Status(verb, console=console) if say is print and console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()
        if kind is None and self._weights:
            self._say(self._line())

    def update(self, unit: int, step: Step) -> None:
        """Take note of a step; a later one of the same unit replaces it, so a unit may begin again."""
        self._steps[unit] = step
        self._report()

    def finish(self, unit: int) -> None:
        """Take note that a unit is done."""
        step, done = self._steps.pop(unit, Step(0, 0, 0, 0.0)), self._settled
        self._settled = Step(
            done.documents + step.documents,
            done.bytes + step.bytes,
            done.tokens + step.tokens,
            done.share + self._weights[unit],
        )
        self._report()

    def _report(self) -> None:
        if self._status:
            self._status.update(self._line())
        elif time.monotonic() - self._said >= _REPORT_SECONDS:
            self._said = time.monotonic()
            self._say(self._line())

    def _line(self) -> str:
        steps = [self._settled, *self._steps.values()]
        documents, size, tokens = (
            sum(getattr(step, name) for step in steps) for name in ("documents", "bytes", "tokens")
        )
        stored = self._settled.share + sum(self._weights[unit] * step.share for unit, step in self._steps.items())
        share = stored / max(sum(self._weights.values()), 1)
        seconds = max(time.monotonic() - self._began, 1e-9)
        counts = [
            f"{documents:,} documents" if documents else "",
            f"{size / 1e6:,.1f} MB at {size / 1e6 / seconds:.1f} MB/s",
            f"{tokens:,} tokens" if tokens else "",
            f"{share:.0%} done",
            f"{duration(seconds * (1 - share) / share)} left" if 0 < share < 1 else "",
        ]
        return f"{self._verb}: {', '.join(filter(None, counts))}"
