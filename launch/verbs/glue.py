"""acn glue"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from eval import EvalError, FinetuneConfig, finetune

from ..tracking import Tracker, TrackingConfig, open_tracker


@dataclass
class Args(FinetuneConfig):
    """Fine-tune a pretrained model on GLUE tasks and score the read-out of every depth."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the numbers go besides OUTPUT/metrics.jsonl."""


def run(args: Args) -> int:
    """Fine-tune each task in turn; its model, results.json and depth curve are in OUTPUT/TASK."""
    if problems := args.tracking.problems():
        raise EvalError("\n".join(problems))
    output = Path(args.output)
    with ExitStack() as stack:
        trackers: list[Tracker] = []

        def start() -> Tracker:
            tracker = open_tracker(args.tracking, output, output.name, asdict(args), {"verb": "glue"})
            trackers.append(stack.enter_context(tracker))
            return tracker

        finetune(args, start)
        for task in args.task_names:
            trackers[0].log_model(output / task)
    print(f"results: {output}/TASK/results.json   pictures: {output}/TASK/depth.png")
    print(
        f"next: acn compress --model {output}/{args.task_names[0]} --output SMALL;  acn report {output} --output REPORT"
    )
    return 0
