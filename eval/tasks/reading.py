"""Reading the splits of a task: Parquet, TSV, CSV or JSON lines in a folder, or the Hub; everything is checked."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from ..errors import EvalError
from .task import LABEL, PAIR, Task

SUFFIXES = ("parquet", "tsv", "csv", "jsonl")


def split_files(folder: Path, split: str) -> list[Path]:
    """SPLIT.parquet (or .tsv, .csv, .jsonl), or the Hub's numbered Parquet parts of it; empty where there is none."""
    for suffix in SUFFIXES:
        if (whole := folder / f"{split}.{suffix}").is_file():
            return [whole]
    return sorted(folder.glob(f"{split}-[0-9]*-of-[0-9]*.parquet"))


def _read_file(path: Path, text_columns: Sequence[str]) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".jsonl":
        return pajson.read_json(path)
    tabs = path.suffix == ".tsv"
    # GLUE's TSV files hold bare quotation marks, CSV files quote with them
    parse = pacsv.ParseOptions(delimiter="\t" if tabs else ",", quote_char=False if tabs else '"')
    # a sentence may be "12" or "null": text it is
    convert = pacsv.ConvertOptions(column_types=dict.fromkeys(text_columns, pa.string()))
    return pacsv.read_csv(path, parse_options=parse, convert_options=convert)


def read_split(folder: Path, split: str, text_columns: Sequence[str] = ()) -> datasets.Dataset:
    """One split of a local data set, in memory.

    Args:
        text_columns: read as text whatever they look like, where the file does not say.

    Raises:
        EvalError: there is no such file, or it cannot be read.
    """
    files = split_files(folder, split)
    if not files:
        others = ", ".join(f".{suffix}" for suffix in SUFFIXES[1:])
        raise EvalError(f"{folder / split}.parquet is missing (so are {others}): a task needs its {split} split")
    kind = {"parquet": "Parquet", "tsv": "TSV", "csv": "CSV", "jsonl": "JSON lines"}[files[0].suffix[1:]]
    try:
        # read into memory: no copy of the data in a cache folder
        return datasets.Dataset(pa.concat_tables([_read_file(file, text_columns) for file in files]))
    except (OSError, pa.ArrowInvalid) as error:
        raise EvalError(f"{files[0]} cannot be read as {kind} ({error}): write it again") from error


def load_hub_split(path: str, name: str | None, split: str, field: str) -> datasets.Dataset:
    """One split of a data set on the Hub.

    Args:
        field: the option that would name a local folder instead, for the message.

    Raises:
        EvalError: it cannot be loaded.
    """
    try:
        return datasets.load_dataset(path, name, split=split)
    except Exception as error:  # the Hub fails in many ways: no network, no access, a changed layout
        origin = path if name is None else f"{path} {name}"
        raise EvalError(f"{origin} cannot be loaded from the Hub ({error}): give a local --{field}") from error


def hub_splits(path: str, name: str | None) -> list[str]:
    """The splits that a data set on the Hub has; none when it cannot be reached."""
    try:
        return list(datasets.get_dataset_split_names(path, name))
    except Exception:  # as above; loading the first split will say what is wrong
        return []


def find_local_tasks(glue_dir: Path) -> list[str]:
    """The names of the folders in `glue_dir` that have a training split."""
    return sorted(folder.name for folder in glue_dir.iterdir() if folder.is_dir() and split_files(folder, "train"))


def infer_task(folder: Path) -> Task:
    """The task that a folder's training split is: its columns and classes, scored by accuracy.

    Raises:
        EvalError: it has other columns, or labels that are not 0..n-1.
    """
    train = read_split(folder, "train", ("sentence", *PAIR))
    columns = PAIR if set(PAIR) <= set(train.column_names) else ("sentence",)
    absent = [column for column in (*columns, LABEL) if column not in train.column_names]
    if absent:
        raise EvalError(
            f"{folder}: its train split has the columns {', '.join(train.column_names)}, but a task needs sentence, or "
            f"sentence1 and sentence2, and label: rename them"
        )
    labels = train.data.column(LABEL)
    feature = train.features[LABEL]
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
    elif pa.types.is_integer(labels.type) and len(labels):
        names = tuple(str(label) for label in range((pc.max(labels).as_py() or 0) + 1))
    else:
        raise EvalError(f"{folder}: label is {labels.type} with {len(labels)} rows: give integers 0..n-1")
    if len(names) < 2:
        raise EvalError(f"{folder}: label has the single class 0: a task needs at least two, numbered 0..n-1")
    return Task(folder.name, columns, names, ("accuracy",))


def _check_columns(data: datasets.Dataset, columns: tuple[str, ...], where: str) -> None:
    absent = [column for column in columns if column not in data.column_names]
    if absent:
        raise EvalError(f"{where}: no column {', '.join(absent)}; it has {', '.join(data.column_names)}: rename them")
    if not len(data):
        raise EvalError(f"{where}: it is empty: give at least one example")


def _check_texts(task: Task, split: str, data: datasets.Dataset, origin: str) -> None:
    """Raise `EvalError` unless the split has complete texts."""
    where = f"{origin}, split {split}"
    _check_columns(data, task.columns, where)
    for column in task.columns:
        values = data.data.column(column)
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise EvalError(f"{where}: column {column} is {values.type}: give strings")
        _check_filled(data, column, where)


def _check_filled(data: datasets.Dataset, column: str, where: str) -> None:
    if nulls := data.data.column(column).null_count:
        raise EvalError(f"{where}: column {column} has {nulls} empty values: fill or drop these rows")


def check_split(task: Task, split: str, data: datasets.Dataset, origin: str) -> None:
    """Raise `EvalError` unless the split has the columns, complete texts, and labels in range."""
    where = f"{origin}, split {split}"
    _check_columns(data, (*task.columns, LABEL), where)
    _check_texts(task, split, data, origin)
    _check_filled(data, LABEL, where)
    values = data.data.column(LABEL)
    if task.is_regression:
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise EvalError(f"{where}: label is {values.type}: give numbers")
        if not np.isfinite(values.to_numpy()).all():
            raise EvalError(f"{where}: label has NaN or infinite values: drop these rows")
        return
    if not pa.types.is_integer(values.type):
        raise EvalError(f"{where}: label is {values.type}: give integers 0..{task.num_labels - 1}")
    low, high = pc.min(values).as_py(), pc.max(values).as_py()
    if low < 0 or high >= task.num_labels:
        raise EvalError(f"{where}: labels reach from {low} to {high}: they must lie in 0..{task.num_labels - 1}")


def _load(task: Task, split: str, glue_dir: str | None) -> datasets.Dataset:
    if glue_dir is not None:
        return read_split(Path(glue_dir) / task.name, split, task.columns)
    if task.hub_dataset is None:
        raise EvalError(
            f"tasks: {task.name} has no address on the Hub: give the local folder of its data as --glue_dir"
        )
    return load_hub_split(task.hub_dataset, task.hub_config, split, "glue_dir")


def _find_splits(task: Task, splits: tuple[str, ...], glue_dir: str | None) -> list[str]:
    """Which of these splits there are."""
    if glue_dir is not None:
        return [split for split in splits if split_files(Path(glue_dir) / task.name, split)]
    if not splits or task.hub_dataset is None:
        return []
    found = hub_splits(task.hub_dataset, task.hub_config)
    return [split for split in splits if split in found]


def _origin(task: Task, glue_dir: str | None) -> str:
    """Where a task's data comes from, for messages."""
    if glue_dir is not None:
        return str(Path(glue_dir) / task.name)
    return " ".join(part for part in (task.hub_dataset, task.hub_config) if part is not None)


def load_task(task: Task, glue_dir: str | None = None) -> datasets.DatasetDict:
    """The training split and the validation splits, each with the text columns and `label` only.

    A validation split after the first that is not there is left out (GLUE mirrors often lack MNLI's mismatched one).

    Args:
        glue_dir: a folder with TASK/SPLIT.parquet (or .tsv, .csv, .jsonl, or the Hub's
            TASK/SPLIT-00000-of-0000N.parquet); None for the Hub.

    Raises:
        EvalError: a split is missing, unreadable or empty, a column is absent, a text or a label is empty, a label is
            outside the task's classes.
    """
    origin = _origin(task, glue_dir)
    first, *others = task.validation_splits
    splits: dict[str, datasets.Dataset] = {}
    for split in ("train", first, *_find_splits(task, tuple(others), glue_dir)):
        data = _load(task, split, glue_dir)
        check_split(task, split, data, origin)
        splits[split] = data.select_columns([*task.columns, LABEL])
    return datasets.DatasetDict(splits)


def load_test_splits(task: Task, glue_dir: str | None = None) -> dict[str, datasets.Dataset]:
    """The test splits that there are, with the text columns, and `label` and `idx` where the split has them.

    Raises:
        EvalError: a split is unreadable or empty, or a text column is absent, empty or no text.
    """
    splits = {}
    for split in _find_splits(task, task.test_splits, glue_dir):
        data = _load(task, split, glue_dir)
        _check_texts(task, split, data, _origin(task, glue_dir))
        kept = [name for name in (*task.columns, LABEL, "idx") if name in data.column_names]
        splits[split] = data.select_columns(kept)
    return splits
