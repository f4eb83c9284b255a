"""The data that a fine-tuned model was scored on, found again from its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from data_pipeline import Problem

from ..errors import EvalError
from ..files import find_recorded
from ..results import TaskResults
from ..tasks import DataPlace, DatasetConfig, Task, find_task, load_custom, load_task, use_classes


def load_recorded(
    results: TaskResults, folder: Path, classes: list[str], glue_dir: str | None, moved: DataPlace
) -> tuple[Task, datasets.DatasetDict] | None:
    """The task and splits of the fine-tuning that left `results` in `folder`; None where they do not name their data.

    Args:
        classes: the model's names of its classes, in its order: examples get these ids.
        glue_dir, moved: where the data is now; left out, where it was.

    Raises:
        EvalError: the data is not there any more, or has other classes.
    """
    settings = results.settings
    if settings is None:
        return None
    if problems := _option_problems(settings, glue_dir, moved):
        raise EvalError(*problems)
    if settings["dataset"] is not None:
        task, splits = load_custom(results.task, _dataset(settings["dataset"], folder, moved))
    else:
        glue_dir = glue_dir or _place(settings["glue_dir"], folder, "glue_dir")
        task = find_task(results.task, glue_dir)
        splits = load_task(task, glue_dir)
    return use_classes(task, splits, classes, f"the model of {results.task}")


def _option_problems(settings: Mapping[str, Any], glue_dir: str | None, moved: DataPlace) -> list[Problem]:
    """Places of another kind of data than the model was fine-tuned on."""
    wrong, fix = "is not where this model's data is from", "leave it out"
    if settings["dataset"] is not None:
        return [] if glue_dir is None else [Problem("glue_dir", glue_dir, wrong, "give --dataset.path")]
    return [Problem(f"dataset.{name}", value, wrong, fix) for name, value in moved.given.items()]


def _dataset(record: Mapping[str, Any], folder: Path, moved: DataPlace) -> DatasetConfig:
    """The data set as it was, with the places of now."""
    found = dict(record)
    for name in ("path", "train_file", "validation_file"):
        if name not in moved.given and _is_local(found.get(name)):
            found[name] = _place(found[name], folder, f"dataset.{name}")
    return DatasetConfig.from_record(found | {"test_file": None}, moved)


def _is_local(name: str | None) -> bool:
    """Whether a recorded name is a path, which version 0.1 left relative, and no name on the Hub."""
    return name is not None and (Path(name).is_absolute() or Path(name).exists())


def _place(name: str | None, folder: Path, option: str) -> str | None:
    """A recorded path as it is found now."""
    if name is None:
        return None
    if (place := find_recorded(name, folder)) is None:
        wrong = f": its data, {name}, is not there any more"
        raise EvalError(Problem(str(folder), wrong=wrong, fix=f"say where it is now with --{option}"))
    return str(place)
