"""acn study"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import Problem
from eval import EvalError
from eval.studies import STUDIES, StudyConfig
from eval.tasks import TASKS

from ..tracking import TrackingConfig
from . import large_imports

if TYPE_CHECKING:
    from ..tracking import Tracker

COMMON = (
    "config", "studies", "model", "output", "tasks", "glue_dir", "seeds", "max_train_samples",
    "max_eval_samples", "epochs", "learning_rate", "tracking.mlflow",
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
    with ExitStack() as stack:

        def start() -> "Tracker":
            return stack.enter_context(
                open_tracker(args.tracking, output, output.name, asdict(args), {"verb": "study"})
            )

        run_studies(args, start)
    print(f"results: {output}/STUDY/{STUDY_FILE}   pictures: {output}/STUDY/STUDY.png")
    return 0
