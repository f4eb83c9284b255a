"""Reading a slice of a file in whatever format it has."""

from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from ...filesystem import is_url
from .csv_rows import csv_rows
from .json_array import json_rows
from .lines import json_lines, lines, lines_before, paragraphs
from .malformed import MalformedRule, RowCheck
from .opening import decompressed, open_file, reading
from .slices import Slice, suffix_format

_BATCH = 256  # documents at a time

Batch = tuple[list[str | None], float]
"""Values of the text column, and the share of the slice that has been read."""


def read_slice(
    part: Slice, column: str, rule: MalformedRule = "stop", tally: Counter[str] | None = None
) -> Iterator[Batch]:
    """The texts in a slice, nulls included, a few hundred at a time.

    Rows that are not text as they stand stop the work, or with the rule "skip" are left out and counted by cause in
    `tally`, as "malformed_" and the cause.

    Raises DataError when the file cannot be read or has no such column; UnfinishedError when the file is remote and
    the network is to blame.
    """
    kind, compression = suffix_format(part.file)
    with reading(part.file), open_file(part.file) as raw:
        if kind == "parquet":
            yield from _parquet(raw, part, RowCheck(part.file, column, rule, tally))
            return
        check = RowCheck(part.file, column, rule, tally, lambda number: _line(part, number))
        stream = decompressed(raw, compression)  # kept to the end: Arrow's closes the file with itself
        length = max(part.bytes, 1)
        texts: list[str | None] = []
        for text in check.texts(_rows(kind, stream, part, check)):
            texts.append(text)
            if len(texts) == _BATCH:
                yield texts, min((raw.tell() - part.first) / length, 1.0)
                texts = []
        if texts:
            yield texts, 1.0
        if compression and not raw.tell():
            raise EOFError("it is empty, which no compressed file is")


def _parquet(raw: IO[bytes], part: Slice, check: RowCheck) -> Iterator[Batch]:
    from .parquet import parquet_batches  # pyarrow takes its time to import

    for rows, share in parquet_batches(raw, part, check, _BATCH):
        yield list(check.texts(rows)), share


def _rows(kind: str | None, stream: IO[bytes], part: Slice, check: RowCheck) -> Iterator[tuple[int, Any]]:
    """(number of the line, value) of every row."""
    if kind == "csv":
        return csv_rows(lines(stream, part), check)
    if kind == "json":
        return json_rows(lines(stream, part), part, check)
    if kind == "lines":
        return json_lines(lines(stream, part), part, check)
    return paragraphs(lines(stream, part), part, check)


def _line(part: Slice, number: int) -> str:
    """Where the n-th line of a slice is; counting those before it reads a file, but is not worth fetching one."""
    if part.first and is_url(part.file):
        return f"line {number} after byte {part.first}"
    return f"line {lines_before(part) + number}"
