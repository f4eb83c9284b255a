"""Rows that cannot be read as they stand: where they are, what is wrong with them, and what becomes of them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NoReturn

from ...errors import DataError
from ...problems import Problem

MalformedRule = Literal["stop", "skip"]
LEFT_OUT = "malformed_"
"""What the names of tallies of malformed rows begin with; the cause follows."""
REPLACED = "replaced_surrogates"
"""The tally of lone surrogates that became U+FFFD."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_UTF8 = "convert it to UTF-8, for instance with `iconv -f UTF-16 -t UTF-8`"
_FIXES = {
    "too_few_fields": "complete the row",
    "too_many_fields": "put texts that hold commas in double quotes",
    "wrong_quotes": 'close every quote, and write one inside a quoted text as ""',
    "not_json": "write one JSON object a line, or an array of them",
    "no_object": "write one JSON object a line, or an array of them",
    "not_utf8": _UTF8,
    "nul_byte": f"take it out; if the file is UTF-16, {_UTF8}",
    "not_text": "set text_column to a column of strings",
}
"""What helps, by cause; the keys are all the causes there are."""
_SKIPPING = "or set corpus.malformed=skip, which leaves such rows out and counts them"


class RowCheck:
    """What a reader does with the rows of one slice: texts pass, what is malformed stops the work or is counted."""

    def __init__(
        self,
        file: str,
        column: str,
        rule: MalformedRule = "stop",
        tally: Counter[str] | None = None,
        place: Callable[[int], str] = "row {}".format,
    ) -> None:
        """`place` says where the n-th line or row of the slice is, from 1; `tally` counts causes and replacements."""
        self.file, self.column = file, column
        self._rule, self._tally, self._place = rule, Counter() if tally is None else tally, place

    def malformed(self, number: int, cause: str, wrong: str) -> None:
        """Take note of a row that cannot be used; DataError, with its place, where that is to stop the work."""
        if self._rule == "stop":
            self._refuse(number, wrong, f"{_FIXES[cause]}, {_SKIPPING}")
        self._tally[LEFT_OUT + cause] += 1

    def malformed_rest(self, number: int, cause: str, wrong: str, lines: Iterable[Any]) -> None:
        """The same for a row whose end nobody can tell: with it go all the `lines` behind it, which are counted too."""
        self.malformed(number, cause, wrong)
        if behind := sum(1 for _ in lines):
            self._tally[f"{LEFT_OUT}lines_behind_{cause}"] += behind

    def malformed_header(self, number: int, cause: str, wrong: str) -> NoReturn:
        """Raise the DataError for a header, without which no row can be read."""
        self._refuse(number, wrong, _FIXES[cause])

    def has_column(self, names: list[str]) -> None:
        """DataError unless the text column is there, once."""
        shown = ", ".join(map(repr, names))
        if self.column not in names:
            wrong = f"has no column {self.column!r}, only {shown}"
            raise DataError(Problem(repr(self.file), wrong=wrong, fix="set text_column"))
        if names.count(self.column) > 1:
            wrong = f"has more than one column {self.column!r} ({shown})"
            raise DataError(Problem(repr(self.file), wrong=wrong, fix="rename all but one"))

    def texts(self, rows: Iterable[tuple[int, Any]]) -> Iterator[str | None]:
        """The sound ones of (number, value), text or null; a lone surrogate becomes U+FFFD and is counted."""
        for number, value in rows:
            if isinstance(value, bytes):  # a Parquet column without the annotation that it is text
                try:
                    value = value.decode()
                except UnicodeDecodeError as error:
                    self.malformed(number, "not_utf8", f"no UTF-8 ({error.reason})")
                    continue
            if value is None:
                yield None
            elif not isinstance(value, str):
                self.malformed(number, "not_text", f"column {self.column!r} holds {type(value).__name__}, not text")
            elif "\0" in value:
                self.malformed(number, "nul_byte", "a NUL byte")
            elif value.isascii():
                yield value
            else:
                text, replaced = _SURROGATE.subn("\ufffd", value)
                if replaced:
                    self._tally[REPLACED] += replaced
                yield text

    def _refuse(self, number: int, wrong: str, fix: str) -> NoReturn:
        raise DataError(Problem(repr(self.file), wrong=f"cannot be read ({self._place(number)}: {wrong})", fix=fix))
