"""A data set of one's own, as options describe it."""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem

from .registry import TASKS
from .task import LABEL


@dataclass
class DatasetConfig:
    """A data set of your own: where it is, and which of its columns are what."""

    path: str | None = None
    """Folder with SPLIT.parquet, .tsv, .csv or .jsonl, or the name of a data set on the Hub (stanfordnlp/imdb)."""
    name: str | None = None
    """Configuration of a Hub data set that has several."""
    text_columns: str | list[str] = "sentence"
    """The column of the text, or two with a comma between for a pair."""
    label_column: str = LABEL
    """The column of the labels: class names, integers 0..n-1, True and False, or numbers with regression."""
    train_split: str = "train"
    """The split to train on."""
    validation_split: str = "validation"
    """The split that depth curves are made on."""
    regression: bool = False
    """Labels are numbers to predict (scored by Pearson's and Spearman's correlation), not classes (accuracy)."""

    @property
    def columns(self) -> tuple[str, ...]:
        """`text_columns` as a tuple."""
        names = self.text_columns.split(",") if isinstance(self.text_columns, str) else self.text_columns
        return tuple(name.strip() for name in names if name.strip())

    def problems(self, tasks: list[str]) -> list[Problem]:
        """With a data set of one's own there is one task in `tasks`, which names the folder of the results."""
        if self.path is None:
            return []
        problems = []
        if len(tasks) != 1 or tasks[0] in TASKS or Path(tasks[0]).name != tasks[0]:
            problems.append(
                Problem("dataset.path", fix="give one name of your own as --tasks, it names the folder of the results")
            )
        if not 1 <= len(self.columns) <= 2:
            problems.append(
                Problem("dataset.text_columns", self.text_columns, fix="name one column, or two with a comma between")
            )
        if self.label_column in self.columns:
            problems.append(Problem("dataset.label_column", self.label_column, "is a text column too", "name another"))
        elif LABEL in self.columns:
            problems.append(Problem("dataset.text_columns", self.text_columns, f"names {LABEL}", "rename that column"))
        return problems
