"""The reader of Parquet: a column of strings, or of bytes that are UTF-8, in any of Arrow's types for them."""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ...problems import Problem
from .malformed import RowCheck
from .slices import WHOLE, Slice


def parquet_batches(
    raw: IO[bytes], part: Slice, check: RowCheck, size: int
) -> Iterator[tuple[list[tuple[int, Any]], float]]:
    """(number of the row in the file, from 1; value) for at most `size` rows, and the share of the slice read so far.

    Values are text, null, or bytes where a row is not known to be UTF-8.
    """
    file = pq.ParquetFile(raw, page_checksum_verification=True)
    check.has_column(file.schema_arrow.names)
    kind = file.schema_arrow.field(check.column).type
    if not _is_text(kind):
        wrong = f"cannot be read (column {check.column!r} holds {kind}, not text)"
        raise DataError(Problem(repr(part.file), wrong=wrong, fix="set text_column to a column of strings"))
    counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    last = file.num_row_groups if part.last == WHOLE else part.last
    rows, done, before = sum(counts[part.first : last]), 0, sum(counts[: part.first])
    groups = list(range(part.first, last))
    for batch in file.iter_batches(size, row_groups=groups, columns=[check.column], use_threads=False):
        values = _values(batch.column(check.column))  # by name: columns called "text.x" come along with "text"
        numbered = list(enumerate(values, before + done + 1))
        done += len(values)
        yield numbered, done / rows
    if done != rows:
        raise ValueError(f"it has {done} rows where its footer says {rows}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    kinds = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
    return any(getattr(pa.types, f"is_{name}")(kind) for name in (*kinds, "null"))


def _values(column: pa.Array) -> list[Any]:
    """The values of a column; as bytes where one of them is no UTF-8, though the column says so of all."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        values = [bytes(scalar.as_buffer()) if scalar.is_valid else None for scalar in plain]
    return values
