"""acn track"""

from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline import Problem

from ..errors import LaunchError
from ..tracking import SyncConfig

CHOICES = {"action": ("sync",)}
EXAMPLE = "acn track sync runs/acn --tracking.mlflow http://server:5000"


@dataclass
class Args:
    """Bring the records of runs to an MLflow server."""

    action: str
    """sync: send everything of the runs that the server does not have."""
    runs: list[str]
    """Folders of runs: each has a metrics.jsonl."""
    tracking: SyncConfig = field(default_factory=SyncConfig)
    """The server."""

    def problems(self) -> list[Problem]:
        found = self.tracking.problems()
        if self.action == "sync":
            return found
        return [Problem("", wrong=f"{self.action!r} is no action of `acn track`", fix="use sync"), *found]


def run(args: Args) -> int:
    """Sync one run after the other, and say where each is."""
    if problems := args.problems():
        raise LaunchError(*problems)
    from ..tracking import check_run_dir, sync_run

    for folder in args.runs:
        check_run_dir(Path(folder), args.tracking)
    for folder in args.runs:
        store, run_id = sync_run(Path(folder), args.tracking)
        print(f"{folder}: run {run_id} at {store}")
    return 0
