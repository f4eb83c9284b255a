"""SkyPilot: nodes rented from a cloud, replaced by themselves when they are taken away."""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem

from .submit import passed_on, program


@dataclass
class SkyPilotConfig:
    """SkyPilot's own options."""

    gpu: str = "H100"
    """Kind of GPU, as `sky gpus list` names it."""
    bucket: str = "my-acn-bucket"
    """Bucket for data and runs, mounted at /shared on every node."""

    template = "pretrain.yaml"

    def problems(self, nodes: int) -> list[Problem]:
        """None: the clouds are SkyPilot's to check."""
        return []

    def submit(self, script: Path) -> str:
        """Start a managed job, which SkyPilot restarts when its nodes are taken away."""
        sky = program("sky", "install it in an environment of its own: pip install 'skypilot[aws]'")
        return passed_on([sky, "jobs", "launch", "--yes", "--detach-run", str(script)], "sky jobs queue shows it")
