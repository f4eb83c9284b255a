"""The learning rate as a pure function of progress, so that nothing of it needs saving."""

import math
from dataclasses import dataclass
from typing import Literal

from data_pipeline import Problem

Shape = Literal["linear", "cosine", "sqrt"]


@dataclass
class ScheduleConfig:
    """How the learning rate follows the run; progress is the share of the budget that is used up."""

    warmup_fraction: float = 0.5
    """Share of the budget spent warming up linearly from 0 (the ACN paper: the first half). Not used by decay, which
    starts at its checkpoint's rate."""
    name: Literal["linear", "cosine", "wsd", "decay"] = "linear"
    """What follows the warm-up. linear: a straight line down (the paper). cosine: half a cosine. wsd: the peak rate
    until the last decay_fraction of the budget (warm-up, stable, decay: arXiv 2404.06395). decay: only for branch_from,
    from the rate of its checkpoint down over the rest of the budget."""
    min_fraction: float = 0.0
    """Rate that the decay ends at, as a share of the rate it starts from."""
    decay_fraction: float | None = None
    """wsd: share of the budget spent decaying; 0.2 if not given."""
    decay_shape: Shape | None = None
    """wsd and decay: linear, cosine, or sqrt for 1 - sqrt(t) (the best in arXiv 2405.18392); linear if not given."""

    def problems(self) -> list[Problem]:
        found = []
        for name in ("warmup_fraction", "decay_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                found.append(Problem(f"schedule.{name}", value, "must be in [0, 1]"))
        if not 0 <= self.min_fraction < 1:
            found.append(Problem("schedule.min_fraction", self.min_fraction, "must be in [0, 1)"))
        if self.decay_fraction is not None and self.name != "wsd":
            found.append(
                Problem(
                    "schedule.decay_fraction", wrong=f"is for schedule.name wsd, not {self.name}", fix="leave it out"
                )
            )
        if self.decay_shape is not None and self.name not in ("wsd", "decay"):
            found.append(
                Problem(
                    "schedule.decay_shape",
                    wrong=f"is for schedule.name wsd and decay, not {self.name}",
                    fix="leave it out",
                )
            )
        if self.name == "wsd" and self.warmup_fraction + self._decay_fraction > 1:
            found.append(
                Problem(
                    "schedule.warmup_fraction",
                    self.warmup_fraction,
                    f"and schedule.decay_fraction={self._decay_fraction} are more than the whole budget",
                    "lower one",
                )
            )
        return found

    @property
    def _decay_fraction(self) -> float:
        return 0.2 if self.decay_fraction is None else self.decay_fraction

    def factor(self, step: float, steps: float) -> float:
        """What multiplies the peak rate (for decay: the rate it starts from) at `step` (0-based) of `steps`.

        Above 0 and at most 1 at every step 0 <= step <= steps - 1, and 1 at the end of the warm-up.
        """
        if self.name == "decay":
            return self._descent(step + 1, steps + 1, self.decay_shape or "linear")
        warmup = max(1, round(self.warmup_fraction * steps))  # at least the step that is at the peak
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        if self.name == "wsd":
            decay = round(self._decay_fraction * steps)
            return self._descent(step + 1 - (steps - decay), decay + 1, self.decay_shape or "linear")
        shape: Shape = "cosine" if self.name == "cosine" else "linear"
        return self._descent(step + 1 - warmup, steps - warmup + 1, shape)

    def _descent(self, done: float, length: float, shape: Shape) -> float:
        """From 1 at `done` <= 0 to min_fraction at `length`, which is one past the last step."""
        x = max(0.0, done / length)
        left = {"linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2, "sqrt": 1 - math.sqrt(x)}[shape]
        return self.min_fraction + (1 - self.min_fraction) * left
