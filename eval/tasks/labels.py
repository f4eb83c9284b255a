"""Labels go by name: what a split's values stand for, and which id of the task each name has.

Every split, and every part of one, is resolved to names by its own type: class ids by the names declared beside them,
whole numbers as their digits however they are stored, True and False, strings as they are. How the values are stored,
the order of declared classes and the other splits never decide. Ids are of the task: those of GLUE and of the other
tables in the tables' own order, those of other data by the classes of its training split.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import datasets
import numpy as np

from data_pipeline import Problem

from ..errors import EvalError
from .rows import Rows
from .task import LABEL, Task

LARGEST_NUMBER = 10**6
"""A number from here on is no class: a key or a measurement."""
UNLABELLED = "-1"
"""What GLUE writes for the class that its test splits keep to themselves."""
_MOST_SHOWN = 10
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_TRUE, _FALSE = "True", "False"
_BOOLEANS = {"true": _TRUE, "TRUE": _TRUE, "false": _FALSE, "FALSE": _FALSE}
_WHOLE_FLOAT = re.compile(r"([+-]?\d{1,18})\.0*")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
# how tools write that a value is missing: a name among names, a gap among numbers
_MISSING = {"NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "none", "<NA>", "?", "-"}


def label_names(rows: Rows, column: str) -> list[str | None]:
    """The class name of every row; None where the row has no label (null, NaN, an empty field, id -1 of named classes).

    Raises:
        EvalError: a value that is no class, or in a file without types two spellings of one name.
    """
    declared = rows.class_names.get(column)
    known: dict[Any, str | None] = {}
    names: list[str | None] = []
    for row, value in enumerate(rows.values[column]):
        key = (type(value), value) if value.__hash__ else None
        if key is None or key not in known:
            try:
                known[key] = _name(value, declared, rows.untyped)
            except ValueError as error:
                raise EvalError(
                    Problem(
                        rows.place(row),
                        wrong=f": {column} is {error}",
                        fix="give integers 0..n-1 or names, or numbers to predict with --dataset.regression true",
                    )
                ) from error
        names.append(known[key])
    if rows.untyped:
        _check_spelling(rows, column, {value: name for (_, value), name in known.items()})
    return names


def _name(value: Any, declared: list[str] | None, untyped: bool) -> str | None:
    if declared is not None:
        return _declared_name(value, declared)
    if isinstance(value, bytes):
        value = _decode(value)
    if isinstance(value, float | Decimal) and value == value and value == value // 1:
        value = int(value)
    match value:
        case None | "":
            return None
        case bool() | int():
            return str(value)
        case float() | Decimal() if value != value:  # NaN: how pandas writes that there is none
            return None
        case str():
            return _number_or_name(value) if untyped else value
    raise ValueError(f"{_shorten(value)}, which is neither a whole number nor a name")


def _declared_name(value: int | None, declared: list[str]) -> str | None:
    if value is None or value == -1:
        return None
    if not 0 <= value < len(declared):
        raise ValueError(f"{value}, but the classes declared beside it are 0..{len(declared) - 1}")
    return declared[value]


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{_shorten(value)}, which is not UTF-8") from None


def _number_or_name(text: str) -> str:
    """The number that 1.0 is written for; everything else as it is written."""
    whole = _WHOLE_FLOAT.fullmatch(text)
    return str(int(whole[1])) if whole else text


def _meaning(name: str) -> str:
    """What other spellings of a name have in common with it: those of numbers and booleans."""
    name = name.strip()
    return _BOOLEANS.get(name, _number_or_name(name))


def _check_spelling(rows: Rows, column: str, names: dict[str, str | None]) -> None:
    """Refuse 1 beside 1.0, or true beside True, in one file: they may be two classes or one."""
    spelled: dict[str, str] = {}
    for value, name in names.items():
        if name is not None and spelled.setdefault(_meaning(name), value) != value:
            raise EvalError(
                Problem(rows.source, wrong=f": {column} is {spelled[name]} in some rows and {value} in others",
                        fix="write the same class in the same way")
            )  # fmt: skip


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:56]} ..."


def _listed(names: Iterable[str]) -> str:
    names = [name if name.isprintable() else repr(name) for name in names]
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sort_key(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if _WHOLE.fullmatch(name) else (True, 0, name)


def find_classes(parts: Sequence[Rows], column: str, where: str) -> tuple[str, ...]:
    """The classes of a training split, in the order of their ids.

    Where names are declared beside the ids, those in their order; else the names that occur, numbers first and by size.

    Raises:
        EvalError: there are fewer than two, or they are no classes: numbers below 0 or from `LARGEST_NUMBER` on, or
            numbers beside a sign of a missing value; or one part of the split lacks what another declares.
    """
    declared = dict.fromkeys(name for rows in parts for name in rows.class_names.get(column, ()))
    found = {name for rows in parts for name in label_names(rows, column) if name is not None}
    names = tuple(declared or sorted(found, key=_sort_key))
    if undeclared := sorted(found - {*names}, key=_sort_key):
        wrong = f"has {_listed(undeclared)}, while other files of the split declare {_listed(names)}"
        raise EvalError(Problem(where, wrong=wrong, fix="declare the names of the classes in every file"))
    if broken := [name for name in names if {"\t", "\n", "\r"} & {*name}]:
        wrong = f"has class names with tabs or line ends, {_listed(broken)}"
        raise EvalError(Problem(where, wrong=wrong, fix="rename them: a file of answers has one a line"))
    if len(names) < 2:
        wrong = f"has the single class {names[0]}" if names else "has no class"
        raise EvalError(Problem(where, wrong=wrong, fix="a task needs at least two"))
    if not declared and (problem := _number_problem(where, names)) is not None:
        raise EvalError(problem)
    return names


def _number_problem(where: str, names: Sequence[str]) -> Problem | None:
    """What is wrong with classes that all are numbers, but for a missing one."""
    numbers = [name for name in names if _WHOLE.fullmatch(name)]
    gaps = [name for name in names if name in _MISSING]
    others = {_meaning(name) for name in {*names} - {*numbers} - {*gaps}}
    if gaps and others <= {_TRUE, _FALSE} and len(gaps) < len(names):
        return Problem(where, wrong=f"has {_listed(gaps)} among {'numbers' if numbers else 'True and False'}",
                       fix="drop these rows, or give the class another name")  # fmt: skip
    if others or gaps:
        return None
    wrong = [name for name in numbers if len(name) > 18 or not 0 <= int(name) < LARGEST_NUMBER]
    if not wrong:
        return None
    fix = "give integers 0..n-1, or names, or numbers to predict with --dataset.regression true"
    return Problem(where, wrong=f"has {_listed(wrong)}, no number of a class", fix=fix)


def _ids_of(task: Task, names: Iterable[str]) -> dict[str, int]:
    """The ids of those names that the task has: as they are spelled, else for what they mean if one class does."""
    ids = {name: number for number, name in enumerate(task.labels)}
    if task.numbered:
        ids = {str(number): number for number in range(task.num_labels)} | ids
    by_meaning: dict[str, set[int]] = {}
    for name, number in ids.items():
        by_meaning.setdefault(_meaning(name), set()).add(number)
    found = {name: {ids[name]} if name in ids else by_meaning.get(_meaning(name), set()) for name in names}
    return {name: min(numbers) for name, numbers in found.items() if len(numbers) == 1}


def label_ids(task: Task, rows: Rows, column: str, where: str) -> list[int | None]:
    """The class id of every row; None where the row has none (also GLUE's -1).

    Raises:
        EvalError: a name that the task does not have; the message lists them all.
    """
    names = [None if task.numbered and name == UNLABELLED else name for name in label_names(rows, column)]
    there = {name for name in names if name is not None}
    ids = _ids_of(task, there)
    if unknown := sorted(there - {*ids}, key=_sort_key):
        first = next(row for row, name in enumerate(names) if name == unknown[0])
        the_classes = f"the classes of {task.name} are" if task.numbered else "the training split has"
        raise EvalError(
            Problem(
                where,
                wrong=f": {column} {_listed(unknown)} is unknown ({rows.short_place(first)})",
                fix=f"{the_classes} {_listed(task.labels)}" + (f", or 0..{task.num_labels - 1}" * task.numbered),
            )
        )
    return [None if name is None else ids[name] for name in names]


def use_classes(
    task: Task, splits: datasets.DatasetDict, trained: Sequence[str], where: str
) -> tuple[Task, datasets.DatasetDict]:
    """A task and its splits with the classes, and so the ids, that a model was trained with.

    Args:
        trained: the model's names of its classes, in its order; of a regression, whatever it calls its output.

    Raises:
        EvalError: the data has classes that the model does not know, or one of both is a regression.
    """
    names = tuple(trained)
    if task.labels == names or (task.is_regression and len(names) == 1):
        return task, splits
    if task.is_regression or not {*task.labels} <= {*names}:
        wrong = f"has the classes {_listed(names)}, its data has {_listed(task.labels) or 'numbers'}"
        raise EvalError(Problem(where, wrong=wrong, fix="run `acn glue` again, or give the data it was trained on"))
    ids = np.array([names.index(name) for name in task.labels])
    remapped = {
        split: data.remove_columns(LABEL).add_column(LABEL, ids[np.asarray(data[LABEL])].tolist())
        for split, data in splits.items()
    }
    return replace(task, labels=names), datasets.DatasetDict(remapped)


def label_numbers(task: Task, rows: Rows, column: str) -> list[float | None]:
    """The number to predict of every row; None where the row has none (also GLUE's -1).

    Raises:
        EvalError: a value that is no number, or not finite in float32.
    """
    if column in rows.class_names:
        raise EvalError(Problem(rows.source, wrong=f": {column} has names of classes", fix="give numbers"))
    numbers: list[float | None] = []
    for row, value in enumerate(rows.values[column]):
        if value is None or value == "":
            numbers.append(None)
            continue
        number = _as_number(value)
        if number is None:
            raise EvalError(Problem(rows.place(row), wrong=f": {column} is {_shorten(value)}", fix="give numbers"))
        if not abs(number) <= _LARGEST_FLOAT:
            wrong = f": {column} is {_shorten(value)}: NaN or infinite values cannot be learned"
            raise EvalError(Problem(rows.place(row), wrong=wrong, fix="drop these rows"))
        numbers.append(None if task.numbered and number == int(UNLABELLED) else number)
    return numbers


def _as_number(value: Any) -> float | None:
    """A number, or a text that is one; None for anything else."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
