"""acn compress"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import Problem
from eval import EvalError
from eval.compress import CompressConfig

from ..tracking import TrackingConfig
from . import large_imports, say_start, say_where

if TYPE_CHECKING:
    from eval.compress import CutSummary

    from ..tracking import Tracker

COMMON = (
    "config", "model", "output", "tolerance", "depth", "one_standard_error", "max_params", "max_mb",
    "max_gflops", "max_latency_ms", "precision", "glue_dir", "dataset.path", "force", "int8",
)  # fmt: skip
EXAMPLE = "acn compress --model runs/glue-acn/sst2 --tolerance 0.01 --output runs/small"


@dataclass
class Args(CompressConfig):
    """Cut a fine-tuned model at the smallest depth that stays within the tolerance, or by another rule."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the cut and its model are recorded besides OUTPUT/cut.json."""

    def problems(self) -> list[Problem]:
        return super().problems() + self.tracking.problems()


def run(args: Args) -> int:
    """Write the small model and say what was gained."""
    if problems := args.problems():
        raise EvalError(*problems)
    with large_imports():
        from eval.compress import compress_model

    summary = compress_model(args)
    trackers = [_record(args, summary)] if args.tracking.mlflow is not None else []
    print("\n".join(summary.lines()))
    print(f"next: acn publish {args.output} --repo_id OWNER/NAME --dry_run --output HUB")
    say_where(trackers)
    return 0


def _record(args: Args, summary: "CutSummary") -> "Tracker":
    """The cut as a run of its own, child of the suite that its source belongs to, with the small model's files."""
    from ..tracking import open_tracker, read_state

    output = Path(args.output)
    parent = read_state(Path(args.model).resolve().parent).get("run_id")
    params = asdict(replace(args, tracking=args.tracking.resolved)) | {"scored_in": summary.precision}
    if summary.speed is not None:
        params["precision"] = summary.speed.precision
    names = ("depth", "score", "full_score", "params", "full_params", "flops", "full_flops")
    files = [path for path in sorted(output.iterdir()) if path.is_file()]
    with open_tracker(args.tracking, output, output.name, params, {"verb": "compress"}, parent) as to:
        say_start(to)
        values = {f"{summary.task}/cut/{name}": float(getattr(summary, name)) for name in names}
        # and what suites and trials have, under their names
        values |= {f"{summary.task}/full_score": summary.full_score, f"{summary.task}/cut_depth": float(summary.depth)}
        to.log_metrics(values, step=0)
        for path in files:
            to.log_figure(path, "model")
    return to
