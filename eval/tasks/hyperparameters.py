"""How a task is fine-tuned: the table beside this file, a user's table over it, options over both; and small grids."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from data_pipeline import Problem, read_yaml

from ..errors import EvalError

TABLE_FILE = Path(__file__).with_name("hyperparameters.yaml")
# the width that the table's learning rates are for
PAPER_HIDDEN_SIZE = 768

_LIMITS = {
    "learning_rate": (0.0, math.inf, "more than 0, or leave it out"),
    "epochs": (0.0, math.inf, "more than 0"),
    "batch_size": (0.0, math.inf, "1 or more"),
    "max_length": (2.0, math.inf, "3 or more, room for [CLS], a token and [SEP]"),
}


@dataclass(frozen=True)
class Hyperparameters:
    """AdamW with linear warm-up and decay."""

    learning_rate: float
    """Peak."""
    epochs: float
    batch_size: int
    """Examples per optimizer step, over all ranks."""
    weight_decay: float
    warmup_fraction: float
    """Share of the steps over which the rate rises from 0."""
    max_length: int
    """Tokens per example at most."""


FIELDS = tuple(field.name for field in fields(Hyperparameters))
GRID_FIELDS = ("learning_rate", "batch_size", "epochs")


def value_problems(values: Mapping[str, Any], where: str = "") -> list[Problem]:
    """What is wrong with some hyperparameters (None counts as left out), each with its fix."""
    problems = []
    for name, (low, high, fix) in _LIMITS.items():
        value = values.get(name)
        if value is not None and not low < value < high:
            problems.append(Problem(f"{where}{name}", value, fix=f"give {fix}"))
    for name, high in (("weight_decay", math.inf), ("warmup_fraction", 1.0)):
        value = values.get(name)
        if value is not None and not 0 <= value < high:
            fix = "give 0 or more" + (" and less than 1" if high == 1 else "")
            problems.append(Problem(f"{where}{name}", value, fix=fix))
    return problems


def _check_table(table: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    fix = "write it like eval/tasks/hyperparameters.yaml: defaults: {epochs: 3}, tasks: {rte: {epochs: 6}}"
    if set(table) - {"defaults", "tasks"}:
        raise EvalError(f"hyperparameters={path} must hold `defaults` and `tasks` only: {fix}")
    tasks = table.get("tasks") or {}
    if not isinstance(tasks, dict):
        raise EvalError(f"hyperparameters={path}: tasks is not a mapping: {fix}")
    rows = {"defaults": table.get("defaults") or {}} | {name: row or {} for name, row in tasks.items()}
    problems = []
    for name, row in rows.items():
        if not isinstance(row, dict):
            raise EvalError(f"hyperparameters={path}: {name} is not a mapping: {fix}")
        problems += [Problem(f"{path}", wrong=f": {name} has no hyperparameter {key!r}", fix=f"use {', '.join(FIELDS)}")
                     for key in row if key not in FIELDS]  # fmt: skip
        wrong = [key for key in row if key in FIELDS and isinstance(row[key], bool | str | list | dict | None)]
        problems += [
            Problem(f"{path}", wrong=f": {name}: {key}={row[key]!r}", fix="give a number (2.0e-5, not 2e-5)")
            for key in wrong
        ]
        if not wrong:
            problems += value_problems(row, f"{path}: {name}: ")
    if problems:
        raise EvalError(*problems)
    return rows


@cache
def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """A table of hyperparameters: the row `defaults`, and a row for each task that differs.

    Raises:
        EvalError: the file cannot be read, or a name or value in it is wrong.
    """
    return _check_table(read_yaml(path, EvalError, "name another file as --hyperparameters"), path)


def choose_hyperparameters(
    task: str, hidden_size: int, overrides: Mapping[str, Any], table: str | None = None
) -> Hyperparameters:
    """What `task` is fine-tuned with: `overrides` (None: not given) over the user's `table` over ours.

    A learning rate from a table is scaled to the model's width; one that is given outright is taken as it is.
    """
    values: dict[str, Any] = {}
    for path in (TABLE_FILE, *([Path(table)] if table is not None else [])):
        rows = read_table(path)
        values |= rows["defaults"] | rows.get(task, {})
    values["learning_rate"] *= PAPER_HIDDEN_SIZE / hidden_size
    values |= {name: overrides[name] for name in FIELDS if overrides.get(name) is not None}
    return Hyperparameters(**values)


def _numbers(value: str | Sequence[float] | None) -> list[float]:
    parts = value.split(",") if isinstance(value, str) else (value or [])
    return [float(part) for part in parts]


@dataclass
class GridConfig:
    """A small grid: every combination is tried with the first seed, the best one serves all seeds."""

    learning_rate: str | list[float] | None = None
    """Peak learning rates to try, with commas between: 1e-5,2e-5,5e-5."""
    batch_size: str | list[float] | None = None
    """Batch sizes to try, with commas between: 16,32."""
    epochs: str | list[float] | None = None
    """Numbers of epochs to try, with commas between: 3,6."""
    held_out: float = 0.0
    """Share of the training split that the best is chosen on, which is not trained on meanwhile; 0: the validation
    split, whose scores then are maxima over the grid."""

    def problems(self) -> list[Problem]:
        problems = []
        if not 0 <= self.held_out < 1:
            problems.append(Problem("grid.held_out", self.held_out, fix="give 0 or more and less than 1"))
        elif self.held_out and not self.points():
            problems.append(Problem("grid.held_out", self.held_out, "is of an empty grid", "give it something to try"))
        for name in GRID_FIELDS:
            try:
                values = _numbers(getattr(self, name))
            except (TypeError, ValueError):
                problems.append(Problem(f"grid.{name}", getattr(self, name), fix="give numbers with commas between"))
                continue
            problems += [found for value in values for found in value_problems({name: value}, "grid.")]
            if len(set(values)) < len(values):
                problems.append(Problem(f"grid.{name}", getattr(self, name), "names a value twice", "name each once"))
            if name == "batch_size" and any(value != int(value) for value in values):
                problems.append(Problem("grid.batch_size", self.batch_size, fix="give whole numbers"))
        return problems

    @property
    def names(self) -> set[str]:
        """The hyperparameters that are chosen from it."""
        return {name for name in GRID_FIELDS if getattr(self, name)}

    def points(self) -> list[dict[str, float]]:
        """Every combination of what is given, as changes to the hyperparameters; none for an empty grid."""
        axes = {name: _numbers(getattr(self, name)) for name in GRID_FIELDS if getattr(self, name)}
        if not axes:
            return []
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def at_point(base: Hyperparameters, point: Mapping[str, float]) -> Hyperparameters:
    """`base` with the values of one point of a grid."""
    changes: dict[str, Any] = dict(point)
    if "batch_size" in changes:
        changes["batch_size"] = int(changes["batch_size"])
    return replace(base, **changes)


def point_name(point: Mapping[str, float]) -> str:
    """A folder's name for a point of a grid: `learning_rate=2e-05,epochs=3`."""
    return ",".join(f"{name}={value:g}" for name, value in point.items())


def as_dict(values: Hyperparameters) -> dict[str, float]:
    """For results.json."""
    return asdict(values)
