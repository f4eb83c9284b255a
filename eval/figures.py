"""Depth curves: the score at every depth, the cut depth marked, one colour per connectivity everywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import as_label, save_picture

from .chance import AT_CHANCE, are_at_chance, constant_score, is_at_chance
from .results import TaskResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers and in grey
COLOURS = {"acn": "#0072B2", "residual": "#D55E00", "feedforward": "#009E73", "hybrid": "#CC79A7",
           "reversible": "#E69F00"}  # fmt: skip
OTHER_COLOUR = "#555555"
PALETTE = (*COLOURS.values(), "#E69F00", "#56B4E9", "#000000", "#777777")
"""For curves that are told by name: the same, then more of the palette, and a grey."""
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
_BESIDE = 0.06  # depths between the bars of two curves
_METRIC_NAMES = {"matthews": "Matthews correlation", "pearson": "Pearson correlation"}


@dataclass(frozen=True)
class DepthCurve:
    """One line of a figure."""

    label: str
    connectivity: str
    metric: str
    scores: list[float]
    """By depth 0, 1, ..., L."""
    cut_depth: int
    params_by_depth: list[int]
    majority_score: float | None = None
    deviation: list[float] | None = None
    """Of `scores` over the seeds, by depth: drawn as a band."""
    errors: list[float] | None = None
    """Standard error of `scores` over the examples, by depth (NaN where it is not known): drawn as bars."""
    at_chance: bool = False
    """The whole model has learned nothing, and is not to be cut."""

    @classmethod
    def from_results(cls, results: TaskResults, label: str) -> "DepthCurve":
        """The curve of a fine-tuning."""
        return cls(
            errors=_errors(results, results.depth_scores),
            at_chance=is_at_chance(results),
            label=label,
            connectivity=results.connectivity,
            metric=results.metric,
            scores=results.depth_scores,
            cut_depth=results.cut_depth,
            params_by_depth=results.params_by_depth,
            majority_score=constant_score(results),
        )


def _errors(results: TaskResults, scores: Sequence[float]) -> list[float] | None:
    """The binomial standard error at every depth for accuracy; that of the whole model alone for other metrics."""
    error, full = results.standard_error, results.full_score
    if error is None:
        return None
    if results.metric == "accuracy" and 0 < full < 1:
        return [error * math.sqrt(score * (1 - score) / (full * (1 - full))) for score in scores]
    return [*[math.nan] * (len(scores) - 1), error]


def seeds_curve(results: TaskResults, label: str) -> DepthCurve:
    """The curve of a task's seeds together: mean, deviation, and the cut depth of the mean."""
    together = results.aggregate
    if together is None or len(results.all_seeds) < 2:
        return DepthCurve.from_results(results, label)
    return replace(
        DepthCurve.from_results(results, f"{label}, mean of {len(results.all_seeds)} seeds"),
        scores=together.depth_mean,
        deviation=together.depth_std,
        errors=_errors(results, together.depth_mean),
        at_chance=are_at_chance(results),
        cut_depth=together.cut_depth_tolerance,
    )


def _draw_curve(axes: "Axes", curve: DepthCurve, number: int) -> None:
    """Each curve of a figure is drawn thinner, with smaller marks and other dashes than those below it: where two are
    equal, both are seen."""
    colour = COLOURS.get(curve.connectivity, OTHER_COLOUR)
    depths = range(len(curve.scores))
    axes.plot(
        depths, curve.scores, LINES[number % len(LINES)], marker=MARKERS[number % len(MARKERS)], color=colour,
        linewidth=max(1.2, 3.0 - 0.7 * number), markersize=max(3.0, 7.0 - 1.5 * number), label=_legend(curve),
    )  # fmt: skip
    if curve.deviation is not None:
        low, high = ([y + sign * d for y, d in zip(curve.scores, curve.deviation, strict=True)] for sign in (-1, 1))
        axes.fill_between(depths, low, high, color=colour, alpha=0.15, linewidth=0)
    if curve.errors is not None:
        places = [depth + _BESIDE * (number % 6) for depth in depths]
        axes.errorbar(
            places, curve.scores, curve.errors, fmt="none", ecolor=colour, elinewidth=1, capsize=2.5, alpha=0.8
        )
    if not curve.at_chance:
        _draw_cut(axes, curve, colour, number)


def _legend(curve: DepthCurve) -> str:
    depth, layers = curve.cut_depth, len(curve.scores) - 1
    cut = AT_CHANCE if curve.at_chance else f"cut at {depth} of {layers}: {curve.scores[depth]:.3f}"
    return f"{as_label(curve.label)}: {curve.scores[-1]:.3f}, {cut}"


def _draw_cut(axes: "Axes", curve: DepthCurve, colour: str, number: int) -> None:
    """A ring around the point of the cut depth, and a line down to its depth."""
    depth, size = curve.cut_depth, 12 + 3 * number
    axes.plot(depth, curve.scores[depth], "o", markersize=size, markerfacecolor="none", markeredgecolor=colour,
              markeredgewidth=1.8)  # fmt: skip
    axes.axvline(depth, color=colour, linestyle=(2 * number, (1, 3)), linewidth=1, alpha=0.6, zorder=0)


def _say_error(axes: "Axes", curves: Sequence[DepthCurve]) -> None:
    """What the bars are; and whether everything that is shown lies within one of them."""
    known = [error for curve in curves for error in curve.errors or [] if error == error]
    if not known:
        text = "the standard error of the examples was not recorded"
    else:
        scores = [score for curve in curves for score in curve.scores]
        text = f"bars: ± one standard error of the examples (up to {max(known):.3f})"
        if max(scores) - min(scores) < max(known):
            text += "; all scores lie within one"
    axes.plot([], [], " ", label=text)


def _params(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _add_parameter_axis(axes: "Axes", curves: Sequence[DepthCurve]) -> None:
    """Parameters above the depths, when all curves are of models of the same shape."""
    shapes = {tuple(curve.params_by_depth) for curve in curves}
    if len(shapes) != 1:
        return
    params = shapes.pop()
    top = axes.secondary_xaxis("top")
    inches = axes.figure.bbox.width / axes.figure.dpi
    room = max(3, round(2.15 * inches - 2.5))  # as many as stand beside each other
    step = -(-len(params) // room)
    depths = range(0, len(params), step)
    top.set_xticks(list(depths), [_params(params[depth]) for depth in depths], fontsize=8)
    top.set_xlabel("parameters", fontsize=9)


def save_depth_figure(path: Path, curves: Sequence[DepthCurve], title: str, width: float = 7.2) -> bool:
    """Write a PNG (or SVG, by the suffix) with the score of each curve against depth. They must share one metric.

    Runs of the same connectivity share its colour; all differ in line style and marker. Bars are the standard error of
    the examples. Returns whether it is there.
    """
    metrics = {curve.metric for curve in curves}
    if len(metrics) != 1:
        raise ValueError(f"a depth figure shows one metric, not {sorted(metrics)}")
    metric = metrics.pop()
    # the legend is below the axes, a line per curve: it must not squeeze them
    size = (width, 4.4 + (0.22 if width > 5 else 0.45) * len(curves))
    return save_picture(path, lambda figure: _draw_depths(figure, curves, metric, title), size)


def _draw_depths(figure: "Figure", curves: Sequence[DepthCurve], metric: str, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    for number, curve in enumerate(curves):
        _draw_curve(axes, curve, number)
    baselines = {round(curve.majority_score, 6) for curve in curves if curve.majority_score is not None}
    if len(baselines) == 1:
        axes.axhline(
            baselines.pop(), color="#999999", linestyle=(0, (1, 2)), linewidth=1.2, label="constant answer", zorder=0
        )
    _say_error(axes, curves)
    axes.set_xlabel("depth (layers kept)")
    axes.set_ylabel(_METRIC_NAMES.get(metric, metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=13))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines["right"].set_visible(False)
    _add_parameter_axis(axes, curves)
    axes.set_title(title, fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
