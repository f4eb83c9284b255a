"""study.json as `acn study` writes it, read by the report without knowing which study it is."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import name_problem

from ..errors import EvalError
from ..files import read_json

STUDY_FILE = "study.json"


@dataclass(frozen=True)
class StudyPoint:
    """What was measured at one x."""

    x: float
    mean: float
    std: float | None


@dataclass(frozen=True)
class StudyCurve:
    """One line."""

    label: str
    x_label: str
    y_label: str
    points: list[StudyPoint]
    reference: float | None


@dataclass(frozen=True)
class StudyResults:
    """One study of one model."""

    study: str
    model: str
    connectivity: str
    task: str
    seeds: list[int]
    curves: list[StudyCurve]
    columns: list[str]
    rows: list[list[Any]]
    notes: str
    path: Path
    """The folder it was read from."""


def _curve(value: dict[str, Any]) -> StudyCurve:
    points = [StudyPoint(float(p["x"]), float(p["mean"]), p.get("std")) for p in value["points"]]
    if not all(math.isfinite(number) for point in points for number in (point.x, point.mean)):
        raise ValueError(f"curve {value['label']!r} has points that are not finite")
    return StudyCurve(value["label"], value["x_label"], value["y_label"], points, value.get("reference"))


def read_study(path: Path) -> StudyResults:
    """The study in the file `path`.

    Raises:
        EvalError: it is not a complete study.json.
    """
    return parse_study(read_json(path), path)


def parse_study(value: Any, path: Path) -> StudyResults:
    """`value`, the content of a study.json that was read from `path`.

    Raises:
        EvalError: it is not complete.
    """
    try:
        table = value["table"]
        if any(len(row) != len(table["columns"]) for row in table["rows"]):
            raise ValueError("a row of its table has more or fewer cells than there are columns")
        if (wrong := name_problem(value["study"], plain=True)) is not None:  # files are called after it
            raise ValueError(f"study {str(value['study'])[:80]!r} {wrong}")
        return StudyResults(
            study=value["study"],
            model=str(value["model"]),
            connectivity=str(value["connectivity"]),
            task=str(value["task"]),
            seeds=list(value["seeds"]),
            curves=[_curve(curve) for curve in value["curves"]],
            columns=list(table["columns"]),
            rows=[list(row) for row in table["rows"]],
            notes=str(value.get("notes", "")),
            path=path.parent,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvalError(f"{path} is not a study ({error!r}): run `acn study` again or leave its folder out") from error
