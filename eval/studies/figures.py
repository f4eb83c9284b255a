"""The common picture of a study: a panel for each kind of axis, a line for each curve."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import as_label, save_picture

from ..figures import LINES, PALETTE
from .base import Curve, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _draw_panel(axes: "Axes", curves: Sequence[Curve], styles: dict[str, int]) -> None:
    """`styles` numbers the labels of all panels: what has the same name looks the same in each."""
    from matplotlib.ticker import MaxNLocator

    for curve in curves:
        i = styles[curve.label]
        # along the axis: a measured time need not grow with what it is measured at, and the line would run in loops
        points = sorted((point.as_json() for point in curve.points), key=lambda point: point["x"])
        colour, look = PALETTE[i % len(PALETTE)], i + i // len(PALETTE)
        # lines overlap where scores are equal: each is thinner, with smaller marks and other dashes than those below it
        axes.errorbar(
            [point["x"] for point in points],
            [point["mean"] for point in points],
            yerr=[point["std"] or 0 for point in points] if any(point["std"] for point in points) else None,
            fmt=LINES[look % len(LINES)],
            marker=_MARKERS[look % len(_MARKERS)],
            color=colour,
            markersize=max(3.0, 6.5 - 0.5 * i),
            linewidth=max(1.0, 2.4 - 0.4 * i),
            capsize=2,
            label=as_label(curve.label),
        )
    references = {round(curve.reference, 9) for curve in curves if curve.reference is not None}
    if len(references) == 1:
        axes.axhline(
            references.pop(), color="#999999", linestyle=(0, (4, 3)), linewidth=1.1, label="reference", zorder=0
        )
    axes.set(xlabel=curves[0].x_label, ylabel=curves[0].y_label)
    if all(float(point.x).is_integer() for curve in curves for point in curve.points):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)
    axes.legend(
        fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1 if len(curves) < 5 else 2
    )


def _draw_curves(figure: "Figure", curves: Sequence[Curve], y_range: tuple[float, float] | None) -> None:
    panels: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        panels.setdefault((curve.x_label, curve.y_label), []).append(curve)
    styles = {label: i for i, label in enumerate(dict.fromkeys(curve.label for curve in curves))}
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure.set_size_inches(5.2 * columns + 0.6, 4.8 * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, group in zip(grid, panels.values(), strict=False):
        _draw_panel(axes, group, styles)
        if y_range is not None:
            axes.set_ylim(y_range[0] - 0.02, y_range[1] + 0.02)
    for axes in grid[len(panels) :]:
        axes.remove()


def save_study_figure(path: Path, study: Study, title: str) -> bool:
    """Write a study's picture as PNG, atomically. A dashed line is what the curves of a panel compare with.

    Returns whether it is there.
    """

    def draw(figure: "Figure") -> None:
        if study.draw is not None:
            study.draw(figure)
        else:
            _draw_curves(figure, study.curves, study.y_range)
        figure.suptitle(title, fontsize=11)

    return save_picture(path, draw)
