"""Tables of a report, once, for the page, for CSV and for LaTeX."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def shown(self) -> list[list[str]]:
        """The cells as the page and LaTeX show them: about four significant digits, no exponents above 1."""
        return [[format_cell(cell) for cell in row] for row in self.rows]


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


def write_csv(path: Path, table: Table) -> None:
    """The table with all digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(table.rows)


def latex(table: Table) -> str:
    """A `table` environment with booktabs' rules; text to the left, numbers to the right."""
    shown = table.shown()
    kinds = ["r" if shown and all(_is_number(row[i]) for row in shown) else "l" for i in range(len(table.columns))]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{table.caption.translate(_LATEX)}}}",
        f"\\begin{{tabular}}{{{''.join(kinds)}}}",
        "\\toprule",
        _latex_row(table.columns),
        "\\midrule",
        *(_latex_row(row) for row in shown),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(str(cell).translate(_LATEX) for cell in cells) + r" \\"


def _is_number(text: str) -> bool:
    return text == "–" or re.match(r"^[-+]?[\d.]+", text) is not None


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """NAME.csv and NAME.tex of each table."""
    folder.mkdir()
    for table in tables:
        write_csv(folder / f"{table.name}.csv", table)
        (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")
