"""The learning rate as a pure function of the step, so that nothing of it needs saving."""

from dataclasses import dataclass


@dataclass
class ScheduleConfig:
    """Linear warm-up, then linear decay to zero at the last step."""

    warmup_fraction: float = 0.5
    """Share of all steps spent warming up (the ACN paper: the first half)."""

    def problems(self) -> list[str]:
        """Every bad value, each with its mend."""
        if not 0 <= self.warmup_fraction <= 1:
            return [f"schedule.warmup_fraction={self.warmup_fraction} must be in [0, 1]"]
        return []

    def factor(self, step: int, steps: int) -> float:
        """What multiplies the peak rate at optimizer step `step` (0-based) of `steps`; positive at every step."""
        warmup = max(1, round(self.warmup_fraction * steps))  # at least the step that is at the peak
        if step < warmup:
            return (step + 1) / warmup
        return (steps - step) / (steps - warmup + 1)
