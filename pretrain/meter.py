"""Speed, time left, and the lines a user reads while the run goes on."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Measures laps of steps: the speed of the last one, the time left at their smoothed pace."""

    def __init__(self, step: int):
        self._tokens = 0  # of the current lap
        self._mark = (step, time.monotonic())
        self._pace: float | None = None  # seconds per step, smoothed over log intervals

    def restart(self, step: int) -> None:
        """Measure from now, at `step`."""
        self._tokens = 0
        self._mark = (step, time.monotonic())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of a step, such as data, forward, backward or optimizer."""
        yield

    def count(self, tokens: int) -> None:
        """Add the tokens of one optimizer step, over all ranks."""
        self._tokens += tokens

    def lap(self, step: int, steps: int) -> dict[str, float]:
        """Tokens per second since the last lap, and seconds left until `steps` at the smoothed pace."""
        before, since = self._mark
        now = time.monotonic()
        self._mark = (step, now)
        pace = (now - since) / max(1, step - before)
        self._pace = pace if self._pace is None else 0.7 * self._pace + 0.3 * pace
        tokens, self._tokens = self._tokens, 0
        return {
            "train/tokens_per_second": tokens / (now - since),
            "train/seconds_left": self._pace * (steps - step),
        }


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def progress_line(step: int, steps: int, metrics: dict[str, float]) -> str:
    """One line for one logging step."""
    return (
        f"step {step:>{len(str(steps))}}/{steps}  loss {metrics.get('train/loss', math.nan):.4f}  "
        f"lr {metrics['train/learning_rate']:.2e}  {metrics['train/tokens_per_second']:,.0f} tokens/s  "
        f"{duration(metrics['train/seconds_left'])} left"
    )
