"""acn track"""

from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline import Problem, UserError

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
    """Folders of runs: each has a metrics.jsonl. Whatever else is named, as by runs/*, is passed over."""
    tracking: SyncConfig = field(default_factory=SyncConfig)
    """The server."""

    def problems(self) -> list[Problem]:
        found = self.tracking.problems()
        if self.action == "sync":
            return found
        return [Problem("", wrong=f"{self.action!r} is no action of `acn track`", fix="use sync"), *found]


def run(args: Args) -> int:
    """Check the request, then sync one run after the other and say where each is."""
    if problems := args.problems():
        raise LaunchError(*problems)
    return _sync_all([Path(folder) for folder in args.runs], args.tracking)


def _sync_all(folders: list[Path], config: SyncConfig) -> int:
    """Sync what is a run; one that cannot be sent stops none of the others, and is told of at the end."""
    from ..tracking import is_run, sync_run

    problems: list[Problem] = []
    runs = [folder for folder in folders if is_run(folder)]
    for folder in folders:
        if not folder.exists():
            problems.append(Problem(str(folder), wrong="is not there", fix="give the folder of a run"))
        elif folder not in runs:
            print(f"{folder}: no run, passed over")
    if not runs and not problems:
        problems.append(
            Problem("runs", wrong=": none of these is a run, which has a metrics.jsonl", fix="give folders of runs")
        )
    for folder in runs:
        try:
            run_id, lines = sync_run(folder, config)
        except UserError as error:
            problems += error.problems
        else:
            print("\n".join([f"{folder}: is run {run_id}", *lines]))
    if problems:
        raise LaunchError(*problems)
    return 0
