"""study.json as `acn study` writes it, read by the report without knowing which study it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import name_problem, parse_record

from ..errors import EvalError
from ..files import read_json
from ..precision import UNSAID

STUDY_FILE = "study.json"


@dataclass(frozen=True)
class StudyPoint:
    """What was measured at one x."""

    x: float
    mean: float
    std: float | None = None


@dataclass(frozen=True)
class StudyCurve:
    """One line."""

    label: str
    x_label: str
    y_label: str
    points: list[StudyPoint]
    reference: float | None = None


@dataclass(frozen=True)
class StudyTable:
    """Numbers side by side; each row has a cell for each column."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True, kw_only=True)
class _StudyFile:
    """study.json, as far as the report looks at it."""

    study: str
    model: str
    connectivity: str
    task: str
    seeds: list[int]
    curves: list[StudyCurve]
    table: StudyTable
    notes: str = ""
    verdict: str = ""
    """What follows, in a sentence; empty where the study concludes nothing."""
    precision: str = UNSAID
    """What was computed in."""


@dataclass(frozen=True, kw_only=True)
class StudyResults(_StudyFile):
    """One study of one model."""

    path: Path
    """The folder it was read from."""


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
        file = parse_record(_StudyFile, value)
        if any(len(row) != len(file.table.columns) for row in file.table.rows):
            raise ValueError("a row of its table has more or fewer cells than there are columns")
        if (wrong := name_problem(file.study, plain=True)) is not None:  # files are called after it
            raise ValueError(f"study {file.study[:80]!r} {wrong}")
    except ValueError as error:
        raise EvalError(f"{path} is not a study ({error}): run `acn study` again or leave its folder out") from error
    return StudyResults(**vars(file), path=path.parent)
