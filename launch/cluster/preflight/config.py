"""What preflight asks of the machines."""

from dataclasses import dataclass

from data_pipeline import Problem


@dataclass
class PreflightConfig:
    """Limits of the checks. What is outside them is a fault, and the exit code 1."""

    arrival_seconds: float = 45.0
    """How long the ranks wait for each other at first; then the missing ones are named."""
    seconds: float = 50.0
    """The longest that the checks take once the ranks have met; one that is not done by then is a fault."""
    clock_seconds: float = 1.0
    """How far the clock of a node may be from that of the first."""
    straggler: float = 0.5
    """A rank whose matrix products are slower than this share of the median rank's is a straggler. Below 0.8 of it
    there is a warning."""
    peak_share: float = 0.4
    """A GPU that reaches less than this share of its data sheet's peak in large matrix products gets a warning."""
    free_memory: float = 0.9
    """Share of a GPU's memory that must be free: what is taken belongs to somebody else's process."""
    slow_pair: float = 0.5
    """Two nodes whose all-reduce has less than this share of the bandwidth that a quarter of the pairs reach have a bad
    link."""
    bandwidth: float = 0.0
    """GB/s of bus bandwidth (nccl-tests' measure) that the all-reduce over all ranks must reach. 0: any."""
    sample_mb: float = 64.0
    """Megabytes of token shards that each node reads and compares with the manifest, one shard at least."""
    scratch_gb: float = 1.0
    """Gigabytes that must be free in the folder for temporary files of each node."""

    def problems(self) -> list[Problem]:
        found = [
            Problem(f"preflight.{name}", getattr(self, name), "must be above 0")
            for name in ("seconds", "arrival_seconds", "clock_seconds")
            if not getattr(self, name) > 0
        ]
        found += [
            Problem(f"preflight.{name}", getattr(self, name), "must be within 0 and 1")
            for name in ("straggler", "peak_share", "free_memory", "slow_pair")
            if not 0 <= getattr(self, name) <= 1
        ]
        found += [
            Problem(f"preflight.{name}", getattr(self, name), "must not be negative")
            for name in ("bandwidth", "sample_mb", "scratch_gb")
            if not getattr(self, name) >= 0
        ]
        return found
