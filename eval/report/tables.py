"""Tables of a report, once, for the page, for CSV and for LaTeX."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "→": r"$\to$", "×": r"$\times$",
        "<": r"$<$", ">": r"$>$",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Columns and rows; cells are numbers or text."""

    name: str
    """A file's name."""
    caption: str
    columns: list[str]
    rows: list[list[Any]]
    names: int = 0
    """How many of the first cells say what a row is, in a table that the page shows turned: a column for each row."""

    def shown(self) -> list[list[str]]:
        """The cells as the page and LaTeX show them: about four significant digits, no exponents above 1."""
        return [[format_cell(cell) for cell in row] for row in self.rows]

    def turned(self) -> "Table":
        """The same with a column for each row, of which the first cells together are the name."""
        names = [", ".join(format_cell(cell) for cell in row[: self.names] if cell is not None) for row in self.rows]
        rows = [[column, *cells] for column, *cells in zip(self.columns, *self.rows, strict=True)][self.names :]
        return Table(self.name, self.caption, ["", *names], rows)


def format_cell(cell: Any) -> str:
    """A cell for a reader."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        if abs(cell) >= 1000:
            return f"{cell:,.0f}"
        return f"{cell:.4f}" if 1e-3 <= abs(cell) < 10 or cell == 0 else f"{cell:.4g}"
    return str(cell)


def mean_and_std(mean: float, std: float | None) -> str:
    """`0.8123 ± 0.0045`, or the mean alone where there is one seed."""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table with all digits; what is not there is empty."""
    _frame(rows, len(columns)).to_csv(path, header=list(columns), index=False, lineterminator="\r\n")


def _frame(rows: Sequence[Sequence[Any]], width: int) -> pd.DataFrame:
    """As objects: pandas would make floats of a column of integers that has gaps."""
    return pd.DataFrame(rows, columns=range(width), dtype=object)


def latex(table: Table) -> str:
    """A `table` environment with booktabs' rules; text to the left, numbers to the right."""
    shown = table.shown()
    kinds = ["r" if shown and all(_is_number(row[i]) for row in shown) else "l" for i in range(len(table.columns))]
    # escaped here: pandas leaves signs alone that LaTeX fonts may lack, ± and → for instance
    cells = [[text.translate(_LATEX) for text in row] for row in shown]
    text = _frame(cells, len(table.columns)).to_latex(
        index=False,
        escape=False,
        header=[column.translate(_LATEX) for column in table.columns],
        column_format="".join(kinds),
        caption=table.caption.translate(_LATEX),
    )
    return f"% needs \\usepackage{{booktabs}}\n{text}"


def _is_number(text: str) -> bool:
    return text == "–" or re.match(r"^[-+]?[\d.]+", text) is not None


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """NAME.csv and NAME.tex of each table."""
    folder.mkdir()
    for table in tables:
        write_csv(folder / f"{table.name}.csv", table.columns, table.rows)
        (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")
