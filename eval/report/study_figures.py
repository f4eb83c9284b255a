"""Figures of a report that put the same study of several models beside each other."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import as_label, save_picture

from ..figures import COLOURS, LINES, MARKERS, OTHER_COLOUR
from .study_file import StudyCurve, StudyResults

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3

# a study and the name of its run
NamedStudy = tuple[StudyResults, str]


def _styles(studies: Sequence[NamedStudy]) -> list[tuple[str, str, str]]:
    """Colour by connectivity; runs of one connectivity differ in line and marker."""
    seen: Counter[str] = Counter()
    styles = []
    for study, _ in studies:
        turn = seen[study.connectivity]
        seen[study.connectivity] += 1
        colour = COLOURS.get(study.connectivity, OTHER_COLOUR)
        styles.append((colour, LINES[turn % len(LINES)], MARKERS[turn % len(MARKERS)]))
    return styles


def _draw(axes: "Axes", curve: StudyCurve, style: tuple[str, str, str], label: str) -> None:
    colour, line, marker = style
    x, y = [point.x for point in curve.points], [point.mean for point in curve.points]
    axes.plot(x, y, line, marker=marker, color=colour, linewidth=1.6, markersize=3.5, label=label)
    if all(point.std is not None for point in curve.points):
        low, high = ([p.mean + sign * (p.std or 0.0) for p in curve.points] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if curve.reference is not None:
        axes.axhline(curve.reference, color=colour, linestyle=(0, (1, 2)), linewidth=1, alpha=0.7, zorder=0)


_Panels = dict[tuple[str, str, str], list[tuple[StudyCurve, int]]]
"""By the labels of a panel, its curves and the number of each one's study."""


def save_comparison(path: Path, studies: Sequence[NamedStudy], title: str) -> bool:
    """Write a PNG or SVG: a panel for each curve of the study, in it a line for each model; dots: its reference.

    Returns whether it is there.
    """
    panels: _Panels = {}
    for i, (study, _) in enumerate(studies):
        for curve in study.curves:
            panels.setdefault((curve.x_label, curve.y_label, curve.label), []).append((curve, i))
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (max(5.2, 3.4 * columns), 2.9 * rows + 0.5 + 0.2 * len(studies))
    return save_picture(path, lambda figure: _draw_panels(figure, studies, panels, title), size)


def _draw_panels(figure: "Figure", studies: Sequence[NamedStudy], panels: _Panels, title: str) -> None:
    columns = min(_COLUMNS, len(panels))
    grid = list(figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False).flat)
    styles = _styles(studies)
    handles: dict[str, Artist] = {}
    for axes, ((x_label, y_label, label), group) in zip(grid, panels.items(), strict=False):
        for curve, i in group:
            _draw(axes, curve, styles[i], f"{as_label(studies[i][1])} ({studies[i][0].connectivity})")
        axes.set_title(label, fontsize=9)
        axes.set_xlabel(x_label, fontsize=8)
        axes.set_ylabel(y_label, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["right", "top"]].set_visible(False)
        found, names = axes.get_legend_handles_labels()
        handles.update(zip(names, found, strict=True))
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.suptitle(title, fontsize=11)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", frameon=False, fontsize=8)
