"""The findings as a table at a terminal, as lines anywhere else."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .findings import Finding, Level

_STYLES: dict[Level, str] = {"fine": "green", "skipped": "dim", "warning": "yellow", "fault": "bold red"}
_ORDER: tuple[Level, ...] = ("fault", "warning", "skipped", "fine")


def show(findings: Sequence[Finding], verdict: str, terminal: Console) -> None:
    """Print what to fix first, then what is fine, then the verdict."""
    rows = sorted(findings, key=lambda row: _ORDER.index(row.level))
    if terminal.is_terminal and not terminal.is_dumb_terminal:
        terminal.print(table(rows))
    else:
        for line in lines(rows):
            terminal.print(line, soft_wrap=True, markup=False, highlight=False)
    if verdict:
        terminal.print(verdict, soft_wrap=True, markup=False, highlight=False)


def table(rows: Sequence[Finding]) -> Table:
    """One row for each finding."""
    drawn = Table("", "check", "where", "seen", "fix", show_lines=True)
    for row in rows:
        words = (row.level, row.check, row.where, row.seen, row.fix)
        drawn.add_row(
            *(Text(word, style=_STYLES[row.level] if number == 0 else "") for number, word in enumerate(words))
        )
    return drawn


def lines(rows: Sequence[Finding]) -> list[str]:
    """The same in columns, one line for each finding."""
    check, where = (max((len(getattr(row, name)) for row in rows), default=0) for name in ("check", "where"))
    where = min(where, 32)
    return [
        f"{row.level:<7}  {row.check:<{check}}  {row.where:<{where}}  {row.seen}"
        + (f"  -> {row.fix}" if row.fix else "")
        for row in rows
    ]
