"""When checkpoints are written and which are kept."""

from dataclasses import dataclass
from typing import Literal

from data_pipeline import Problem


@dataclass
class CheckpointConfig:
    """When to save and what to keep."""

    every: int = 500
    """Steps between two checkpoints; stopping and finishing always write one. 0: only then."""
    keep: int = 2
    """Complete checkpoints to keep; older ones are deleted."""
    keep_every: int = 0
    """Keep those at multiples of this many steps for good. 0: none."""
    asynchronous: bool = False
    """Write in the background from a copy in host memory; training waits for the copy only."""
    export_every: int = 0
    """Steps between two Hugging Face folders RUN/models/step-0000500, made of a checkpoint. 0: only at the end."""
    damaged: Literal["stop", "restart"] = "stop"
    """What a run does that had checkpoints of which none is sound any more: stop and say so, or put them aside and
    start over."""

    def problems(self) -> list[Problem]:
        found = []
        for name in ("every", "keep_every", "export_every"):
            if getattr(self, name) < 0:
                found.append(Problem(f"checkpoint.{name}", getattr(self, name), "must not be negative"))
        if self.damaged not in ("stop", "restart"):
            found.append(Problem("checkpoint.damaged", self.damaged, "is unknown", "use stop or restart"))
        if self.keep < 1:
            found.append(Problem("checkpoint.keep", self.keep, "must be at least 1"))
        for name in ("keep_every", "export_every"):
            if getattr(self, name) > 0 and (self.every == 0 or getattr(self, name) % self.every):
                found.append(
                    Problem(
                        f"checkpoint.{name}",
                        getattr(self, name),
                        f"must be a multiple of checkpoint.every={self.every}",
                    )
                )
        return found
