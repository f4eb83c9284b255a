"""DeepSpeed's own launcher: one command on one machine, which starts the ranks of all over ssh."""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem

from .submit import passed_on, program


@dataclass
class DeepSpeedConfig:
    """The deepspeed launcher's own options."""

    hostfile: str = "hostfile"
    """File with a line "HOST slots=GPUS" for every node; all must be open to ssh without a password."""

    template = "pretrain.sh"

    def problems(self, nodes: int) -> list[Problem]:
        """None: an example's hosts may be missing until the job starts."""
        return []

    def submit(self, script: Path) -> str:
        """Start all nodes, and wait for the end."""
        program("pdsh", "install it (Debian: apt-get install pdsh), the launcher drives ssh with it")
        program("ssh")
        return passed_on([program("bash"), str(script)], "the job has ended")
