"""The reader of `.json`: one JSON array, row by row, or JSON lines under another name."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import DataError
from .lines import json_lines, json_reason, row_decoder
from .malformed import RowCheck
from .slices import Slice

_SPACE = re.compile(r"[ \t\n\r]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of bytes that are none


def json_rows(rows: Iterator[tuple[int, bytes]], part: Slice, check: RowCheck) -> Iterator[tuple[int, Any]]:
    """(number of the line on which a row begins, its value); the first character that is no space tells the kind."""
    before: list[tuple[int, bytes]] = []
    for position, line in rows:
        before.append((position, line))
        if not line.isspace() and line:
            break
    following = itertools.chain(before, rows)
    if before and before[-1][1].lstrip().startswith(b"["):
        return _array(following, check)
    return json_lines(following, part, check)


def _array(rows: Iterable[tuple[int, bytes]], check: RowCheck) -> Iterator[tuple[int, Any]]:
    """The values of an array. What is not JSON hides where the next row begins: all behind it is left out too."""
    text = b"".join(line for _, line in rows).decode(errors="surrogateescape")
    if (nul := text.find("\0")) >= 0:
        check.malformed_rest(_line(text, nul), "nul_byte", "a NUL byte", text.split("\n")[1:])
        return
    first = True
    try:
        for number, start, end, row in _elements(text, row_decoder(check.column)):
            if _NOT_UTF8.search(text, start, end):
                check.malformed(number, "not_utf8", "a row begins that is no UTF-8")
            elif not isinstance(row, dict):
                check.malformed(number, "no_object", "no JSON object")
            else:
                if first:
                    check.has_column(list(row))
                    first = False
                yield number, row.get(check.column)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        behind = text[error.pos :].split("\n")[1:]
        check.malformed_rest(error.lineno, "not_json", f"no JSON: {json_reason(error)}", behind)


def _elements(text: str, decoder: json.JSONDecoder) -> Iterator[tuple[int, int, int, Any]]:
    """(line, start, end, value) of each element of the array that a text is; JSONDecodeError where it is none."""
    number, counted = 1, 0
    at = _behind_space(text, text.index("[") + 1)
    closed = text.startswith("]", at)
    while not closed:
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, nesting without end
            raise json.JSONDecodeError(str(error), text, at) from error
        number, counted = number + text.count("\n", counted, at), at
        yield number, at, end, value
        at = _behind_space(text, end)
        closed = text.startswith("]", at)
        if not closed:
            if not text.startswith(",", at):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
            at = _behind_space(text, at + 1)
    if (end := _behind_space(text, at + 1)) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _behind_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
