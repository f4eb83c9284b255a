"""A data set of one's own, as options describe it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipeline import Problem

from .registry import TASKS
from .task import LABEL

FILE_SUFFIXES = ("parquet", "tsv", "csv", "json", "jsonl")
"""Of the files that splits are read from."""


def _is_data_file(path: str) -> bool:
    """Whether a path names a file with rows: by its suffix, for it may be missing."""
    return Path(path).suffix.lower()[1:] in FILE_SUFFIXES and not Path(path).is_dir()


@dataclass
class DataPlace:
    """Where the data of a fine-tuning is now."""

    path: str | None = None
    """The folder, file or Hub data set that `acn glue --dataset.path` named, in its new place."""
    train_file: str | None = None
    """The file of `--dataset.train_file` in its new place."""
    validation_file: str | None = None
    """The file of `--dataset.validation_file` in its new place."""

    @property
    def given(self) -> dict[str, str]:
        """The fields that are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class DatasetConfig:
    """A data set of your own: where it is, and which of its columns are what."""

    path: str | None = None
    """Folder with SPLIT.parquet, .tsv, .csv, .json or .jsonl, one such file to train on, or the name of a data set on
    the Hub (stanfordnlp/imdb)."""
    name: str | None = None
    """Configuration of a Hub data set that has several."""
    text_columns: str | list[str] | None = None
    """The column of the text, or two with a comma between for a pair; left out: the only one that it can be."""
    label_column: str | None = None
    """The column of the labels: class names, integers 0..n-1, True and False, or numbers with regression; left out:
    label, or the only one that it can be."""
    train_split: str = "train"
    """The split to train on, of a folder or Hub data set."""
    validation_split: str = "validation"
    """The split that depth curves are made on, of a folder or Hub data set."""
    regression: bool = False
    """Labels are numbers to predict (scored by Pearson's and Spearman's correlation), not classes (accuracy)."""
    train_file: str | None = None
    """A file to train on: .csv, .tsv, .json (an object a line, or a list), .jsonl or .parquet."""
    validation_file: str | None = None
    """The file that depth curves are made on; left out: the split, or without one a part of the training file."""
    test_file: str | None = None
    """A file to predict, labelled or not; left out: the folder's test split if it has one."""
    validation_fraction: float = 0.2
    """Share of a training file that is held out as validation split where there is no other, each class in
    proportion."""

    @property
    def columns(self) -> tuple[str, ...]:
        """`text_columns` as a tuple; empty where they are not named."""
        if self.text_columns is None:
            return ()
        names = self.text_columns.split(",") if isinstance(self.text_columns, str) else self.text_columns
        return tuple(name.strip() for name in names if name.strip())

    @property
    def is_given(self) -> bool:
        """Whether there is a data set of one's own."""
        return self.path is not None or self.train_file is not None

    @property
    def names_columns(self) -> bool:
        """Whether something is said of the columns."""
        return self.text_columns is not None or self.label_column is not None or self.regression

    @property
    def training_file(self) -> Path | None:
        """The file to train on; None where splits are found in a folder or on the Hub."""
        if self.train_file is not None:
            return Path(self.train_file)
        return Path(self.path) if self.path is not None and _is_data_file(self.path) else None

    @property
    def origin(self) -> str:
        """The option that names the data, for messages."""
        return f"dataset.path={self.path}" if self.path is not None else f"dataset.train_file={self.train_file}"

    @classmethod
    def from_record(cls, record: Mapping[str, Any], moved: DataPlace | None = None) -> "DatasetConfig":
        """As results.json has it, with new places for what has moved."""
        return cls(**{**record, **(moved.given if moved is not None else {})})

    def problems(self, tasks: list[str], glue_dir: str | None = None) -> list[Problem]:
        """With a data set of one's own there is one task in `tasks`, which names the folder of the results."""
        own_task = len(tasks) == 1 and tasks[0] not in TASKS and Path(tasks[0]).name == tasks[0]
        if not self.is_given:
            return self._columns_alone(own_task and glue_dir is not None)
        field = "dataset.path" if self.path is not None else "dataset.train_file"
        problems = []
        if not own_task:
            problems.append(
                Problem(field, fix="give one name of your own as --tasks, it names the folder of the results")
            )
        if glue_dir is not None:
            problems.append(Problem("glue_dir", glue_dir, f"does not go with {field}", "leave one of them out"))
        return problems + self._place_problems() + self._column_problems()

    def _columns_alone(self, in_glue_dir: bool) -> list[Problem]:
        """Options about a data set that is not named; those of the columns may be about a folder of `glue_dir`."""
        default, about_columns = DatasetConfig(), ("text_columns", "label_column", "regression")
        given = [name for name, value in vars(self).items() if value != getattr(default, name)]
        if in_glue_dir and set(given) <= {*about_columns}:
            return self._column_problems()
        fix = "give --dataset.path or --dataset.train_file as well"
        return [Problem(f"dataset.{name}", getattr(self, name), "is of no data set", fix) for name in given]

    def _place_problems(self) -> list[Problem]:
        problems = []
        if self.path is not None and self.train_file is not None:
            problems.append(Problem("dataset.train_file", self.train_file, "does not go with path", "leave one out"))
        kinds = ", ".join(f".{suffix}" for suffix in FILE_SUFFIXES)
        for name in ("path", "train_file", "validation_file", "test_file"):
            value = getattr(self, name)
            if value is None or (name == "path" and not _is_data_file(value) and not Path(value).is_file()):
                continue  # a folder, or a name on the Hub
            if Path(value).is_dir():
                problems.append(Problem(f"dataset.{name}", value, "is a folder", "give it as --dataset.path"))
            elif not _is_data_file(value):
                problems.append(Problem(f"dataset.{name}", value, "is of no kind that is read", f"give one of {kinds}"))
            elif not Path(value).exists():
                problems.append(Problem(f"dataset.{name}", value, "is not there", "give the path of the file"))
        return problems + self._split_problems()

    def _split_problems(self) -> list[Problem]:
        """Options that would be ignored."""
        from_file, default = self.training_file is not None, DatasetConfig()
        problems = []
        if not 0 < self.validation_fraction < 1:
            problems.append(
                Problem("dataset.validation_fraction", self.validation_fraction, fix="give more than 0 and less than 1")
            )
        elif self.validation_fraction != default.validation_fraction and (
            not from_file or self.validation_file is not None
        ):
            wrong = "is for a training file without a validation file"
            problems.append(Problem("dataset.validation_fraction", self.validation_fraction, wrong, "leave it out"))
        for name in ("name", "train_split", "validation_split") if from_file else ():
            if getattr(self, name) != getattr(default, name):
                wrong = "is of a folder or Hub data set, not of a file"
                problems.append(Problem(f"dataset.{name}", getattr(self, name), wrong, "leave it out"))
        return problems

    def _column_problems(self) -> list[Problem]:
        problems = []
        if self.text_columns is not None and not 1 <= len(self.columns) <= 2:
            problems.append(
                Problem("dataset.text_columns", self.text_columns, fix="name one column, or two with a comma between")
            )
        if self.label_column in self.columns:
            problems.append(Problem("dataset.label_column", self.label_column, "is a text column too", "name another"))
        elif LABEL in self.columns:
            problems.append(Problem("dataset.text_columns", self.text_columns, f"names {LABEL}", "rename that column"))
        return problems
