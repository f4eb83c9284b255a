"""What is kept of a job: every raw score, in the form that claim.json has."""

from pathlib import Path
from typing import Any

from eval import read_json, read_results, read_trial
from eval.report import STUDY_FILE
from pretrain.observe import Curves, read_metrics

from .commands import STUDIES, Home
from .corpus import baseline
from .plan import Job

_KEPT_PREFIXES = ("validation/", "probe/gradient_norm_layer_", "probe/direct_share_layer_", "train/loss")
_KEPT_RESULTS = ("task", "metric", "seed", "connectivity", "full_score", "depth_scores", "cut_depth", "tolerance",
                 "params_by_depth", "flops_by_depth", "seq_length", "majority_score", "metrics",
                 "standard_error")  # fmt: skip
_KEPT_TRAINING = ("learning_rate", "epochs", "batch_size", "samples", "steps", "seconds", "device")


def collect(job: Job, home: Home) -> dict[str, Any]:
    """The result of a job whose commands have ended well.

    Raises:
        OSError, KeyError, EvalError, DataError: they left something else behind than they should have.
    """
    output = home.output(job.name)
    if job.kind == "corpus":
        return baseline(home.tokens)
    if job.kind == "rate":
        return {"validation_loss": last(read_metrics(output)["validation/loss"])}
    if job.kind == "pretrain":
        return _pretraining(output)
    if job.kind == "finetune":
        return _finetuning(output / str(job.task))
    return {name: _study(output / name) for name in STUDIES.split(",")}


def last(curve: dict[int, float]) -> float:
    """The value at the last step."""
    return curve[max(curve)]


def _pretraining(run: Path) -> dict[str, Any]:
    """Curves by step, and the tokens of each step that has a validation."""
    metrics = read_metrics(run)
    if not (run / "model" / "config.json").is_file():
        raise FileNotFoundError(f"{run} has no finished model")
    per_step = last(metrics["train/tokens"]) / max(metrics["train/tokens"])
    kept = {name: curve for name, curve in metrics.items() if name.startswith(_KEPT_PREFIXES)}
    return {
        "steps": max(metrics["train/tokens"]),
        "tokens": last(metrics["train/tokens"]),
        "tokens_per_step": per_step,
        "tokens_per_second": last(metrics["train/tokens_per_second"]),
        "validation_loss": last(metrics["validation/loss"]),
        "validation_accuracy": last(metrics["validation/accuracy"]),
        "curves": {name: {str(step): _short(value) for step, value in curve.items()} for name, curve in kept.items()},
    }


def curves_of(result: dict[str, Any]) -> Curves:
    """The curves of a pretraining's result, as `pretrain.observe.figures` draws them."""
    return {name: {int(step): value for step, value in curve.items()} for name, curve in result["curves"].items()}


def _short(value: float) -> float:
    """Six significant digits: more than a figure or a table shows."""
    return float(f"{value:.6g}")


def _finetuning(folder: Path) -> dict[str, Any]:
    """Each seed's scores at every depth, and the speed that was measured."""
    together = read_results(folder)
    trials = [read_trial(folder / f"seed-{seed}") for seed in together.all_seeds]
    seeds = [
        {name: getattr(trial, name) for name in _KEPT_RESULTS}
        | {"train": {name: trial.train[name] for name in _KEPT_TRAINING if name in trial.train}}
        for trial in trials
    ]
    about = together.to_json()
    return {"seeds": seeds, **{name: about[name] for name in ("speed", "selection", "grid") if name in about}}


def _study(folder: Path) -> dict[str, Any]:
    content = read_json(folder / STUDY_FILE)
    return {name: value for name, value in content.items() if name != "settings"} | {"model": folder.parent.parent.name}
