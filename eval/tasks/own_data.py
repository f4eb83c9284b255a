"""Any other text classification data set, local or on the Hub, by naming its columns."""

from pathlib import Path

import datasets

from .config import DatasetConfig
from .labels import find_classes
from .reading import check_columns, load_hub_split, load_splits, read_split
from .rows import Rows
from .task import Task


def _read(config: DatasetConfig, split: str) -> list[Rows]:
    """The rows of a split."""
    assert config.path is not None
    wanted = (*config.columns, config.label_column)
    if Path(config.path).is_dir():
        parts = read_split(Path(config.path), split, wanted)
    else:
        parts = load_hub_split(config.path, config.name, split, wanted, "dataset.path")
    fix = "name its columns with --dataset.text_columns and label_column"
    check_columns(parts, wanted, f"dataset.path={config.path}, split {split}", fix)
    return parts


def load_custom(name: str, config: DatasetConfig) -> tuple[Task, datasets.DatasetDict]:
    """The task `name` that `config` describes, and its two splits in the form of `load_task`.

    Raises:
        EvalError: a column is absent, the data cannot be read, or a label is unseen, empty or no class or number.
    """
    train, label = _read(config, config.train_split), config.label_column
    classes: tuple[str, ...] = ()
    if not config.regression:
        classes = find_classes(train, label, f"dataset.label_column={label}")
    metrics = ("pearson", "spearman") if config.regression else ("accuracy",)
    task = Task(name, config.columns, classes, metrics, ("validation",), (), numbered=False)
    splits = {"train": config.train_split, "validation": config.validation_split}
    read = {config.train_split: train}
    return task, load_splits(
        task, splits, lambda split: read.get(split) or _read(config, split), f"dataset.path={config.path}", label
    )
