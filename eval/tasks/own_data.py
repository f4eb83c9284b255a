"""Any other text classification data: a folder of splits, files, or a data set on the Hub."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from data_pipeline import Problem
from eval import ranks

from ..errors import EvalError
from .columns import NAME_THEM, choose_columns
from .config import DatasetConfig
from .labels import find_classes
from .reading import (
    INDEX,
    check_columns,
    checked_test,
    load_hub_split,
    load_splits,
    read_split,
    split_files,
)
from .rows import Rows, read_rows
from .task import LABEL, Task

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_HOLD_OUT_SEED = 0


def resolve_dataset(config: DatasetConfig) -> DatasetConfig:
    """The same data set as results.json records it: with absolute paths, and every column named.

    Raises:
        EvalError: its training split cannot be read, or leaves open which columns are texts and labels.
    """
    if (beside := _validation_beside(config)) is not None:
        ranks.say(f"{config.origin}: {beside} is the validation split")
        config = replace(config, validation_file=str(beside))
    texts, label = config.columns, config.label_column
    if not texts or label is None:
        where = config.origin if config.training_file is not None else f"{config.origin}, split {config.train_split}"
        texts, label = choose_columns(_read(config, TRAIN, ())[0].columns, texts, label, where)
        ranks.say(f"{where}: texts are in {' and '.join(texts)}, labels in {label}")
    places = {
        name: os.path.abspath(value)
        for name in ("path", "train_file", "validation_file", "test_file")
        if (value := getattr(config, name)) is not None and (name != "path" or Path(value).exists())
    }
    return replace(config, text_columns=",".join(texts), label_column=label, **places)


def _validation_beside(config: DatasetConfig) -> Path | None:
    """The validation split that lies beside a file called after the training split; None where there is none."""
    file = config.training_file
    if file is None or config.validation_file is not None or file.stem != TRAIN:
        return None
    found = split_files(file.parent, VALIDATION)
    return found[0] if len(found) == 1 else None


def validation_name(config: DatasetConfig) -> str:
    """What the validation split is, in words."""
    if config.validation_file is not None:
        return VALIDATION
    return f"held out of {TRAIN}" if config.training_file is not None else config.validation_split


def _file(config: DatasetConfig, split: str) -> Path | None:
    """The file of a split; None where it is in a folder or on the Hub, or is not given."""
    if split == TRAIN:
        return config.training_file
    given = config.validation_file if split == VALIDATION else config.test_file
    return None if given is None else Path(given)


def _own_name(config: DatasetConfig, split: str) -> str:
    """What the data set calls a split."""
    return {TRAIN: config.train_split, VALIDATION: config.validation_split}.get(split, split)


def _read(config: DatasetConfig, split: str, wanted: Sequence[str]) -> list[Rows]:
    """The rows of a split, with the wanted columns where they are there."""
    if (file := _file(config, split)) is not None:
        return [read_rows(file, wanted)]
    assert config.path is not None
    if Path(config.path).is_dir():
        return read_split(Path(config.path), _own_name(config, split), wanted)
    return load_hub_split(config.path, config.name, _own_name(config, split), wanted, "dataset.path")


def load_custom(name: str, config: DatasetConfig) -> tuple[Task, datasets.DatasetDict]:
    """The task `name` that `config` describes, and its two splits in the form of `load_task`.

    Raises:
        EvalError: a column is absent or not to be guessed, the data cannot be read, or a label is unseen, empty or no
            class or number.
    """
    if not config.columns or config.label_column is None:
        config = resolve_dataset(config)
    label = config.label_column
    assert label is not None
    wanted = (*config.columns, label)

    def read(split: str) -> list[Rows]:
        parts = _read(config, split, wanted)
        check_columns(parts, wanted, f"{config.origin}, split {_own_name(config, split)}", NAME_THEM)
        return parts

    train = read(TRAIN)
    classes: tuple[str, ...] = ()
    if not config.regression:
        classes = find_classes(train, label, f"dataset.label_column={label}")
    metrics = ("pearson", "spearman") if config.regression else ("accuracy",)
    tests = (TEST,) if _has_test(config) else ()
    task = Task(name, config.columns, classes, metrics, (VALIDATION,), tests, numbered=False, label_column=label)
    held_out = config.training_file is not None and config.validation_file is None
    own = {split: _own_name(config, split) for split in ((TRAIN,) if held_out else (TRAIN, VALIDATION))}
    splits = load_splits(task, own, lambda split: train if split == TRAIN else read(split), config.origin)
    return task, _hold_out(task, splits[TRAIN], config) if held_out else splits


def _has_test(config: DatasetConfig) -> bool:
    """Whether there is something to predict."""
    if config.test_file is not None:
        return True
    folder = Path(config.path) if config.path is not None else None
    used = TEST in (config.train_split, config.validation_split)
    return folder is not None and folder.is_dir() and not used and bool(split_files(folder, TEST))


def load_custom_tests(task: Task, config: DatasetConfig) -> dict[str, datasets.Dataset]:
    """The split to predict of a data set of one's own, if there is one, as `load_test_splits` gives it.

    Raises:
        EvalError: it cannot be read, or lacks a text.
    """
    return {
        split: checked_test(task, _read(config, split, (*task.columns, INDEX)), f"{config.origin}, split {split}")
        for split in task.test_splits
    }


def _hold_out(task: Task, rows: datasets.Dataset, config: DatasetConfig) -> datasets.DatasetDict:
    """Training rows and those held out for validation.

    Raises:
        EvalError: there are too few for both.
    """
    kept, held = hold_out(task, rows, config.validation_fraction)
    if not len(held):
        wrong = f"has {len(rows)} rows, too few to hold some out for validation"
        raise EvalError(Problem(config.origin, wrong=wrong, fix="give --dataset.validation_file"))
    ranks.say(
        f"{config.origin}: {len(held)} of its {len(rows)} rows, in proportion to the classes, are held out for "
        "validation (--dataset.validation_file names others)"
    )
    return datasets.DatasetDict({TRAIN: kept, VALIDATION: held})


def hold_out(task: Task, rows: datasets.Dataset, share: float) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Training rows, and a share of them held out, always the same ones; each class in proportion, and one row of it
    at least in training."""
    labels = np.zeros(len(rows), dtype=int) if task.is_regression else np.asarray(rows[LABEL])
    rng = np.random.default_rng(_HOLD_OUT_SEED)
    held = np.zeros(len(rows), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held))
