"""Which reader a file's name asks for, and where a file may be cut into slices.

pyarrow is imported where a file needs it: options are checked with this module, in a moment.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .opening import open_file, reading

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
WHOLE = -1
UNKNOWN_BYTES = 64 << 20
"""What a file or Hub shard counts for where nobody says how large it is."""


@dataclass(frozen=True)
class Slice:
    """A part of one file, or of one Hub dataset."""

    file: str
    """Path or URL; empty for a Hub dataset."""
    first: int = 0
    """First row group (Parquet), byte (lines, text) or shard (Hub) of the slice."""
    last: int = WHOLE
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

    with reading(file), open_file(file) as stream:
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
