"""Figures of a report that put the same study of several models beside each other."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import as_label, save_picture

from ..figures import COLOURS, LINES, MARKERS, OTHER_COLOUR, PALETTE
from ..frontier import frontier
from .images import WIDE
from .study_file import StudyCurve, StudyPoint, StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 2
_MOST_LINES = 8
"""In one panel; with more of them each name has a panel of its own."""
_RIVALS = ("shallow",)
"""Studies whose curves are of rivals, several models in one study: a colour for each of them instead of each run."""
_TRADE_OFFS = ("early_exit",)
"""Studies whose curves are costs and scores: their frontier is drawn, and what is not on it as faint dots."""

# a study and the name of its run
NamedStudy = tuple[StudyResults, str]


@dataclass(frozen=True)
class _Line:
    """A curve of one model, and how it looks."""

    curve: StudyCurve
    colour: str
    dashes: str
    marker: str


@dataclass(frozen=True)
class _Panel:
    """Curves with the same axes that belong together."""

    title: str
    y_label: str
    lines: list[_Line]


@dataclass(frozen=True)
class _Key:
    """An entry of the legend."""

    label: str
    colour: str
    dashes: str
    marker: str


def save_comparison(path: Path, studies: Sequence[NamedStudy], title: str, width: float = WIDE) -> bool:
    """Write a PNG or SVG: curves that belong together in a panel, colours for models, line styles for kinds of curve.

    Curves belong together that have the same axes and the same name but for the part after its last comma; where that
    would be too many lines, those of the same name. Dots show the reference of a curve. Returns whether the picture is
    there.

    Args:
        width: in inches; a narrow picture has one column.
    """
    rivals = all(study.study in _RIVALS for study, _ in studies)
    panels, keys = _rival_panels(studies) if rivals else _panels(studies)
    columns = min(_COLUMNS if width >= WIDE else 1, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (width, 3.0 * rows + 0.5 + 0.22 * len(keys))
    trade_off = all(study.study in _TRADE_OFFS for study, _ in studies)
    return save_picture(path, lambda figure: _draw(figure, panels, keys, title, columns, trade_off), size)


def _panels(studies: Sequence[NamedStudy]) -> tuple[list[_Panel], list[_Key]]:
    """What is drawn, and the legend.

    Line styles tell the kinds of curve in a panel from each other. Where several models have one connectivity, and so
    one colour, they tell the models, and each kind has its panel.
    """
    repeated = max(Counter(study.connectivity for study, _ in studies).values()) > 1
    split = _split_alone if repeated else _split_together if _fit_together(studies) else _split_by_name
    kinds = list(dict.fromkeys(split(curve)[1] for study, _ in studies for curve in study.curves))
    panels: dict[tuple[str, str, str], list[_Line]] = {}
    keys: list[_Key] = []
    turns: Counter[str] = Counter()
    for study, run in studies:
        colour, turn = COLOURS.get(study.connectivity, OTHER_COLOUR), turns[study.connectivity]
        turns[study.connectivity] += 1
        keys.append(_key(f"{as_label(run)} ({study.connectivity})", colour, turn, with_marker=repeated))
        for curve in study.curves:
            title, kind = split(curve)
            look = _key("", colour, turn if repeated else kinds.index(kind))
            group = panels.setdefault((title, curve.x_label, _axis(curve)[0]), [])
            group.append(_Line(curve, colour, look.dashes, look.marker))
    if len(kinds) > 1:
        keys += [_key(as_label(kind or "whole model"), "#555555", number) for number, kind in enumerate(kinds)]
    return [_Panel(title, axis, lines) for (title, _, axis), lines in panels.items()], keys


def _rival_panels(studies: Sequence[NamedStudy]) -> tuple[list[_Panel], list[_Key]]:
    """A panel for each kind of axis, and for each run where there are several; what has one name looks the same."""
    keys: dict[str, _Key] = {}
    panels: dict[tuple[str, str, str], list[_Line]] = {}
    for study, run in studies:
        for curve in study.curves:
            number = list(keys).index(curve.label) if curve.label in keys else len(keys)
            colour, turn = PALETTE[number % len(PALETTE)], number + number // len(PALETTE)
            key = keys.setdefault(curve.label, _key(as_label(curve.label), colour, turn))
            title = as_label(run) if len(studies) > 1 else ""
            group = panels.setdefault((title, curve.x_label, curve.y_label), [])
            group.append(_Line(curve, key.colour, key.dashes, key.marker))
    return [_Panel(title, axis, lines) for (title, _, axis), lines in panels.items()], list(keys.values())


def _key(label: str, colour: str, number: int, with_marker: bool = True) -> _Key:
    marker = MARKERS[number % len(MARKERS)] if with_marker else ""
    return _Key(label, colour, LINES[number % len(LINES)], marker)


def _axis(curve: StudyCurve) -> tuple[str, str]:
    """What stands at the y axis, and "cut" for the curve of a cut model: twins are cut at different depths."""
    name, _, depth = curve.y_label.partition(", cut at depth ")
    return (name, "cut model") if depth.isdigit() else (curve.y_label, "")


_Split = Callable[[StudyCurve], tuple[str, str]]
"""Gives the title of a curve's panel, and what kind of curve it is in there."""


def _split_together(curve: StudyCurve) -> tuple[str, str]:
    title, _, kind = curve.label.rpartition(", ")
    return title, ", ".join(filter(None, (kind, _axis(curve)[1])))


def _split_by_name(curve: StudyCurve) -> tuple[str, str]:
    return curve.label, _axis(curve)[1]


def _split_alone(curve: StudyCurve) -> tuple[str, str]:
    return ", ".join(filter(None, (curve.label, _axis(curve)[1]))), ""


def _fit_together(studies: Sequence[NamedStudy]) -> bool:
    """Whether no panel has too many lines if all that may belong together does."""
    lines = Counter(
        (_split_together(curve)[0], curve.x_label, _axis(curve)[0]) for study, _ in studies for curve in study.curves
    )
    return max(lines.values()) <= _MOST_LINES


def _draw_line(axes: "Axes", line: _Line, trade_off: bool, width: float) -> None:
    points = sorted(line.curve.points, key=lambda point: point.x)
    if trade_off:
        axes.plot(_xs(points), _means(points), line.marker, color=line.colour, markersize=2.5, alpha=0.3, linewidth=0)
        points = frontier([(point.x, point.mean, point) for point in points])
    x = _xs(points)
    axes.plot(x, _means(points), line.dashes, marker=line.marker, color=line.colour, linewidth=width, markersize=4)
    if all(point.std is not None for point in points):
        low, high = ([p.mean + sign * (p.std or 0.0) for p in points] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=line.colour, alpha=0.15, linewidth=0)
    if line.curve.reference is not None:
        axes.axhline(line.curve.reference, color=line.colour, linestyle=(0, (1, 2)), linewidth=1, alpha=0.7, zorder=0)


def _xs(points: Sequence[StudyPoint]) -> list[float]:
    return [point.x for point in points]


def _means(points: Sequence[StudyPoint]) -> list[float]:
    return [point.mean for point in points]


def _draw(
    figure: "Figure", panels: Sequence[_Panel], keys: Sequence[_Key], title: str, columns: int, trade_off: bool
) -> None:
    from matplotlib.lines import Line2D

    grid = list(figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        for number, line in enumerate(panel.lines):
            _draw_line(axes, line, trade_off, width=max(1.2, 3.0 - 0.6 * number))  # equal lines are all seen
        axes.set_title(panel.title, fontsize=9)
        axes.set_xlabel(panel.lines[0].curve.x_label, fontsize=9)
        axes.set_ylabel(panel.y_label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["right", "top"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.suptitle(title, fontsize=11)
    handles = [Line2D([], [], color=key.colour, marker=key.marker, markersize=4, label=key.label) for key in keys]
    for handle, key in zip(handles, keys, strict=True):
        handle.set(linestyle=key.dashes)
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=8.5)
