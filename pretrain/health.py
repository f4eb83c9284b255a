"""What a run remembers about its sick steps, and when they are too many; `recovery` acts on it."""

import math
from dataclasses import dataclass, field, replace

from data_pipeline import Problem


@dataclass
class HealthConfig:
    """A step with a non-finite gradient or loss is left out and counted; a row of them ends at an older checkpoint."""

    patience: int = 8
    """Sick steps in a row until the run goes back to the last checkpoint from before them and leaves their samples
    out."""
    rollbacks: int = 3
    """How often a run may go back without getting past the place, before it ends with an error."""
    spike: float | None = None
    """Treat a loss more than this many standard deviations above its running mean as sick too (6 is a cautious value);
    null does not look."""
    spike_memory: int = 100
    """Steps that the running mean and deviation remember; also how many must have passed before a spike counts."""

    def problems(self) -> list[Problem]:
        found = []
        for name in ("patience", "spike_memory"):
            if getattr(self, name) < 1:
                found.append(Problem(f"health.{name}", getattr(self, name), "must be at least 1"))
        if self.rollbacks < 0:
            found.append(Problem("health.rollbacks", self.rollbacks, "must not be negative"))
        if self.spike is not None and not self.spike > 0:
            found.append(Problem("health.spike", self.spike, "must be above 0"))
        return found


@dataclass
class Health:
    """What a run remembers about its sick steps; part of its checkpoints, so that a restart judges as before."""

    skipped_steps: int = 0
    """Steps whose gradient was dropped, over the whole run."""
    sick_in_a_row: int = 0
    first_sick_step: int = 0
    """Steps done when the present row began."""
    first_sick_sample: int = 0
    """The first sample of the present row."""
    rollbacks: int = 0
    """Times the run went back since it last got past what it left out."""
    left_out: list[list[int]] = field(default_factory=list)
    """Ranges [first, end) of samples that are never trained on again."""
    loss_mean: float = 0.0
    loss_variance: float = 0.0
    losses: int = 0
    """Healthy losses that mean and variance have seen."""

    def healthy(self, sample: int, loss: float | None, memory: int) -> None:
        """Note an applied step that began at `sample`; with a `loss`, for the running mean (over `memory` steps)."""
        self.sick_in_a_row = 0
        if self.left_out and sample >= self.left_out[-1][1]:
            self.rollbacks = 0
        if loss is None:
            return
        self.losses += 1
        weight = max(1 / self.losses, 1 / memory)  # a plain average until the memory is full
        difference = loss - self.loss_mean
        self.loss_mean += weight * difference
        self.loss_variance = (1 - weight) * (self.loss_variance + weight * difference**2)

    def sick(self, step: int, sample: int) -> None:
        """Note that the step after `step` steps, which began at `sample`, was left out."""
        if self.sick_in_a_row == 0:
            self.first_sick_step, self.first_sick_sample = step, sample
        self.sick_in_a_row += 1
        self.skipped_steps += 1

    def is_spike(self, loss: float, config: HealthConfig) -> bool:
        """Whether `loss` sticks out of the losses so far."""
        if config.spike is None or self.losses < config.spike_memory:
            return False
        return loss > self.loss_mean + config.spike * math.sqrt(self.loss_variance)

    def rolled_back_to(self, then: "Health", end: int) -> "Health":
        """The health of a run that goes back to where its health was `then`, never to see the samples of the present
        row again, which ends before sample `end`."""
        left_out = [*self.left_out, [self.first_sick_sample, end]]
        counts = {"skipped_steps": self.skipped_steps, "rollbacks": self.rollbacks + 1}
        return replace(then, left_out=left_out, sick_in_a_row=0, **counts)

    def past_left_out(self, sample: int) -> int:
        """The first sample from `sample` on that is trained on."""
        for first, end in sorted(self.left_out):
            if first <= sample < end:
                sample = end
        return sample
