"""The seeds of a task as one result (mean, deviation, standard error, cut depths), and GLUE's average over tasks."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..depth import cut_depth
from ..errors import EvalError
from ..results import Aggregate, TaskResults, TrialResults
from ..tasks import GLUE_TASKS, Task, compute_metrics

BOOTSTRAP_SAMPLES = 200


def standard_error(task: Task, predictions: np.ndarray, labels: np.ndarray) -> float:
    """Standard error of the task's primary metric over the N examples it was measured on.

    The binomial one for accuracy, else by bootstrap (Efron 1979) with 200 seeded samples.

    Args:
        predictions, labels: (N,), as for `compute_metrics`.
    """
    score = compute_metrics(task, predictions, labels)[task.metric]
    if task.metric == "accuracy":
        return math.sqrt(score * (1 - score) / len(labels))
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(BOOTSTRAP_SAMPLES):
        rows = rng.integers(0, len(labels), len(labels))
        scores.append(compute_metrics(task, predictions[rows], labels[rows])[task.metric])
    return statistics.stdev(scores)


def glue_score(results: TrialResults) -> float:
    """The task's score as GLUE counts it: the mean of its metrics, and of MNLI's matched and mismatched split."""
    assert results.metrics is not None, "aggregate_seeds has looked"
    full = [by_depth[-1] for by_metric in results.metrics.values() for by_depth in by_metric.values()]
    return statistics.fmean(full)


def aggregate_seeds(trials: Sequence[TrialResults], tolerance: float) -> Aggregate:
    """The seeds of one task together.

    Raises:
        EvalError: a trial states no metrics or no standard error, as those of old versions do.
    """
    errors = [trial.standard_error for trial in trials if trial.standard_error is not None]
    if old := [trial.seed for trial in trials if trial.metrics is None or trial.standard_error is None]:
        seeds = ", ".join(map(str, old))
        raise EvalError(f"{trials[0].task}: seed {seeds} has no metrics or no standard error: run `acn glue` again")
    by_depth = list(zip(*(trial.depth_scores for trial in trials), strict=True))
    mean = [statistics.fmean(scores) for scores in by_depth]
    deviation = [statistics.stdev(scores) for scores in by_depth] if len(trials) > 1 else None
    # every seed is measured on the same examples, so more seeds do not make their share of the error smaller
    examples = statistics.fmean(errors)
    between = deviation[-1] / math.sqrt(len(trials)) if deviation is not None else 0.0
    error = math.hypot(examples, between)
    return Aggregate(
        by_seed={str(trial.seed): trial.depth_scores for trial in trials},
        depth_mean=mean,
        depth_std=deviation,
        standard_error=error,
        cut_depth_tolerance=cut_depth(mean, mean[-1], tolerance),
        cut_depth_one_standard_error=cut_depth(mean, mean[-1], error),
        glue_scores=[glue_score(trial) for trial in trials],
    )


def _mean_and_std(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def glue_average(tasks: Mapping[str, TaskResults]) -> dict[str, Any] | None:
    """GLUE's average: the mean over tasks of each task's mean metric (macro average), for every seed, then over seeds.

    Tasks that are not GLUE's do not count. WNLI, which most papers leave out, is in `average` and not in
    `average_without_wnli`.

    Returns:
        None when there is no GLUE task. `missing` names the GLUE tasks without results: an average over fewer than nine
        is not GLUE's score.
    """
    here = [name for name in GLUE_TASKS if name in tasks]
    if not here:
        return None
    by_task = {name: _glue_scores(tasks[name]) for name in here}
    # the seeds that every task has
    seeds = sorted(set.intersection(*(set(scores) for scores in by_task.values())))
    averages = {}
    for key, names in (("average", here), ("average_without_wnli", [name for name in here if name != "wnli"])):
        if names and seeds:
            averages[key] = _mean_and_std([statistics.fmean(by_task[n][seed] for n in names) for seed in seeds])
    return averages | {
        "seeds": seeds,
        "tasks": {name: _mean_and_std(list(scores.values())) for name, scores in by_task.items()},
        "missing": [name for name in GLUE_TASKS if name not in tasks],
        "absent_splits": {name: tasks[name].absent_splits for name in here if tasks[name].absent_splits},
        "precision": {name: tasks[name].precision for name in here},
        "by": "validation splits; the mean of a task's metrics, then of the tasks",
    }


def _glue_scores(results: TaskResults) -> dict[int, float]:
    """By seed."""
    assert results.aggregate is not None, "only tasks whose seeds stand together are averaged"
    return dict(zip(results.all_seeds, results.aggregate.glue_scores, strict=True))
