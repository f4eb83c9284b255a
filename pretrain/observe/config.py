"""What is measured of a run besides its metrics."""

from dataclasses import dataclass

from data_pipeline import Problem


@dataclass
class ProbesConfig:
    """Measurements of the gradient inside the network."""

    every: int = 0
    """Steps between two probes of the gradient of every layer (norm, and the share that comes directly through the
    read-out), each of one micro-batch; 0: none."""

    def problems(self) -> list[Problem]:
        return [Problem("probes.every", self.every, "must not be negative")] if self.every < 0 else []


@dataclass
class ProfileConfig:
    """Steps to trace with torch.profiler."""

    start: int = 10
    """First step to trace (1 is the run's first)."""
    steps: int = 0
    """How many steps to trace, each some tens of megabytes for a BERT-base; 0: none."""
    all_ranks: bool = False
    """Trace every rank, not only rank 0: to see who waits for whom."""

    def problems(self) -> list[Problem]:
        found = []
        if self.start < 1:
            found.append(Problem("profile.start", self.start, "must be at least 1, the first step"))
        if self.steps < 0:
            found.append(Problem("profile.steps", self.steps, "must not be negative"))
        return found
