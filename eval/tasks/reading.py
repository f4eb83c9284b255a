"""The splits of a task: found in a folder or on the Hub, checked, and given as text columns and class ids."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa

from data_pipeline import Problem
from eval import ranks

from ..errors import EvalError
from .columns import TEXT_NAMES, choose_columns, choose_texts
from .config import FILE_SUFFIXES
from .glue import DIAGNOSTIC, GLUE_TASKS
from .labels import find_classes, label_ids, label_numbers
from .rows import Rows, of_dataset, read_rows
from .task import LABEL, Task

INDEX = "idx"
_PART = re.compile(r"-(\d+)-of-(\d+)\.parquet")


def _candidates(folder: Path, split: str) -> tuple[list[Path], list[tuple[int, int, Path]]]:
    """Files that are a split, and the numbered parts of one: (number, of how many, file)."""
    whole = [file for suffix in FILE_SUFFIXES if (file := folder / f"{split}.{suffix}").is_file()]
    matches = ((_PART.fullmatch(file.name.removeprefix(split)), file) for file in folder.glob("*.parquet"))
    return whole, sorted((int(match[1]), int(match[2]), file) for match, file in matches if match)


def split_files(folder: Path, split: str) -> list[Path]:
    """SPLIT.parquet (or .tsv, .csv, .json, .jsonl), or the Hub's numbered Parquet parts of it; empty without one.

    Raises:
        EvalError: it is there in several forms, or parts are missing.
    """
    whole, parts = _candidates(folder, split)
    files = [file for _, _, file in parts]
    if len(whole) + bool(parts) > 1:
        names = ", ".join(file.name for file in [*whole, *files[:1]])
        raise EvalError(Problem(f"{folder}", wrong=f"has the split {split} twice ({names})", fix="keep one of them"))
    if [(number, of) for number, of, _ in parts] != [(number, len(parts)) for number in range(len(parts))]:
        wrong = (
            f"lacks parts of {split}, or has parts of several versions: {', '.join(file.name for file in files[:5])}"
        )
        raise EvalError(Problem(f"{folder}", wrong=wrong, fix="give all parts of one version"))
    return whole or files


def read_split(folder: Path, split: str, wanted: Sequence[str], quoted_tsv: bool | None = None) -> list[Rows]:
    """One split of a local data set, file by file.

    Args:
        wanted: the columns to read, where they are there.
        quoted_tsv: see `read_tsv`.

    Raises:
        EvalError: there is no such file, or it cannot be read.
    """
    files = split_files(folder, split)
    if not files:
        others = ", ".join(f".{suffix}" for suffix in FILE_SUFFIXES[1:])
        raise EvalError(f"{folder / split}.parquet is missing (so are {others}): a task needs its {split} split")
    return [read_rows(file, wanted, quoted_tsv) for file in files]


def load_hub_split(path: str, name: str | None, split: str, wanted: Sequence[str], field: str) -> list[Rows]:
    """One split of a data set on the Hub.

    Args:
        wanted: the columns to read, where they are there.
        field: the option that would name a local folder instead, for the message.

    Raises:
        EvalError: it cannot be loaded.
    """
    origin = path if name is None else f"{path} {name}"
    try:
        data = datasets.load_dataset(path, name, split=split)
    except Exception as error:  # the Hub fails in many ways: no network, no access, a changed layout
        raise EvalError(f"{origin} cannot be loaded from the Hub ({error}): give a local --{field}") from error
    return [of_dataset(f"{origin}, split {split}", data, wanted)]


def hub_splits(path: str, name: str | None) -> list[str]:
    """The splits that a data set on the Hub has; none when it cannot be reached."""
    try:
        return list(datasets.get_dataset_split_names(path, name))
    except Exception:  # as above; loading the first split will say what is wrong
        return []


def find_local_tasks(glue_dir: Path) -> list[str]:
    """The names of the folders in `glue_dir` that have a training split."""
    return sorted(folder.name for folder in glue_dir.iterdir() if folder.is_dir() and any(_candidates(folder, "train")))


def infer_task(folder: Path) -> Task:
    """The task that a folder's training split is: its columns and classes, scored by accuracy.

    Raises:
        EvalError: it cannot be read, leaves open which columns are texts and labels, or has labels that are no classes.
    """
    where = f"{folder}, split train"
    texts, label = choose_columns(read_split(folder, "train", ())[0].columns, (), None, where)
    train = read_split(folder, "train", (label,))
    check_columns(train, (label,), where)
    classes = find_classes(train, label, f"{folder}: {label}")
    return Task(folder.name, texts, classes, ("accuracy",), numbered=False, label_column=label)


def _is_glues(task: Task) -> bool:
    """Whether the task is GLUE's own, whose files are as they are."""
    return task.name in GLUE_TASKS or task.name == DIAGNOSTIC.name


def check_columns(parts: Sequence[Rows], columns: Sequence[str], where: str, fix: str = "rename them") -> None:
    """Raise `EvalError` unless every file of a split has the columns, and there is at least one row."""
    absent = {tuple(rows.columns): [name for name in columns if name not in rows.columns] for rows in parts}
    problems = [
        Problem(where, wrong=f": no column {', '.join(names)}; it has {', '.join(there)}", fix=fix)
        for there, names in absent.items()
        if names and there
    ]
    if not problems and not sum(rows.count for rows in parts):
        problems.append(Problem(where, wrong=": it is empty", fix="give at least one example"))
    if problems:
        raise EvalError(*problems)


def _is_blank(text: str) -> bool:
    """Whether a text has nothing that a tokenizer could keep: only white space, control and format characters."""
    return all(character.isspace() or unicodedata.category(character) in ("Cc", "Cf") for character in text)


def _texts(rows: Rows, column: str, where: str) -> tuple[list[str], list[int]]:
    """The texts of a column, and which of them are empty."""
    texts, blank = [], []
    for row, value in enumerate(rows.values[column]):
        if isinstance(value, bytes):
            value = _decode(rows, column, row, value)
        if value is None or (isinstance(value, str) and _is_blank(value)):
            blank.append(row)
        elif not isinstance(value, str):
            wrong = f": column {column} is {type(value).__name__} ({rows.short_place(row)})"
            raise EvalError(Problem(where, wrong=wrong, fix="give strings"))
        texts.append(value or "")
    return texts, blank


def _decode(rows: Rows, column: str, row: int, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise EvalError(
            Problem(rows.place(row), wrong=f": column {column} is not UTF-8 text", fix="encode it as UTF-8")
        )
    return text


def _empty(rows: Rows, column: str, empty: Sequence[int], where: str) -> Problem:
    count = f"{len(empty)} empty values" if len(empty) > 1 else "1 empty value"
    first = rows.short_place(empty[0])
    return Problem(where, wrong=f": column {column} has {count} ({first})", fix="fill or drop these rows")


def _text_columns(task: Task, rows: Rows, where: str) -> dict[str, list[str]]:
    """The texts of a split. In pairs of GLUE's own tasks one of the two may be empty: some of QQP's questions are."""
    columns, blanks = {}, {}
    for column in task.columns:
        columns[column], blanks[column] = _texts(rows, column, where)
    if _is_glues(task) and len(task.columns) > 1:
        both = set.intersection(*map(set, blanks.values()))
        for column, blank in blanks.items():
            blanks[column] = [row for row in blank if row in both or rows.values[column][row] is None]
    if problems := [_empty(rows, column, blank, where) for column, blank in blanks.items() if blank]:
        raise EvalError(*problems)
    if rows.replaced:
        ranks.say(f"{rows.source}: texts with half of a surrogate pair, for which U+FFFD stands now: {rows.replaced}")
    return columns


def _labels(task: Task, rows: Rows, column: str, where: str) -> list[int | None] | list[float | None]:
    return label_numbers(task, rows, column) if task.is_regression else label_ids(task, rows, column, where)


def checked_split(task: Task, parts: Sequence[Rows], where: str) -> datasets.Dataset:
    """A split as text columns and `label`: class ids, or numbers to predict.

    Raises:
        EvalError: it is empty, a column is absent, a text or a label is empty or not what the task takes.
    """
    label_column = task.label_column
    check_columns(parts, (*task.columns, label_column), where)
    tables = []
    for rows in parts:
        columns = _text_columns(task, rows, where)
        labels = _labels(task, rows, label_column, where)
        if unlabelled := [row for row, label in enumerate(labels) if label is None]:
            problem = _empty(rows, label_column, unlabelled, where)
            minus_one = task.numbered or label_column in rows.class_names
            raise EvalError(replace(problem, wrong=f"{problem.wrong}, -1 counts as one") if minus_one else problem)
        kind = pa.float64() if task.is_regression else pa.int64()
        tables.append(_table(columns).append_column(LABEL, pa.array(labels, kind)))
    return datasets.Dataset(pa.concat_tables(tables))


def _table(columns: dict[str, list[str]]) -> pa.Table:
    return pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})


def load_splits(
    task: Task, splits: dict[str, str], read: Callable[[str], list[Rows]], origin: str
) -> datasets.DatasetDict:
    """Several splits, each checked; what is wrong with any of them is told together.

    Args:
        splits: what each is called where it comes from, by what it is called here.
        read: gives the rows of a split, by what it is called here.
    """
    loaded, problems = {}, []
    for name, own in splits.items():
        try:
            loaded[name] = checked_split(task, read(name), f"{origin}, split {own}")
        except EvalError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise EvalError(*problems)
    return datasets.DatasetDict(loaded)


def _load(task: Task, split: str, glue_dir: str | None) -> list[Rows]:
    wanted = (*task.columns, task.label_column, INDEX)
    if glue_dir is not None:
        # GLUE's TSV files hold bare quotation marks
        return read_split(Path(glue_dir) / task.name, split, wanted, quoted_tsv=False if _is_glues(task) else None)
    if task.hub_dataset is None:
        raise EvalError(
            f"tasks: {task.name} has no address on the Hub: give the local folder of its data as --glue_dir"
        )
    return load_hub_split(task.hub_dataset, task.hub_config, split, wanted, "glue_dir")


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
    """The training split and the validation splits, each with the text columns and `label` only, as ids of the task.

    A validation split after the first that is not there is left out (GLUE mirrors often lack MNLI's mismatched one).

    Args:
        glue_dir: a folder with TASK/SPLIT.parquet (or .tsv, .csv, .jsonl, or the Hub's
            TASK/SPLIT-00000-of-0000N.parquet); None for the Hub.

    Raises:
        EvalError: a split is missing, unreadable or empty, a column is absent, a text or a label is empty, a label is
            none of the task's classes.
    """
    first, *others = task.validation_splits
    splits = ("train", first, *_find_splits(task, tuple(others), glue_dir))
    return load_splits(
        task, {name: name for name in splits}, lambda split: _load(task, split, glue_dir), _origin(task, glue_dir)
    )


def load_test_splits(task: Task, glue_dir: str | None = None) -> dict[str, datasets.Dataset]:
    """The test splits that there are, with the text columns and `idx` (row numbers where the split has none).

    A task that is test data only, GLUE's diagnostic set, has `label` too where every row has one: ids of the task.

    Raises:
        EvalError: a split is unreadable or empty, or a text column is absent, empty or no text.
    """
    return {
        split: checked_test(task, _load(task, split, glue_dir), f"{_origin(task, glue_dir)}, split {split}")
        for split in _find_splits(task, task.test_splits, glue_dir)
    }


def checked_test(task: Task, parts: Sequence[Rows], where: str) -> datasets.Dataset:
    """A split to predict, as `load_test_splits` gives it."""
    check_columns(parts, task.columns, where)
    table = pa.concat_tables([_table(_text_columns(task, rows, where)) for rows in parts])
    table = table.append_column(INDEX, pa.array(_index(parts), pa.int64()))
    if not task.validation_splits and all(LABEL in rows.columns for rows in parts):
        labels = [label for rows in parts for label in _labels(task, rows, LABEL, where)]
        if None not in labels:
            table = table.append_column(LABEL, pa.array(labels, pa.int64()))
    return datasets.Dataset(table)


def load_texts(task: Task, file: Path, kind: str) -> dict[str, list[str]]:
    """The texts of a file without labels, by column.

    Args:
        task: its columns are read; where it has none, those of a name that says so (`choose_texts`); "text" is what
            lines of text are called.
        kind: one of `config.FILE_SUFFIXES`, or "lines": a text a line.

    Raises:
        EvalError: the file cannot be read, is empty, lacks a column, or a text is empty or no text.
    """
    if kind == "lines":
        if len(task.columns) > 1:
            wrong = f": {task.name} is a task of pairs, a line has one text"
            fix = f"give a .csv, .tsv or .jsonl with the columns {', '.join(task.columns)}"
            raise EvalError(Problem(f"{file}", wrong=wrong, fix=fix))
        task = task if task.columns else replace(task, columns=("text",))
    rows = read_rows(file, task.columns or TEXT_NAMES, kind=kind)  # once: it may be a pipe
    fix = "name its columns with --text_columns"
    if not task.columns:
        task = replace(task, columns=choose_texts(rows.columns, f"{file}", fix))
    check_columns([rows], task.columns, f"{file}", fix)
    return _text_columns(task, rows, f"{file}")


def _index(parts: Sequence[Rows]) -> list[int]:
    """What a submission calls each row."""
    if not all(INDEX in rows.columns for rows in parts):
        return list(range(sum(rows.count for rows in parts)))
    index = []
    for rows in parts:
        for row, value in enumerate(rows.values[INDEX]):
            if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
                value = int(value)
            if not isinstance(value, int) or isinstance(value, bool):
                fix = "give whole numbers, or leave the column out"
                raise EvalError(Problem(rows.place(row), wrong=f": {INDEX} is {value!r}", fix=fix))
            index.append(value)
    return index
