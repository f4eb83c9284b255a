"""CSV and TSV, read strictly: every row has the fields of the header, every quote is closed, every value stays text.

What is not so is refused with file and line: a row that was repaired by guessing would count as an example.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem

from ..errors import EvalError

_MOST_PROBLEMS = 3  # one missing quote makes thousands of bad rows
_LONGEST_FIELD = 1 << 30
_COMMA, _TAB, _QUOTE = ",", "\t", '"'


@dataclass(frozen=True)
class Table:
    """The rows of a file with a header."""

    columns: list[str]
    rows: list[list[str]]
    """Each as long as `columns`."""
    lines: list[int]
    """Where each row begins, from 1."""


def decode_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        EvalError: it is not UTF-8, or has NUL bytes, as UTF-16 read as UTF-8 has.
    """
    content = path.read_bytes()
    fix = "save it as UTF-8"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EvalError(Problem(f"{path}, line {line}", wrong=f"is not UTF-8 ({error.reason})", fix=fix)) from error
    if (nul := text.find("\0")) >= 0:
        line = text.count("\n", 0, nul) + 1
        raise EvalError(Problem(f"{path}, line {line}", wrong="has a NUL byte: is it UTF-16?", fix=fix))
    return text


def read_csv(path: Path) -> Table:
    """Commas between the fields; quoted where a field holds commas, quotes (doubled) or line ends (RFC 4180).

    Raises:
        EvalError: it is not UTF-8 text, a row has more or fewer fields than the header, a quote is not closed.
    """
    return _parse(path, decode_text(path), _COMMA, quoted=True)


def read_tsv(path: Path, quoted: bool | None) -> Table:
    """Tabs between the fields.

    Args:
        quoted: whether quotation marks enclose fields, as in CSV; False as in GLUE's own files, where they are part of
            the text; None where the file must tell.

    Raises:
        EvalError: as `read_csv`; or quotation marks that could be either.
    """
    text = decode_text(path)
    return _parse(path, text, _TAB, _is_quoted(path, text) if quoted is None else quoted)


def _parse(path: Path, text: str, delimiter: str, quoted: bool) -> Table:
    columns: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    problems = []
    try:
        for line, row in _rows(text, delimiter, quoted):
            if not columns:
                columns = row
            elif len(row) == len(columns):
                rows.append(row)
                lines.append(line)
            else:
                problems.append(_wrong_length(path, line, len(row), len(columns), quoted))
    except _Broken as broken:
        problems.append(Problem(f"{path}, line {broken.line}", wrong=broken.wrong, fix=broken.fix))
    if not columns and not problems:
        problems.append(Problem(f"{path}", wrong="is empty", fix="give a header with the names of the columns"))
    if problems:
        raise EvalError(*_shortened(path, problems))
    return Table(columns, rows, lines)


class _Broken(Exception):
    """A quoted field that cannot be right; what follows it cannot be read."""

    def __init__(self, line: int, wrong: str, fix: str):
        super().__init__(wrong)
        self.line, self.wrong, self.fix = line, wrong, fix


def _rows(text: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line on which it begins."""
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        if "end of data" in str(error):
            raise _Broken(line, "has a quote that is never closed", "close it, or double it within a text") from error
        raise _Broken(line, f"has text after a closing quote ({error})", "double quotes within a text") from error


def _wrong_length(path: Path, line: int, fields: int, wanted: int, quoted: bool) -> Problem:
    fix = "write it as CSV, JSON lines or Parquet"
    if quoted and fields > wanted:
        fix = 'put texts that hold delimiters in quotes ("a, b")'
    elif fields < wanted:
        fix = "complete or remove the row"
    fields_text = f"{fields} field{'s' if fields != 1 else ''}"
    return Problem(f"{path}, line {line}", wrong=f"has {fields_text}, the header has {wanted}", fix=fix)


def _shortened(path: Path, problems: list[Problem]) -> list[Problem]:
    more = len(problems) - _MOST_PROBLEMS
    return problems[:_MOST_PROBLEMS] + ([Problem(f"{path}", wrong=f"has {more} more such rows")] if more > 0 else [])


def _is_quoted(path: Path, text: str) -> bool:
    """Whether quotation marks enclose the fields of a TSV file, which has no rule for it.

    Quoting doubles the marks within a field; nobody who does not quote doubles them. A mark that opens a field and does
    not close it, or stands within a field that none opens, is text: whoever quotes would have quoted that field.

    Raises:
        EvalError: there are marks that could be either, or both.
    """
    if _QUOTE not in text:
        return False
    header, *rows = (row for _, row in _rows(text, _TAB, quoted=False))
    if any(len(row) != len(header) for row in rows):
        return True  # tabs or line ends within quotes; or a bad row, which is found when it is read
    fields = [field for row in rows for field in row if _QUOTE in field]
    enclosed = [field for field in fields if _is_enclosed(field)]
    doubled = any(_QUOTE in field[1:-1] for field in enclosed) or any(_is_enclosed(name) for name in header)
    bare = len(enclosed) < len(fields)
    if bare and not doubled and not _joins_lines(text, len(rows) + 1):
        return False
    if doubled and not bare:
        return True
    wrong = "has quotation marks that may enclose fields or be part of the texts"
    raise EvalError(Problem(f"{path}", wrong=wrong, fix="write it as CSV, JSON lines or Parquet"))


def _joins_lines(text: str, lines: int) -> bool:
    """Whether quotation marks, if they enclose, make fewer rows of so many."""
    try:
        return sum(1 for _ in _rows(text, _TAB, quoted=True)) < lines
    except _Broken:
        return False


def _is_enclosed(field: str) -> bool:
    """Whether a field is what quoting makes: marks around it, and those within it doubled."""
    inner = field[1:-1]
    return len(field) > 1 and field[0] == field[-1] == _QUOTE and _QUOTE not in inner.replace(_QUOTE * 2, "")
