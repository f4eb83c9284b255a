"""The rows of one file, or of one split on the Hub, as they are written there: no value is interpreted here."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import Problem

from ..errors import EvalError
from .delimited import Table, decode_text, read_csv, read_tsv

_KINDS = {
    "parquet": "Parquet", "tsv": "TSV", "csv": "CSV", "json": "JSON", "jsonl": "JSON lines", "lines": "lines of text",
}  # fmt: skip
# U+FFFD stands for half of a surrogate pair, as cutting a text between the two halves leaves it
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Rows:
    """The columns that were asked for, as far as they are there, value by value; None is null."""

    source: str
    """The file, or the address on the Hub."""
    columns: list[str]
    """The names of all the columns there are."""
    values: dict[str, list[Any]]
    count: int
    lines: list[int] = field(default_factory=list)
    """Where each row begins, from 1, in a file of text; empty otherwise."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """For a column that is stored as class ids: the names of the classes."""
    untyped: bool = False
    """All values are text that says what it is only by its look, as in CSV."""
    replaced: int = 0
    """Texts in which U+FFFD stands for a lone surrogate."""

    def place(self, row: int) -> str:
        """Where a row stands, for a message."""
        return f"{self.source}, line {self.lines[row]}" if self.lines else f"{self.source}, row {row} counted from 0"

    def short_place(self, row: int) -> str:
        """The same where the message has named the folder."""
        return self.place(row).removeprefix(self.source.removesuffix(Path(self.source).name))


def read_rows(path: Path, wanted: Sequence[str], quoted_tsv: bool | None = None, kind: str | None = None) -> Rows:
    """The rows of a file: Parquet, TSV, CSV, JSON, JSON lines, or lines of text.

    Args:
        wanted: the columns to read; of lines of text, what the one column is called.
        quoted_tsv: see `read_tsv`.
        kind: one of `config.FILE_SUFFIXES`, or "lines"; None where the name's ending says it.

    Raises:
        EvalError: the file cannot be read, is malformed, or has a wanted column twice.
    """
    kind = kind or path.suffix.lower()[1:]
    try:
        if kind == "parquet":
            return _read_parquet(path, wanted)
        if kind in ("json", "jsonl"):
            return _read_json(path, wanted, may_be_list=kind == "json")
        if kind == "lines":
            return _read_lines(path, wanted[0])
        table = read_csv(path) if kind == "csv" else read_tsv(path, quoted_tsv)
        return _of_table(path, table, wanted)
    except EvalError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise EvalError(f"{path} cannot be read as {_KINDS[kind]} ({error}): write it again") from error


def _there(source: str, columns: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The wanted columns that there are."""
    twice = [name for name in dict.fromkeys(wanted) if columns.count(name) > 1]
    if twice:
        raise EvalError(Problem(source, wrong=f"has two columns {', '.join(twice)}", fix="rename one of them"))
    return [name for name in dict.fromkeys(wanted) if name in columns]


def _of_table(path: Path, table: Table, wanted: Sequence[str]) -> Rows:
    at = {name: table.columns.index(name) for name in _there(str(path), table.columns, wanted)}
    values: dict[str, list[Any]] = {name: [row[index] for row in table.rows] for name, index in at.items()}
    return Rows(str(path), table.columns, values, len(table.rows), table.lines, untyped=True)


def _read_parquet(path: Path, wanted: Sequence[str]) -> Rows:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        there = _there(str(path), schema.names, wanted)
        table = file.read(columns=there)
        count = file.metadata.num_rows
    values = {name: table.column(name).to_pylist() for name in there}
    stored_as_ids = [name for name in there if pa.types.is_integer(schema.field(name).type)]
    names = {name: declared for name, declared in _declared_names(path, schema).items() if name in stored_as_ids}
    return Rows(str(path), schema.names, values, count, class_names=names)


def _declared_names(path: Path, schema: pa.Schema) -> dict[str, list[str]]:
    """The class names that `datasets` keeps in a Parquet file's metadata, by column."""
    content = (schema.metadata or {}).get(b"huggingface")
    if content is None:
        return {}
    try:
        features = json.loads(content)["info"]["features"]
        declared = {
            column: feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names") is not None
        }
        if not all(_are_names(names) for names in declared.values()):
            raise ValueError("class names that are no list of different names")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"has metadata of datasets that cannot be read ({error})"
        raise EvalError(Problem(f"{path}", wrong=reason, fix="write the file again")) from error
    return declared


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len({*value}) == len(value)


def _read_lines(path: Path, column: str) -> Rows:
    """A text a line, without its line end; a line end after the last text begins no other."""
    lines = decode_text(path).split("\n")
    texts = [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    return Rows(str(path), [column], {column: list(texts)}, len(texts), list(range(1, len(texts) + 1)))


def _read_json(path: Path, wanted: Sequence[str], may_be_list: bool) -> Rows:
    """JSON lines, or one list of objects."""
    text = decode_text(path)
    is_list = may_be_list and text.lstrip().startswith("[")
    columns: dict[str, None] = {}
    lines: list[int] = []
    values: dict[str, list[Any]] = {name: [] for name in wanted}
    replaced = 0
    for number, row in _list_of_objects(path, text) if is_list else _lines_of_objects(path, text):
        columns.update(dict.fromkeys(row))
        lines.append(number)
        for name in values:
            value = row.get(name)
            if isinstance(value, str) and _LONE_SURROGATE.search(value):
                value, replaced = _LONE_SURROGATE.sub(_REPLACEMENT, value), replaced + 1
            values[name].append(value)
    there = {name: column for name, column in values.items() if name in columns}
    return Rows(str(path), list(columns), there, len(lines), [] if is_list else lines, replaced=replaced)


def _lines_of_objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every object, with its line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip(" \t\r"):
            where = f"{path}, line {number}"
            yield number, _as_object(_parse(where, line), where)


def _list_of_objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every object, with its number in the list."""
    for number, row in enumerate(_parse(str(path), text)):
        yield number, _as_object(row, f"{path}, row {number} counted from 0")


def _parse(where: str, text: str) -> Any:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key is there twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise EvalError(Problem(where, wrong=f"is not JSON ({reason})", fix="correct it")) from error


def _as_object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise EvalError(Problem(where, wrong="is no JSON object", fix='write one a line: {"sentence": "..."}'))
    return row


def of_dataset(source: str, data: datasets.Dataset, wanted: Sequence[str]) -> Rows:
    """The rows of a split that `datasets` loaded."""
    there = _there(source, data.column_names, wanted)
    features = {name: data.features[name] for name in there}
    names = {
        name: list(feature.names) for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)
    }
    return Rows(source, data.column_names, {name: data[name][:] for name in there}, len(data), class_names=names)
