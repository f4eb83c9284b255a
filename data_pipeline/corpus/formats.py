"""Files of text, read slice by slice: Parquet row groups, byte ranges of lines or paragraphs, whole files.

A slice is what one unit of work reads of one file. Slices that touch give every document exactly once, whatever the
cuts: a line belongs to the slice in which it begins, a paragraph to the one in which the blank line before it begins.

pyarrow is imported where a file needs it: options are checked with this module, in a moment.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from ..errors import DataError, UnfinishedError
from ..filesystem import is_url, open_filesystem

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "json",
    ".csv": "csv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
"""Suffix -> reader."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bz2"}
_BATCH = 256  # documents at a time
_BUFFER = 1 << 18  # bytes
_WHOLE = -1
UNKNOWN_BYTES = 64 << 20
"""What a file or Hub shard counts for where nobody says how large it is."""

Batch = tuple[list[Any], float]
"""Raw values of the text column, and the share of the slice that has been read."""


@dataclass(frozen=True)
class Slice:
    """A part of one file, or of one Hub dataset."""

    file: str
    """Path or URL; empty for a Hub dataset."""
    first: int = 0
    """First row group (Parquet), byte (lines, text) or shard (Hub) of the slice."""
    last: int = _WHOLE
    """The one after the last; -1 for the rest of the file."""
    bytes: int = 0
    """Stored size, as far as it is known: what progress and the sizes of units are counted in."""


def suffix_format(path: str) -> tuple[str | None, str | None]:
    """(reader, compression) by a file's name; None for what it does not say."""
    if path.startswith(("http://", "https://")):
        path = path.split("?")[0]
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    return (FORMATS.get(suffixes[-1]) if suffixes else None), compression


def cut_file(file: str, size: int, target: int) -> list[Slice]:
    """A file as slices of about `target` stored bytes, as far as its format can be entered in the middle."""
    kind, compression = suffix_format(file)
    if not size:
        return [Slice(file, bytes=UNKNOWN_BYTES)]
    if size <= target or compression or kind in ("json", "csv"):
        return [Slice(file, bytes=size)]
    if kind != "parquet":
        cuts = [size * number // -(-size // target) for number in range(-(-size // target) + 1)]
        return [Slice(file, first, last, last - first) for first, last in pairwise(cuts)]
    import pyarrow.parquet as pq

    with reading(file), _open(file) as stream:
        metadata = pq.ParquetFile(stream).metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        sizes = [
            sum(group.column(index).total_compressed_size for index in range(group.num_columns)) for group in groups
        ]
    slices, first, held = [], 0, 0
    for number, stored in enumerate(sizes):
        held += stored
        if held >= target or number == len(sizes) - 1:
            slices.append(Slice(file, first, number + 1, held))
            first, held = number + 1, 0
    return slices or [Slice(file, bytes=size)]


def read_slice(part: Slice, column: str) -> Iterator[Batch]:
    """The values of the text column in a slice, nulls included, a few hundred at a time.

    Raises DataError when the file cannot be read or has no such column; UnfinishedError when the file is remote and
    the network is to blame.
    """
    kind, compression = suffix_format(part.file)
    with reading(part.file), _open(part.file) as raw:
        if kind == "parquet":
            yield from _parquet(raw, part, column)
            return
        stream = _decompressed(raw, compression)
        length = max(part.bytes, 1)
        readers: dict[str | None, Callable[[], Iterator[Any]]] = {
            "lines": lambda: _json_lines(stream, part, column),
            "json": lambda: _json(stream, part, column),
            "csv": lambda: _csv(stream, part, column),
            "text": lambda: _paragraphs(stream, part, column),
        }
        values: list[Any] = []
        for value in readers[kind]():
            values.append(value)
            if len(values) == _BATCH:
                yield values, min((raw.tell() - part.first) / length, 1.0)
                values = []
        if values:
            yield values, 1.0


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever goes wrong while a source is read into one message that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # decoders and drivers of remote stores raise classes of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        if is_url(path) and not isinstance(error, FileNotFoundError | PermissionError | ValueError | EOFError):
            raise UnfinishedError(f"{path!r} cannot be read ({reason}): check the network, then run again") from error
        raise DataError(f"{path!r} cannot be read ({reason}): check the file") from error


def _open(file: str) -> IO[bytes]:
    if not is_url(file):
        return open(file, "rb")
    filesystem, path = open_filesystem(file)
    stream: IO[bytes] = filesystem.open(path, "rb")
    return stream


def _decompressed(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    if compression is None:
        return raw
    if compression == "zstd":  # Arrow's reads concatenated frames and notices a truncated file; zstandard's does not
        import pyarrow as pa

        arrow = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return io.BufferedReader(arrow, _BUFFER)
    from fsspec.compression import compr

    stream: IO[bytes] = compr[compression](raw, mode="rb")
    return stream


def no_column(path: str, column: str, there: list[str]) -> DataError:
    """The error for a source without the text column."""
    return DataError(f"{path!r} has no column {column!r}, only {', '.join(map(repr, there))}: set text_column")


def _parquet(raw: IO[bytes], part: Slice, column: str) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(raw)
    if column not in file.schema_arrow.names:
        raise no_column(part.file, column, file.schema_arrow.names)
    groups = range(part.first, file.num_row_groups if part.last == _WHOLE else part.last)
    rows, done = sum(file.metadata.row_group(group).num_rows for group in groups), 0
    for batch in file.iter_batches(_BATCH, row_groups=list(groups), columns=[column], use_threads=False):
        done += batch.num_rows
        yield batch.column(0).to_pylist(), done / rows


def _lines(stream: IO[bytes], part: Slice) -> Iterator[tuple[int, bytes]]:
    """(position, line) for the lines that begin at `part.first` or later; the caller stops."""
    position = part.first
    if position:
        stream.seek(position - 1)
        position += len(stream.readline()) - 1  # the end of the line before, which is just "\n" when one begins here
    for line in stream:
        yield position, line
        position += len(line)


def _json_lines(stream: IO[bytes], part: Slice, column: str) -> Iterator[Any]:
    seen = False
    for position, line in _lines(stream, part):
        if part.last != _WHOLE and position >= part.last:
            return
        if line.isspace():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"byte {position} is no JSON object")
        if not seen and column not in row:  # later rows may lack it: they have no text
            raise no_column(part.file, column, list(row))
        seen = True
        yield row.get(column)


def _json(stream: IO[bytes], part: Slice, column: str) -> Iterator[Any]:
    """One JSON array, or JSON lines under another name."""
    head = stream.read(1)
    stream.seek(0)
    if head != b"[":
        yield from _json_lines(stream, part, column)
        return
    seen = False
    for row in json.load(stream):
        if not seen and column not in row:
            raise no_column(part.file, column, list(row))
        seen = True
        yield row.get(column)


def _csv(stream: IO[bytes], part: Slice, column: str) -> Iterator[Any]:
    csv.field_size_limit(1 << 30)
    rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
    if rows.fieldnames and column not in rows.fieldnames:
        raise no_column(part.file, column, list(rows.fieldnames))
    for row in rows:
        yield row[column]


def _paragraphs(stream: IO[bytes], part: Slice, column: str) -> Iterator[str]:
    if column != "text":
        raise no_column(part.file, column, ["text"])
    lines: list[bytes] = []
    begun = part.first == 0
    for position, line in _lines(stream, part):
        if not line.isspace():
            if begun:
                lines.append(line)
            continue
        if lines:
            yield _text(lines)
            lines = []
        if part.last != _WHOLE and position >= part.last:
            return
        begun = True
    if lines:
        yield _text(lines)


def _text(lines: list[bytes]) -> str:
    return b"".join(lines).decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
