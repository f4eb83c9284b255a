"""How long to train and with which batches: pure functions of the step, exact on resume and for any number of ranks."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from data_pipeline import Problem

from .distil import AnnealConfig
from .optim import ScheduleConfig

TICKS = 1000
"""An hours budget moves along its schedule in this many ticks; the first is not at 0, the last not past the end."""


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of these is set."""

    steps: int | None = None
    tokens: float | None = None
    epochs: float | None = None
    hours: float | None = None

    def problems(self) -> list[Problem]:
        given = {name: value for name, value in vars(self).items() if value is not None}
        found = [Problem(name, value, "must be above 0") for name, value in given.items() if not value > 0]
        if len(given) > 1:
            *others, asked = given  # steps comes first: it is the one that recipes and defaults set
            _, *further = (f"{name}={value}" for name, value in given.items())
            wrong = f"and {' and '.join(further)} are several budgets, a run has one"
            fix = f"for {asked} add {' '.join(f'--{name} null' for name in others)}"
            found.append(Problem(others[0], given[others[0]], wrong, fix))
        if not given:
            wrong, fix = ", tokens, epochs and hours are all null", "set one of them, the run's budget"
            found.append(Problem("steps", wrong=wrong, fix=fix))
        return found

    def samples(self, blocks: int, seq_length: int) -> int | None:
        """Blocks that a budget in tokens or epochs allows; None for the others. `blocks`: those of one epoch."""
        if self.tokens is not None:
            return int(self.tokens / seq_length)
        if self.epochs is not None:
            return int(self.epochs * blocks)
        return None


@dataclass
class BatchWarmupConfig:
    """Small global batches at first, growing in equal stages to global_batch_size."""

    start: int | None = None
    """Blocks of the first global batch; the batch grows by as many at a time, so it must divide global_batch_size, and
    be a multiple of micro_batch_size times the number of ranks. Not given: every batch is global_batch_size."""
    steps: int = 0
    """Steps until global_batch_size is reached; the smaller batches share them equally."""

    def problems(self, global_batch_size: int) -> list[Problem]:
        if self.start is None:
            missing = Problem("batch_warmup.steps", wrong="needs batch_warmup.start, the first global batch")
            return [missing] if self.steps else []
        if self.start < 1 or self.start >= global_batch_size or global_batch_size % self.start:
            wrong = f"must divide global_batch_size={global_batch_size} and be smaller"
            return [Problem("batch_warmup.start", self.start, wrong)]
        fewest = global_batch_size // self.start - 1
        if self.steps < fewest:
            return [Problem("batch_warmup.steps", self.steps, f"must be at least {fewest}, one for each smaller batch")]
        return []


@dataclass(frozen=True)
class Branch:
    """Where a decay-only branch left its source."""

    step: int
    """Step of the checkpoint."""
    rate: float
    """Learning rate of the checkpoint's last step."""


@dataclass(frozen=True)
class Plan:
    """The whole course of a run: when it ends, how large each batch is, its learning rate, and its shortcuts.

    Exactly one of `steps` and `seconds` is set. Steps are 0-based; `samples(step)` is what has been consumed before it.
    """

    global_batch_size: int
    peak_rate: float
    steps: int | None = None
    seconds: float | None = None
    batch_warmup: BatchWarmupConfig = field(default_factory=BatchWarmupConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    anneal: AnnealConfig = field(default_factory=AnnealConfig)
    branch: Branch | None = None

    def batch(self, step: int) -> int:
        """Blocks of the global batch at `step`."""
        return next(size for size, _, end in self._stages() if end is None or step < end)

    def samples(self, step: int) -> int:
        """Blocks in all batches before `step`."""
        return sum(
            size * ((step if end is None else min(step, end)) - first)
            for size, first, end in self._stages()
            if first < step
        )

    def steps_within(self, samples: int) -> int:
        """The most whole batches that `samples` blocks are enough for."""
        done = 0
        for size, first, end in self._stages():
            fitting = first + (samples - done) // size
            if end is None or fitting < end:
                return fitting
            done += size * (end - first)
        raise AssertionError("the last stage has no end")

    def _stages(self) -> Iterator[tuple[int, int, int | None]]:
        """(batch, first step, end step); the last stage has no end."""
        first, start = 0, self.batch_warmup.start
        if start is not None:
            stages = self.global_batch_size // start - 1
            for stage in range(1, stages + 1):
                end = -(-stage * self.batch_warmup.steps // stages)
                yield start * stage, first, end
                first = end
        yield self.global_batch_size, first, None

    def finished(self, step: int, seconds: float) -> bool:
        """Whether the budget is used up after `step` steps and `seconds` of training."""
        if self.steps is not None:
            return step >= self.steps
        assert self.seconds is not None
        return seconds >= self.seconds

    def fraction(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, seconds / self.seconds)

    def expected_steps(self, step: int, seconds: float) -> int:
        """Steps of the whole run; for an hours budget as many as the pace of the first `step` ones will make."""
        if self.steps is not None:
            return self.steps
        fraction = self.fraction(step, seconds)
        return max(step, round(step / fraction)) if fraction else step

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate of `step`, which begins after `seconds` of training; above 0 while the budget lasts."""
        if self.steps is not None:
            done, total = float(step), float(self.steps)
        else:  # a step that begins in the budget's last moment still has a rate
            done, total = min(self.fraction(step, seconds) * TICKS, TICKS - 1.0), float(TICKS)
        if self.branch is None:
            return self.peak_rate * self.schedule.factor(done, total)
        start = float(self.branch.step)
        return self.branch.rate * self.schedule.factor(done - start, total - start)

    def shortcut_scale(self, step: int, seconds: float) -> float:
        """The scale of the short residuals in `step`, which begins after `seconds` of training; 0: there are none."""
        return self.anneal.scale(self.fraction(step, seconds))


class TrainingClock:
    """Seconds of training over all restarts: what the checkpoint knew, and the time since this process began."""

    def __init__(self, seconds_before: float) -> None:
        self._before = seconds_before
        self._start = time.monotonic()

    def seconds(self) -> float:
        """On this rank's clock."""
        return self._before + time.monotonic() - self._start
