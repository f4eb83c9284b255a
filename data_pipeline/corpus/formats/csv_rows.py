"""The reader of CSV: commas, double quotes, a header; RFC 4180 and nothing else."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from .lines import pieces
from .malformed import RowCheck

_LONGEST_FIELD = 1 << 28  # characters: what a quote that never closes may take of the memory


def csv_rows(rows: Iterable[tuple[int, bytes]], check: RowCheck) -> Iterator[tuple[int, Any]]:
    """(number of the line on which a row begins, its text); the first row that is not blank is the header.

    Quotes that do not fit leave nobody knowing where the next row begins: everything behind them is left out too.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    text = _Lines(rows)
    reader = csv.reader(text, strict=True)
    header: list[str] = []
    place = 0
    while True:
        begin = reader.line_num + 1
        text.fault = None
        try:
            row = next(reader, None)
        except csv.Error as error:
            wrong = f"a row begins whose quotes do not fit: {error}"
            if not header:
                check.malformed_header(begin, "wrong_quotes", wrong)
            check.malformed_rest(begin, "wrong_quotes", wrong, text)
            return
        if row is None:
            return
        if text.fault is not None:
            if not header:
                check.malformed_header(*text.fault)
            check.malformed(*text.fault)
        elif not row:
            continue
        elif not header:
            check.has_column(row)
            header, place = row, row.index(check.column)
        elif len(row) != len(header):
            cause = "too_few_fields" if len(row) < len(header) else "too_many_fields"
            check.malformed(begin, cause, f"{_fields(row)} where the header has {len(header)}")
        else:
            yield begin, row[place]


class _Lines:
    """Lines as text; the first that is none is noted as `fault`: its number, the cause and what is wrong."""

    def __init__(self, rows: Iterable[tuple[int, bytes]]) -> None:
        self._rows = enumerate(pieces(rows), 1)
        self.fault: tuple[int, str, str] | None = None

    def __iter__(self) -> Iterator[str]:
        for number, (_, line) in self._rows:
            if b"\0" in line:
                self.fault = self.fault or (number, "nul_byte", "a NUL byte")
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                wrong = f"no UTF-8: {error.reason} at byte {error.start + 1}"
                self.fault = self.fault or (number, "not_utf8", wrong)
                yield line.decode(errors="replace")


def _fields(row: list[str]) -> str:
    return "1 field" if len(row) == 1 else f"{len(row)} fields"
