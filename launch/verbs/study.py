"""acn study"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline import Problem
from eval import EvalError
from eval.studies import STUDIES, StudyConfig
from eval.tasks import TASKS

from ..tracking import TrackingConfig
from . import large_imports, say_start, say_where

if TYPE_CHECKING:
    from ..tracking import Tracker

COMMON = (
    "config", "studies", "model", "output", "tasks", "glue_dir", "seeds", "max_train_samples",
    "max_eval_samples", "epochs", "learning_rate", "precision", "tracking.mlflow",
)  # fmt: skip
CHOICES = {"studies": STUDIES, "tasks": tuple(TASKS)}
EXAMPLE = "acn study noise,early_exit --model runs/glue-acn/sst2 --output runs/studies"


@dataclass
class Args(StudyConfig):
    """Studies of a model: what it withstands, and what its layers do."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the numbers go besides OUTPUT/metrics.jsonl."""

    def problems(self) -> list[Problem]:
        return super().problems() + self.tracking.problems()


def run(args: Args) -> int:
    """Run each study; its numbers and picture are in OUTPUT/STUDY."""
    if problems := args.problems():
        raise EvalError(*problems)
    with large_imports():
        from eval.studies import STUDY_FILE, run_studies

        from ..tracking import open_tracker

    output = Path(args.output)
    trackers: list[Tracker] = []
    with ExitStack() as stack:

        def start() -> "Tracker":
            resolved = replace(args, tracking=args.tracking.resolved)
            tracker = open_tracker(args.tracking, output, output.name, _params(resolved), {"verb": "study"})
            trackers.append(stack.enter_context(tracker))
            tracker.log_config(resolved)
            say_start(tracker)
            return tracker

        @contextmanager
        def start_child(name: str, folder: Path) -> "Iterator[Tracker]":
            tags = {"verb": "study", "cell": name}
            with open_tracker(args.tracking, folder, name, {}, tags, trackers[0].mlflow_run_id) as tracker:
                yield tracker

        run_studies(args, start, start_child)
    print(f"results: {output}/STUDY/{STUDY_FILE}   pictures: {output}/STUDY/STUDY.png")
    say_where(trackers)
    return 0


def _params(args: Args) -> dict[str, Any]:
    """The settings as MLflow's parameters, without those that are open until the study knows its model and machine."""
    left_open = {"learning_rate": None, "precision": "auto"}
    return {name: value for name, value in asdict(args).items() if name not in left_open or value != left_open[name]}
