"""SkyPilot: nodes rented from a cloud, replaced by themselves when they are taken away."""

import re
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem

from .kubernetes import image_problems
from .submit import program, run_in_foreground


@dataclass
class SkyPilotConfig:
    """SkyPilot's own options."""

    gpu: str = "H100"
    """Kind of GPU, as `sky gpus list` names it."""
    bucket: str = "my-acn-bucket"
    """Bucket for data and runs, mounted at /shared on every node."""

    image: str | None = None
    """Docker image that has acn-lm installed, see Dockerfile; left out, the nodes install it."""

    template = "pretrain.yaml"

    def problems(self, nodes: int) -> list[Problem]:
        """Which clouds have these is SkyPilot's to check."""
        wrong = "must be a name: letters, digits and . _ : - only"
        found = image_problems("skypilot.image", self.image)
        return found + [
            Problem(f"skypilot.{name}", repr(getattr(self, name)), wrong)
            for name in ("gpu", "bucket")
            if not re.fullmatch(r"[A-Za-z0-9][\w.:-]*", getattr(self, name))
        ]

    def submit(self, script: Path) -> str:
        """Start a managed job, which SkyPilot restarts when its nodes are taken away."""
        sky = program("sky", "install it in an environment of its own: pip install 'skypilot[aws]'")
        return run_in_foreground(
            [sky, "jobs", "launch", "--yes", "--detach-run", str(script)], "sky jobs queue shows it"
        )
