"""Plain torchrun: the same script on every node, with a fixed or a changing number of nodes."""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem

from .submit import passed_on, program


@dataclass
class TorchrunConfig:
    """Plain torchrun's own options."""

    head: str = "node1"
    """Name or address of the machine where the nodes meet: one of them, or with `min_nodes` a machine that outlives
    them, which runs the store."""
    min_nodes: int | None = None
    """Elastic: train with any number of nodes from this one to `nodes`. It needs the store running on `head`:
    python -P -m launch.cluster.engines.store PORT."""

    @property
    def template(self) -> str:
        """The script for a fixed or a changing number of nodes."""
        return "static.sh" if self.min_nodes is None else "elastic.sh"

    def problems(self, nodes: int) -> list[Problem]:
        if self.min_nodes is not None and not 1 <= self.min_nodes <= nodes:
            return [Problem("torchrun.min_nodes", self.min_nodes, f"must be from 1 to nodes={nodes}")]
        return []

    def submit(self, script: Path) -> str:
        """Run the part of this node, to its end."""
        return passed_on([program("bash"), str(script)], "this node's part has ended")
