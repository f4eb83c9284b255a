"""Lines of a file or of a byte range, and the readers made of them: JSON lines and paragraphs of text.

A reader yields (number of the line in the slice, from 1; value). What it cannot read it tells the `RowCheck`.
"""

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from .malformed import RowCheck
from .opening import open_file
from .slices import WHOLE, Slice

BOM = "\ufeff".encode()


def lines(stream: IO[bytes], part: Slice) -> Iterator[tuple[int, bytes]]:
    """(position, line) for the lines that begin at `part.first` or later, without a BOM; the caller stops."""
    position = part.first
    if position:
        position = _enter(stream, position)
    for line in stream:
        yield position, line if position else line.removeprefix(BOM)
        position += len(line)


def _enter(stream: IO[bytes], first: int) -> int:
    """Go to the first line that begins at byte `first` or later, and return its position."""
    stream.seek(first - 1)
    # the end of the line before, which is just "\n" when one begins at `first`
    return first - 1 + len(stream.readline())


def lines_before(part: Slice) -> int:
    """How many lines of a file begin before the first one of a slice; reads the file from its beginning."""
    if not part.first:
        return 0
    with open_file(part.file) as stream:
        entry = _enter(stream, part.first)
        stream.seek(0)
        position = count = 0
        while position < entry:
            position += len(stream.readline())
            count += 1
    return count


def json_lines(rows: Iterable[tuple[int, bytes]], part: Slice, check: RowCheck) -> Iterator[tuple[int, Any]]:
    """The values of a file with one JSON object on each line; a row without the column has null.

    Only the first row of the file must have it.
    """
    first, decode = part.first == 0, row_decoder(check.column).decode
    for number, (position, line) in enumerate(rows, 1):
        if part.last != WHOLE and position >= part.last:
            return
        if line.isspace() or not line:
            continue
        if b"\0" in line:
            check.malformed(number, "nul_byte", "a NUL byte")
            continue
        try:
            row = decode(line.decode())
        except UnicodeDecodeError as error:
            check.malformed(number, "not_utf8", f"no UTF-8: {error.reason} at byte {error.start + 1}")
            continue
        except (ValueError, RecursionError) as error:  # ValueError: also of numbers with thousands of digits
            check.malformed(number, "not_json", f"no JSON: {json_reason(error)}")
            continue
        if not isinstance(row, dict):
            check.malformed(number, "no_object", "no JSON object")
            continue
        if first:
            check.has_column(list(row))
            first = False
        yield number, row.get(check.column)


def row_decoder(column: str) -> json.JSONDecoder:
    """A decoder for rows; ValueError for an object that has the text column twice, of which others take the last."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs) and [name for name, _ in pairs].count(column) > 1:
            raise ValueError(f"there is more than one {column!r}")
        return row

    return json.JSONDecoder(object_pairs_hook=build)


def json_reason(error: Exception) -> str:
    """What a JSON parser found wrong, without its own idea of the line."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def paragraphs(rows: Iterable[tuple[int, bytes]], part: Slice, check: RowCheck) -> Iterator[tuple[int, str]]:
    """The paragraphs of a text, which blank lines part; line ends become "\\n" in them."""
    check.has_column(["text"])
    held: list[bytes] = []
    begun = part.first == 0
    number = start = 0
    for position, piece in pieces(rows):
        number += 1
        if not piece.isspace() and piece:
            if begun:
                start = start if held else number
                held.append(piece)
            continue
        yield from _paragraph(start, held, check)
        held = []
        if part.last != WHOLE and position >= part.last:
            return
        begun = True
    yield from _paragraph(start, held, check)


def pieces(rows: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Lines that carriage returns alone may end too; each has the position of the line with "\\n" it is a part of."""
    for position, line in rows:
        if b"\r" in line.removesuffix(b"\r\n"):
            for piece in line.splitlines(keepends=True):
                yield position, piece
        else:
            yield position, line


def _paragraph(start: int, held: list[bytes], check: RowCheck) -> Iterator[tuple[int, str]]:
    """The paragraph of these lines, of which the first has the number `start`; none of no lines."""
    if not held:
        return
    raw = b"".join(held)
    if (nul := raw.find(0)) >= 0:
        check.malformed(start + _ended(raw, nul), "nul_byte", "a NUL byte")
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        check.malformed(start + _ended(raw, error.start), "not_utf8", f"no UTF-8: {error.reason}")
        return
    yield start, text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def _ended(raw: bytes, end: int) -> int:
    """How many lines end before a position."""
    return len(raw[: end + 1].splitlines()) - 1
