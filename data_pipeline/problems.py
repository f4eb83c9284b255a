"""What is wrong with a user's input, as data, and the error that tells it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from .credentials import hide_credentials

_LARGEST = 2**53  # integers up to it are exact as floats, which many of them become somewhere


@dataclass(frozen=True)
class Problem:
    """One mistake of a user's: where it is, what is wrong with it, and how to fix it.

    A method `problems()` or a function `..._problems` returns *all* of them as a list, empty where nothing is wrong.
    Whoever asked raises the error class of the room with them, `raise PretrainError(*found)`, before any work is done.

    `str()` is the sentence that users see, a line: `optim.lr=0 must be above 0`, `tasks is empty: name at least one`,
    `grid.epochs=0: give more than 0`.
    """

    field: str
    """Dotted name of the option to change, or the file or folder; empty where `wrong` begins with what it is about."""
    value: Any = ...
    """What was given, as the sentence shows it; left out where that says nothing."""
    wrong: str = ""
    """What is wrong with it. The sentence goes on with it, after a space unless it begins with a comma or a colon."""
    fix: str = ""
    """What to do; empty where `wrong` says so already ("must be above 0")."""

    @property
    def seen(self) -> str:
        """The sentence without the fix, and without credentials."""
        subject = self.field if self.value is ... else f"{self.field}={self.value}"
        gap = " " if subject and self.wrong and self.wrong[0] not in ",:" else ""
        return hide_credentials(f"{subject}{gap}{self.wrong}")

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.seen, self.fix)))


class UserError(ValueError):
    """The base of the rooms' errors for users' mistakes: made of problems, or of text where there is just one.

    The message has a line for each problem.
    """

    def __init__(self, *problems: Problem | str) -> None:
        super().__init__(*problems)

    def __str__(self) -> str:
        return hide_credentials("\n".join(map(str, self.args)))

    @property
    def problems(self) -> list[Problem]:
        """The problems; text is one whose parts are not known."""
        return [problem if isinstance(problem, Problem) else Problem("", wrong=str(problem)) for problem in self.args]


def number_problems(value: Any, name: str = "") -> list[Problem]:
    """Numbers that no computation could be right with, anywhere in a configuration: NaN, infinity, beyond 2^53.

    Args:
        value: a dataclass of options, and whatever may be inside one.
        name: its dotted name; empty for the options of a command.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        is_usable = math.isfinite(value) and abs(value) <= _LARGEST
        return [] if is_usable else [Problem(name, value, "must be a finite number, at most 2^53")]
    return [problem for key, inner in _inside(value) for problem in number_problems(inner, f"{name}.{key}".strip("."))]


def _inside(value: Any) -> Iterator[tuple[Any, Any]]:
    if is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
