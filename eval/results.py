"""The contract of results.json, which fine-tuning writes and `compress` and `report` read."""

import math
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from .errors import EvalError
from .files import read_json

RESULTS_FILE, FIGURE_FILE = "results.json", "depth.png"


class Results(TypedDict):
    """One fine-tuning on one task with one seed. Scores are of the metric `metric`, lists are by depth 0, 1, ..., L."""

    task: str
    metric: str
    seed: int
    model: str
    """The pretrained folder."""
    connectivity: str
    full_score: float
    depth_scores: list[float]
    cut_depth: int
    tolerance: float
    params_by_depth: list[int]
    flops_by_depth: list[int]
    """Forward FLOPs of one sequence of `seq_length` tokens."""
    seq_length: int
    majority_score: float
    """What always answering the commonest validation label scores."""
    metrics: dict[str, dict[str, list[float]]]
    """Every validation split: every metric, by depth. `depth_scores` is `metric` on the first one."""
    train: dict[str, Any]
    """Hyperparameters and what happened in training."""
    standard_error: NotRequired[float]
    """Of `full_score`, over the validation examples: sqrt(p (1 - p) / N) for accuracy, by bootstrap otherwise."""
    absent_splits: NotRequired[list[str]]
    """Splits that the task has by rights and the data has not."""
    recut: NotRequired[list[dict[str, float]]]
    """Cut, then trained on: `depth`, `epochs`, `score_before`, `score`."""
    probes: NotRequired[dict[str, list[float]]]
    """Scores of linear probes by depth, on the features of the "pretrained" and of the "finetuned" encoder."""
    settings: NotRequired[dict[str, Any]]
    """All that the numbers depend on; a suite is resumed with the same settings only."""
    seeds: NotRequired[list[int]]
    """Of a task with its seeds together: all of them. The other fields are those of the seed `seed`."""
    selection: NotRequired[str]
    """How `seed`, and its epoch and hyperparameters, were chosen."""
    aggregate: NotRequired["Aggregate"]
    speed: NotRequired[dict[str, Any]]
    """Latency and throughput, measured; see `speed.measure_speed`."""
    diagnostic: NotRequired[dict[str, float]]
    """Of MNLI: Matthews' coefficient on GLUE's diagnostic set `ax`, where its labels are known."""
    grid: NotRequired[list[dict[str, Any]]]
    """Every point of the grid that was tried, with its score."""


class Aggregate(TypedDict):
    """The seeds of a task together. Lists by depth are of the metric `metric` on the first validation split."""

    by_seed: dict[str, list[float]]
    """The depth scores of each seed."""
    depth_mean: list[float]
    depth_std: list[float] | None
    """Sample standard deviation (n - 1) over the seeds; None with one seed."""
    standard_error: float
    """Of the mean full score: over validation examples and over seeds, their squares added."""
    cut_depth_tolerance: int
    """The smallest depth whose mean is within `tolerance` of the full model's."""
    cut_depth_one_standard_error: int
    """The smallest depth whose mean is within one standard error of the full model's (Breiman et al. 1984)."""
    glue_scores: list[float]
    """The task's part of the GLUE average for each seed: the mean of its metrics, of MNLI's two splits."""


_KINDS: dict[str, type | tuple[type, ...]] = {
    "task": str,
    "metric": str,
    "seed": int,
    "model": str,
    "connectivity": str,
    "full_score": (int, float),
    "depth_scores": list,
    "cut_depth": int,
    "tolerance": (int, float),
    "params_by_depth": list,
    "flops_by_depth": list,
    "train": dict,
}


def _problems(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return ["it is not an object"]
    absent = [key for key in _KINDS if key not in value]
    if absent:
        return [f"{', '.join(absent)} missing"]
    wrong = [key for key, kind in _KINDS.items() if not isinstance(value[key], kind)]
    if wrong:
        return [f"{', '.join(wrong)} of the wrong type"]
    problems = []
    depths = len(value["depth_scores"])
    for key in ("depth_scores", "params_by_depth", "flops_by_depth"):
        numbers = [x for x in value[key] if isinstance(x, int | float) and math.isfinite(x)]
        if len(numbers) != depths or len(value[key]) != depths or not depths:
            problems.append(f"{key} is not one number per depth")
    if not 0 <= value["cut_depth"] < depths:
        problems.append(f"cut_depth={value['cut_depth']} is outside 0..{depths - 1}")
    return problems


def is_cut_model(value: Any) -> bool:
    """Whether a results.json belongs to a model that `compress` cut (it has one depth only, and a source)."""
    return isinstance(value, dict) and "source" in value and "depth_scores" not in value


def check_results(value: Any, path: Path) -> Results:
    """`value`, read from `path`, as [`Results`].

    Raises:
        EvalError: the file is not a complete result of fine-tuning.
    """
    if problems := _problems(value):
        raise EvalError(f"{path} is not a result of fine-tuning: {'; '.join(problems)}: run `acn glue` again")
    return cast(Results, value)


def read_results(folder: Path) -> Results:
    """The results.json in `folder`.

    Raises:
        EvalError: there is none, or it is not a complete result of fine-tuning.
    """
    path = folder / RESULTS_FILE
    if not path.is_file():
        raise EvalError(f"{folder} has no {RESULTS_FILE}: give a folder that `acn glue` wrote (OUTPUT/TASK)")
    return check_results(read_json(path), path)


def size_mb(params: int) -> float:
    """Megabytes (2**20 bytes, as in the paper's tables) of float32 weights."""
    return params * 4 / 2**20
