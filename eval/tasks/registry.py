"""Every task there is, how its data is read and how it is scored.

A folder in `glue_dir` that is not one of GLUE's nine is a task too when it has `sentence` or `sentence1`, `sentence2`,
and `label`.
"""

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats
from sklearn import metrics as sk

from ..errors import EvalError
from .glue import HUB_DATASET, LABEL, PAIR, TASKS, GlueTask
from .reading import hub_splits, load_hub_split, read_split, split_files


def _correlation(kind: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    for values in (predictions, labels):
        # the same input in batches of other shapes differs by rounding, whose correlation would be noise
        if np.ptp(values) <= 1e-6 * np.abs(values).max():
            return 0.0
    measure = stats.pearsonr if kind == "pearson" else stats.spearmanr
    return float(measure(predictions, labels).statistic)


def compute_metrics(task: GlueTask, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
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
        raise EvalError(f"{task.name}: the model predicts NaN or infinity, its training diverged: lower learning_rate")
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


def _local_tasks(glue_dir: Path) -> list[str]:
    return sorted(folder.name for folder in glue_dir.iterdir() if folder.is_dir() and split_files(folder, "train"))


def _infer_task(folder: Path) -> GlueTask:
    train = read_split(folder, "train", ("sentence", *PAIR))
    columns = PAIR if set(PAIR) <= set(train.column_names) else ("sentence",)
    absent = [column for column in (*columns, LABEL) if column not in train.column_names]
    if absent:
        raise EvalError(
            f"{folder}: its train split has the columns {', '.join(train.column_names)}, but a task needs sentence, or "
            f"sentence1 and sentence2, and label: rename them"
        )
    labels = train.data.column(LABEL)
    feature = train.features[LABEL]
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
    elif pa.types.is_integer(labels.type) and len(labels):
        names = tuple(str(label) for label in range((pc.max(labels).as_py() or 0) + 1))
    else:
        raise EvalError(f"{folder}: label is {labels.type} with {len(labels)} rows: give integers 0..n-1")
    if len(names) < 2:
        raise EvalError(f"{folder}: label has the single class 0: a task needs at least two, numbered 0..n-1")
    return GlueTask(folder.name, columns, names, ("accuracy",))


def find_task(name: str, glue_dir: str | None = None) -> GlueTask:
    """One of the nine tasks, or the one in the folder `glue_dir`/`name`, inferred from its training data (accuracy).

    Raises:
        EvalError: there is no such folder, or no such task; the message lists those that exist.
    """
    if glue_dir is not None and not Path(glue_dir).is_dir():
        raise EvalError(f"glue_dir={glue_dir} is not a folder: give one with TASK/SPLIT.parquet, or leave it out")
    if name in TASKS:
        return TASKS[name]
    there = _local_tasks(Path(glue_dir)) if glue_dir is not None else []
    if glue_dir is None or name not in there:
        local = f"; in glue_dir={glue_dir}: {', '.join(there) or 'none'}" if glue_dir is not None else ""
        raise EvalError(f"tasks: {name!r} is unknown: use {', '.join(TASKS)}{local}")
    return _infer_task(Path(glue_dir) / name)


def _check_columns(data: datasets.Dataset, columns: tuple[str, ...], where: str) -> None:
    absent = [column for column in columns if column not in data.column_names]
    if absent:
        raise EvalError(f"{where}: no column {', '.join(absent)}; it has {', '.join(data.column_names)}: rename them")
    if not len(data):
        raise EvalError(f"{where}: it is empty: give at least one example")


def _check_texts(task: GlueTask, split: str, data: datasets.Dataset, origin: str) -> None:
    """Raise `EvalError` unless the split has complete texts."""
    where = f"{origin}, split {split}"
    _check_columns(data, task.columns, where)
    for column in task.columns:
        values = data.data.column(column)
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise EvalError(f"{where}: column {column} is {values.type}: give strings")
        _check_filled(data, column, where)


def _check_filled(data: datasets.Dataset, column: str, where: str) -> None:
    if nulls := data.data.column(column).null_count:
        raise EvalError(f"{where}: column {column} has {nulls} empty values: fill or drop these rows")


def check_split(task: GlueTask, split: str, data: datasets.Dataset, origin: str) -> None:
    """Raise `EvalError` unless the split has the columns, complete texts, and labels in range."""
    where = f"{origin}, split {split}"
    _check_columns(data, (*task.columns, LABEL), where)
    _check_texts(task, split, data, origin)
    _check_filled(data, LABEL, where)
    values = data.data.column(LABEL)
    if task.is_regression:
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise EvalError(f"{where}: label is {values.type}: give numbers")
        if not np.isfinite(values.to_numpy()).all():
            raise EvalError(f"{where}: label has NaN or infinite values: drop these rows")
        return
    if not pa.types.is_integer(values.type):
        raise EvalError(f"{where}: label is {values.type}: give integers 0..{task.num_labels - 1}")
    low, high = pc.min(values).as_py(), pc.max(values).as_py()
    if low < 0 or high >= task.num_labels:
        raise EvalError(f"{where}: labels reach from {low} to {high}: they must lie in 0..{task.num_labels - 1}")


def _load(task: GlueTask, split: str, glue_dir: str | None) -> datasets.Dataset:
    if glue_dir is None:
        return load_hub_split(HUB_DATASET, task.name, split, "glue_dir")
    return read_split(Path(glue_dir) / task.name, split, task.columns)


def _existing(task: GlueTask, splits: tuple[str, ...], glue_dir: str | None) -> list[str]:
    """Which of these splits there are."""
    if not splits:
        return []
    if glue_dir is None:
        there = hub_splits(HUB_DATASET, task.name)
        return [split for split in splits if split in there]
    return [split for split in splits if split_files(Path(glue_dir) / task.name, split)]


def load_task(task: GlueTask, glue_dir: str | None = None) -> datasets.DatasetDict:
    """The training split and the validation splits, each with the text columns and `label` only.

    A validation split after the first that is not there is left out (GLUE mirrors often lack MNLI's mismatched one).

    Args:
        glue_dir: a folder with TASK/SPLIT.parquet (or .tsv, .csv, .jsonl, or the Hub's
            TASK/SPLIT-00000-of-0000N.parquet); None for the Hub.

    Raises:
        EvalError: a split is missing, unreadable or empty, a column is absent, a text or a label is empty, a label is
            outside the task's classes.
    """
    origin = f"{HUB_DATASET} {task.name}" if glue_dir is None else str(Path(glue_dir) / task.name)
    first, *others = task.validation_splits
    splits: dict[str, datasets.Dataset] = {}
    for split in ("train", first, *_existing(task, tuple(others), glue_dir)):
        data = _load(task, split, glue_dir)
        check_split(task, split, data, origin)
        splits[split] = data.select_columns([*task.columns, LABEL])
    return datasets.DatasetDict(splits)


def load_test_splits(task: GlueTask, glue_dir: str | None = None) -> dict[str, datasets.Dataset]:
    """The test splits that there are, with the text columns, and `label` and `idx` where the split has them.

    Raises:
        EvalError: a split is unreadable or empty, or a text column is absent, empty or no text.
    """
    splits = {}
    for split in _existing(task, task.test_splits, glue_dir):
        data = _load(task, split, glue_dir)
        _check_texts(task, split, data, f"{glue_dir or HUB_DATASET} {task.name}")
        kept = [name for name in (*task.columns, LABEL, "idx") if name in data.column_names]
        splits[split] = data.select_columns(kept)
    return splits
