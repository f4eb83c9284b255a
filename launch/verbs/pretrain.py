"""acn pretrain"""

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import Problem
from pretrain import EXIT_STOPPED, PretrainConfig, PretrainError, plain_problems

from ..errors import reported
from ..ranks import count_problems, run_local_ranks
from ..tracking import TrackingConfig
from . import large_imports, say_where

if TYPE_CHECKING:
    from ..tracking import Tracker

COMMON = (
    "config", "data", "output", "nproc_per_node", "model.connectivity", "steps", "global_batch_size",
    "micro_batch_size", "optim.lr", "precision", "zero_stage", "seed", "checkpoint.every", "tracking.mlflow",
)  # fmt: skip
EXAMPLE = "acn pretrain --config acn-mini --data runs/tokens --output runs/acn --nproc_per_node 2"


@dataclass
class Args(PretrainConfig):
    """Pretrain an encoder on a prepared corpus; the defaults are the ACN paper's recipe."""

    nproc_per_node: int = 1
    """Ranks to start on this machine. Leave it at 1 under torchrun, `deepspeed` or srun, which start all of them."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the numbers go besides RUN/metrics.jsonl."""

    def problems(self) -> list[Problem]:
        found = super().problems() + self.tracking.problems()
        return found + count_problems(self.nproc_per_node)


def problems(args: Args) -> list[Problem]:
    """What shows without torch."""
    return plain_problems(args)


def run(args: Args) -> int:
    """Check everything once, then train in one process per rank (DeepSpeed's state outlives a run in its process)."""
    if "WORLD_SIZE" in os.environ:  # a launcher has started this rank among others
        return _train(args)
    if found := problems(args):
        raise PretrainError(*found)
    with large_imports():
        from pretrain import check_run

    args = check_run(args, args.nproc_per_node)
    return run_local_ranks(args.nproc_per_node, _run_rank, args)


def _run_rank(args: Args) -> int:
    """A rank in a process of its own, which reports its own errors."""
    return reported("pretrain", lambda: _train(args))


def _train(args: Args) -> int:
    from pretrain import pretrain, with_sizes

    from ..console import open_console
    from ..tracking import open_tracker

    args, folder = with_sizes(args), Path(args.output)
    with ExitStack() as stack:
        trackers: list[Tracker] = []

        def start() -> "Tracker":
            tags = {"verb": "pretrain", "connectivity": args.model.connectivity}
            resolved = replace(args, tracking=args.tracking.resolved)
            tracker = open_tracker(args.tracking, folder, folder.name, asdict(resolved), tags)
            trackers.append(stack.enter_context(tracker))
            tracker.log_config(resolved)
            for line in tracker.start_lines():
                console.say(line)
            return tracker

        console = stack.enter_context(open_console(f"{folder.name}: {args.model.connectivity}"))
        finished = pretrain(args, start, console)
        if trackers:  # rank 0
            trackers[0].close("FINISHED" if finished else "KILLED")
            _say_end(folder, finished)
            say_where(trackers)
    # torchrun starts ranks again that end with anything but 0, a run that was asked to stop too, and hides their code
    return 0 if finished or "TORCHELASTIC_RUN_ID" in os.environ else EXIT_STOPPED


def _say_end(folder: Path, finished: bool) -> None:
    if finished:
        print(f"model: {folder}/model   metrics: {folder}/metrics.jsonl   picture: {folder}/pretraining.png")
        print(f"next: acn glue --model {folder}/model --tasks sst2 --output runs/glue")
    else:
        print(f"stopped; go on with: acn pretrain --config {folder}/config.yaml")
