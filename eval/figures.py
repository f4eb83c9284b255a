"""Depth curves: the score at every depth, the cut depth marked, one colour per connectivity everywhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import as_label, save_picture

from .results import TaskResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers and in grey
COLOURS = {"acn": "#0072B2", "residual": "#D55E00", "feedforward": "#009E73", "hybrid": "#CC79A7"}
OTHER_COLOUR = "#555555"
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
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

    @classmethod
    def from_results(cls, results: TaskResults, label: str) -> "DepthCurve":
        """The curve of a fine-tuning."""
        return cls(
            label=label,
            connectivity=results.connectivity,
            metric=results.metric,
            scores=results.depth_scores,
            cut_depth=results.cut_depth,
            params_by_depth=results.params_by_depth,
            majority_score=results.majority_score,
        )


def seeds_curve(results: TaskResults, label: str) -> DepthCurve:
    """The curve of a task's seeds together: mean, deviation, and the cut depth of the mean."""
    together = results.aggregate
    if together is None or len(results.all_seeds) < 2:
        return DepthCurve.from_results(results, label)
    return replace(
        DepthCurve.from_results(results, f"{label}, mean of {len(results.all_seeds)} seeds"),
        scores=together.depth_mean,
        deviation=together.depth_std,
        cut_depth=together.cut_depth_tolerance,
    )


def _draw_curve(axes: "Axes", curve: DepthCurve, style: int) -> None:
    colour = COLOURS.get(curve.connectivity, OTHER_COLOUR)
    depth, score = curve.cut_depth, curve.scores[curve.cut_depth]
    layers = len(curve.scores) - 1
    label = f"{as_label(curve.label)}: {curve.scores[-1]:.3f}, cut at {depth} of {layers}: {score:.3f}"
    marker = MARKERS[style % len(MARKERS)]
    line = LINES[style % len(LINES)]
    axes.plot(
        range(layers + 1), curve.scores, line, marker=marker, color=colour, linewidth=1.8, markersize=4, label=label
    )
    if curve.deviation is not None:
        low, high = ([y + sign * d for y, d in zip(curve.scores, curve.deviation, strict=True)] for sign in (-1, 1))
        axes.fill_between(range(layers + 1), low, high, color=colour, alpha=0.15, linewidth=0)
    # the cut depth: a ring around the point and a line down to its depth
    axes.plot(depth, score, "o", markersize=12, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=1.8)
    axes.axvline(depth, color=colour, linestyle=":", linewidth=1, alpha=0.6, zorder=0)


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

    Runs of the same connectivity share its colour and differ in line style and marker. Returns whether it is there.
    """
    metrics = {curve.metric for curve in curves}
    if len(metrics) != 1:
        raise ValueError(f"a depth figure shows one metric, not {sorted(metrics)}")
    metric = metrics.pop()
    # the legend is below the axes, a line per curve: it must not squeeze them
    size = (width, 4.2 + (0.22 if width > 5 else 0.45) * len(curves))
    return save_picture(path, lambda figure: _draw_depths(figure, curves, metric, title), size)


def _draw_depths(figure: "Figure", curves: Sequence[DepthCurve], metric: str, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    seen: Counter[str] = Counter()
    for curve in curves:
        _draw_curve(axes, curve, seen[curve.connectivity])
        seen[curve.connectivity] += 1
    baselines = {round(curve.majority_score, 6) for curve in curves if curve.majority_score is not None}
    if len(baselines) == 1:
        axes.axhline(
            baselines.pop(), color="#999999", linestyle=(0, (1, 2)), linewidth=1.2, label="constant answer", zorder=0
        )
    axes.set_xlabel("depth (layers kept)")
    axes.set_ylabel(_METRIC_NAMES.get(metric, metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=13))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines["right"].set_visible(False)
    _add_parameter_axis(axes, curves)
    axes.set_title(title, fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
