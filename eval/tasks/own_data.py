"""Any other text classification data set, local or on the Hub, by naming its columns."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ..errors import EvalError
from .config import DatasetConfig
from .reading import check_split, load_hub_split, read_split
from .task import LABEL, Task


def _read(config: DatasetConfig, split: str) -> datasets.Dataset:
    assert config.path is not None
    if Path(config.path).is_dir():
        return read_split(Path(config.path), split, config.columns)
    return load_hub_split(config.path, config.name, split, "dataset.path")


def _class_names(config: DatasetConfig, train: datasets.Dataset) -> tuple[str, ...]:
    """The classes: those that the data set declares, else the distinct names, else 0..the largest number."""
    feature, values = train.features[config.label_column], train.data.column(config.label_column)
    where = f"dataset.label_column={config.label_column}"
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        names = tuple(sorted({name for name in values.to_pylist() if name is not None}))
    elif pa.types.is_integer(values.type) and len(values) > values.null_count:
        names = tuple(map(str, range(max(value for value in values.to_pylist() if value is not None) + 1)))
    else:
        raise EvalError(f"{where} is {values.type}: give integers 0..n-1 or names, or say --dataset.regression true")
    if len(names) < 2:
        raise EvalError(f"{where} has {len(names)} class{'' if len(names) == 1 else 'es'}: at least two are needed")
    return names


def _number_labels(task: Task, data: datasets.Dataset, where: str) -> datasets.Dataset:
    """Class names as class ids."""
    values = data.data.column(LABEL)
    if task.is_regression or not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return data
    ids = {name: i for i, name in enumerate(task.labels)}
    names: list[Any] = values.to_pylist()
    if unseen := sorted({str(name) for name in names if name is not None and name not in ids}):
        raise EvalError(
            f"{where}: the training split has no label {', '.join(unseen[:3])}; it has {', '.join(task.labels)}"
        )
    numbers = pa.array([None if name is None else ids[name] for name in names], pa.int64())
    return datasets.Dataset(data.data.table.drop_columns([LABEL]).append_column(LABEL, numbers))


def load_custom(name: str, config: DatasetConfig) -> tuple[Task, datasets.DatasetDict]:
    """The task `name` that `config` describes, and its two splits in the form of `load_task`.

    Raises:
        EvalError: a column is absent, the data cannot be read, or a label is unseen, empty, NaN or out of range.
    """
    raw = {split: _read(config, split) for split in (config.train_split, config.validation_split)}
    for split, data in raw.items():
        absent = [c for c in (*config.columns, config.label_column) if c not in data.column_names]
        if absent:
            raise EvalError(
                f"dataset.path={config.path}, split {split}: no column {', '.join(absent)}; it has "
                f"{', '.join(data.column_names)}: name its columns with --dataset.text_columns and label_column"
            )
    if config.regression:
        task = Task(name, config.columns, (), ("pearson", "spearman"), ("validation",), ())
    else:
        names = _class_names(config, raw[config.train_split])
        task = Task(name, config.columns, names, ("accuracy",), ("validation",), ())
    splits = {}
    for split, own in (("train", config.train_split), ("validation", config.validation_split)):
        data = raw[own].select_columns([*config.columns, config.label_column])
        if config.label_column != LABEL:
            data = data.rename_column(config.label_column, LABEL)
        where = f"dataset.path={config.path}"
        data = _number_labels(task, data, f"{where}, split {own}")
        check_split(task, own, data, where)
        splits[split] = data
    return task, datasets.DatasetDict(splits)
