"""acn glue"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline import Problem
from eval import EvalError
from eval.glue import FinetuneConfig
from eval.tasks import FIELDS, TASKS

from ..errors import reported
from ..ranks import count_problems, run_local_ranks, server_of_ranks
from ..tracking import TrackingConfig
from . import large_imports, say_start, say_where

if TYPE_CHECKING:
    from ..tracking import Tracker

COMMON = (
    "config", "model", "tasks", "output", "glue_dir", "dataset.path", "dataset.train_file", "seeds", "epochs",
    "learning_rate", "batch_size", "precision", "tolerance", "nproc_per_node", "tracking.mlflow",
)  # fmt: skip
CHOICES = {"tasks": tuple(TASKS)}
EXAMPLE = "acn glue --model runs/acn/model --tasks sst2,rte --seeds 1,2,3 --output runs/glue-acn"


@dataclass
class Args(FinetuneConfig):
    """Fine-tune a pretrained model on GLUE tasks and score the read-out of every depth."""

    nproc_per_node: int = 1
    """Ranks to start on this machine. Leave it at 1 under torchrun or `accelerate launch`, which start all of them."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the numbers go besides OUTPUT/metrics.jsonl."""

    def problems(self) -> list[Problem]:
        found = super().problems() + self.tracking.problems()
        return found + count_problems(self.nproc_per_node)


def run(args: Args) -> int:
    """Fine-tune each task with each seed; what came of it is in OUTPUT/TASK."""
    if problems := args.problems():
        raise EvalError(*problems)
    if args.nproc_per_node > 1 and "WORLD_SIZE" not in os.environ:
        with server_of_ranks(["eval.glue.suite", "launch.tracking.tracker", __name__]):
            from eval.glue import check_suite

            check_suite(args, args.nproc_per_node)  # mistakes are said once, by this process
            return run_local_ranks(args.nproc_per_node, _run_rank, args)
    return _run_suite(args)


def _run_rank(args: Args) -> int:
    return reported("glue", lambda: _run_suite(args))


def _run_suite(args: Args) -> int:
    with large_imports():
        from eval import is_at_chance, leave_ranks
        from eval.glue import TRACKING_FOLDER, run_suite

        from ..tracking import open_tracker

    output, resolved = Path(args.output), replace(args, tracking=args.tracking.resolved)
    trackers: list[Tracker] = []
    with ExitStack() as stack:

        def start() -> "Tracker":
            tracker = open_tracker(args.tracking, output, output.name, _params(resolved), {"verb": "glue"})
            trackers.append(stack.enter_context(tracker))
            tracker.log_config(resolved)
            say_start(tracker)
            return tracker

        @contextmanager
        def start_trial(name: str) -> "Iterator[Tracker]":
            parent, tags = trackers[0].mlflow_run_id, {"verb": "glue", "cell": name}
            task = name.partition("/")[0]
            mine = replace(resolved, tasks=task, seeds=None, grid=type(args.grid)())  # what repeats this trial alone
            folder = output / TRACKING_FOLDER / name
            with open_tracker(args.tracking, folder, name, _params(mine), tags, parent) as tracker:
                tracker.log_config(mine)
                yield tracker

        stack.callback(leave_ranks)
        results = run_suite(args, start, start_trial)
        for tracker in trackers:  # of the first rank
            for task in args.task_names:
                tracker.log_model(output / task)
            print(f"results: {output}/TASK/results.json   pictures: {output}/TASK/depth.png")
            able = [one.task for one in results if not is_at_chance(one)]
            small = f"acn compress --model {output}/{able[0]} --output SMALL;  " if able else ""
            print(f"next: {small}acn report {output} --output REPORT")
    say_where(trackers)
    return 0


def _params(args: Args) -> dict[str, Any]:
    """The settings as MLflow's parameters, without those that are open until the suite knows its tasks and trials."""
    left_open = {"seed", *(name for name in FIELDS if getattr(args, name) is None)}
    left_open |= {"precision"} if args.precision == "auto" else set()
    return {name: value for name, value in asdict(args).items() if name not in left_open}
