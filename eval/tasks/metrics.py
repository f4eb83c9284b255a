"""How predictions for a task are scored."""

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from ..errors import Diverged, EvalError
from .task import Task


def _correlation(kind: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    for values in (predictions, labels):
        # the same input in batches of other shapes differs by rounding, whose correlation would be noise
        if np.ptp(values) <= 1e-6 * np.abs(values).max():
            return 0.0
    measure = stats.pearsonr if kind == "pearson" else stats.spearmanr
    return float(measure(predictions, labels).statistic)


def compute_metrics(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of `task`.

    A correlation with constant predictions or labels (up to a relative 1e-6, float32 rounding) is undefined and counts
    as 0.0, as do Matthews' coefficient and F1 (of class 1) without positives: a model that says one thing only knows
    nothing.

    Args:
        predictions: (N,) class ids, or floats for regression.
        labels: (N,) the same for the truth.

    Raises:
        EvalError: no examples, or predictions that are not finite.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or predictions.ndim != 1:
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must both be (N,)")
    if not len(labels):
        raise EvalError(f"{task.name}: there are no examples to score")
    if not np.isfinite(predictions).all():
        raise Diverged(f"{task.name}: the model predicts NaN or infinity, its training diverged: lower learning_rate")
    scores: dict[str, float] = {}
    for metric in task.metrics:
        if metric == "accuracy":
            scores[metric] = float(sk.accuracy_score(labels, predictions))
        elif metric == "f1":
            scores[metric] = float(sk.f1_score(labels, predictions, zero_division=0.0))
        elif metric == "matthews":
            # with one class scikit-learn gives 0.0 as well, and a warning
            scores[metric] = float(sk.matthews_corrcoef(labels, predictions)) if np.ptp(labels) else 0.0
        else:
            scores[metric] = _correlation(metric, predictions.astype(np.float64), labels.astype(np.float64))
    return scores
