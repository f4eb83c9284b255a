"""The picture of a pretraining run over its steps: loss, accuracy of every depth, gradient of every layer."""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline import save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_DPI = 120

Curves = dict[str, dict[int, float]]
"""{metric: {step: value}}, steps ascending."""


@dataclass(frozen=True)
class Heatmap:
    """A panel that has a row for every depth or layer and a column for every step at which it was measured."""

    metric: str
    """Beginning of the metrics' names; the number of the row follows."""
    title: str
    rows: str
    """What a row is."""
    line: str = ""
    """Metric that says a row for each step, drawn as a line."""
    logarithmic: bool = False
    """Colours by the order of magnitude."""
    highest: float | None = None
    """Values above it look like it."""


HEATMAPS = (
    Heatmap(
        "validation/accuracy_depth_",
        "Masked accuracy of every depth (line: best cut)",
        "read-out depth",
        line="validation/cut_depth",
    ),
    Heatmap("probe/gradient_norm_layer_", "Gradient norm of every layer's output", "layer", logarithmic=True),
    Heatmap("probe/direct_share_layer_", "Direct share of that gradient", "layer", highest=1.5),
    Heatmap("validation/match_depth_", "Error of the match of every depth", "read-out depth", highest=1.0),
)


def read_metrics(run: Path) -> Curves:
    """Every metric of RUN/metrics.jsonl as {name: {step: value}}; what a resumed run logged again replaces the old.

    Lines that are no record, such as a torn one, are passed over.
    """
    curves: Curves = {}
    for line in (run / "metrics.jsonl").read_bytes().splitlines():
        try:
            record = json.loads(line)
            step = int(record.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        for name, value in record.items():
            if name != "time" and isinstance(value, int | float):
                curves.setdefault(name, {})[step] = value
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


class RunPicture:
    """RUN/pretraining.png, drawn again while the run goes on, as long as drawing takes no noticeable part of its time.

    Args:
        run: folder of the run.
        title: stands above the panels.
        share: the most of the time between two drawings that the first of them may have taken.
    """

    def __init__(self, run: Path, title: str, share: float = 0.02):
        self._run = run
        self._title = title
        self._share = share
        self._again_at = -math.inf

    def draw(self, whatever_it_takes: bool = False) -> Path | None:
        """Draw it and return its path; None when it could not be drawn, or the last time was too short a while ago."""
        began = time.monotonic()
        if began < self._again_at and not whatever_it_takes:
            return None
        path = draw_run(self._run, self._title)
        now = time.monotonic()
        self._again_at = now + (now - began) / self._share
        return path


def draw_run(run: Path, title: str) -> Path | None:
    """Draw RUN/pretraining.png from the run's metrics, atomically: losses, and those heatmaps that have data.

    A white line on the accuracies is the best cut: the smallest depth that is nearly as good as all layers. None when
    it could not be drawn.
    """
    path = run / "pretraining.png"
    drawn = save_picture(path, lambda figure: _draw_panels(figure, read_metrics(run), title), dpi=_DPI)
    return path if drawn else None


def _draw_panels(figure: "Figure", curves: Curves, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    maps = [(heatmap, rows) for heatmap in HEATMAPS if (rows := rows_of(curves, heatmap.metric))]
    columns = min(2, 1 + len(maps))
    lines = math.ceil((1 + len(maps)) / columns)
    figure.set_size_inches(5.6 * columns, 4 * lines)
    panels = [figure.add_subplot(lines, columns, number + 1) for number in range(1 + len(maps))]
    last = max((step for curve in curves.values() for step in curve), default=1)
    _draw_losses(panels[0], curves)
    for panel, (heatmap, rows) in zip(panels[1:], maps, strict=True):
        _draw_heatmap(figure, panel, heatmap, rows)
        if heatmap.line in curves:
            _draw_line(panel, curves[heatmap.line])
    for panel in panels:
        panel.set_xlim(0, last)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_xlabel("optimizer step")
    figure.suptitle(title)


def draw_side_by_side(path: Path, runs: Mapping[str, Curves], heatmaps: Sequence[Heatmap]) -> Path | None:
    """Draw heatmaps of several runs, a column for each run and a row for each heatmap that any run has data for, with
    one colour scale per row: twins can be compared by eye. Atomically; None, and no file, without any data.

    Args:
        runs: the metrics of each run, by its title.
    """
    found = [
        (heatmap, {title: rows_of(curves, heatmap.metric) for title, curves in runs.items()}) for heatmap in heatmaps
    ]
    maps = [(heatmap, rows) for heatmap, rows in found if any(rows.values())]
    if not maps:
        return None
    size = (4.6 * len(runs), 3.3 * len(maps))
    return path if save_picture(path, lambda figure: _draw_twins(figure, runs, maps), size, _DPI) else None


def _draw_twins(
    figure: "Figure", runs: Mapping[str, Curves], maps: Sequence[tuple[Heatmap, dict[str, list[dict[int, float]]]]]
) -> None:
    grid = figure.subplots(len(maps), len(runs), squeeze=False, sharex=True)
    for line, (heatmap, rows) in zip(grid, maps, strict=True):
        values = [value for of_run in rows.values() for row in of_run for value in row.values()]
        norm = _norm(heatmap, np.array(values))
        norm.autoscale_None(np.ma.masked_invalid(values))  # here: the first panel would take its own range
        for panel, (title, of_run) in zip(line, rows.items(), strict=True):
            if not of_run:
                panel.set_axis_off()
                continue
            _draw_heatmap(figure, panel, heatmap, of_run, norm)
            panel.set_title(f"{heatmap.title}\n{title}", fontsize=9)
            if heatmap.line in runs[title]:
                _draw_line(panel, runs[title][heatmap.line])
    for panel in grid[-1]:
        panel.set_xlabel("optimizer step")


def rows_of(curves: Curves, metric: str) -> list[dict[int, float]]:
    """The curves of the metrics `metric` + number, by that number."""
    found = {
        int(match[1]): curves[name] for name in curves if (match := re.fullmatch(re.escape(metric) + r"(\d+)", name))
    }
    return [found[number] for number in sorted(found)]


def edges(steps: np.ndarray) -> np.ndarray:
    """Where the columns of a heatmap begin and end (n + 1): each reaches back to the measurement before it, or to 0."""
    return np.concatenate([[0], steps])


_LOSSES = (("train/loss", "training"), ("validation/loss", "validation"))
_LOSSES_WITH_TEACHER = (
    ("train/match", "match, training"),
    ("validation/match", "match, validation"),
    ("train/mlm_loss", "masked tokens, training"),
    ("validation/loss", "masked tokens, validation"),
)


_LOSSES_OF_DEPTHS = (
    ("train/loss", "training, what is trained"),
    ("train/mlm_loss", "training, the whole model"),
    ("validation/loss", "validation, the whole model"),
)


def _draw_losses(panel: "Axes", curves: Curves) -> None:
    """Training and validation loss, or with a teacher what they are made of; and the scale of annealed shortcuts."""
    taught = "train/match" in curves
    alone = _LOSSES_OF_DEPTHS if "train/mlm_loss" in curves else _LOSSES
    for name, label in _LOSSES_WITH_TEACHER if taught else alone:
        curve = curves.get(name, {})
        if taught and not curve:
            continue
        few = name.startswith("validation") and len(curve) <= 50
        panel.plot(list(curve), list(curve.values()), label=label, marker="o" if few else "", markersize=4)
    unit = "share of the teacher's variance, nats" if taught else "masked-language-model loss (nats)"
    panel.set(ylabel=unit, title="Loss")
    panel.grid(alpha=0.3)
    if scale := curves.get("train/shortcut_scale"):
        beside = panel.twinx()
        beside.plot(list(scale), list(scale.values()), color="0.5", linestyle="--", linewidth=1)
        beside.set(ylim=(0, None), ylabel="scale of the shortcuts")
        panel.plot([], [], color="0.5", linestyle="--", linewidth=1, label="shortcuts")  # for the legend alone
    panel.legend(frameon=False)


def _draw_heatmap(
    figure: "Figure",
    panel: "Axes",
    heatmap: Heatmap,
    rows: list[dict[int, float]],
    norm: "Normalize | None" = None,
) -> None:
    """`norm`: the colours' scale; the rows' own if not given."""
    from matplotlib.ticker import MaxNLocator

    steps = np.array(sorted({step for row in rows for step in row}))
    values = np.array([[row.get(step, math.nan) for step in steps] for row in rows])
    image = panel.pcolormesh(
        edges(steps),
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(values),
        norm=norm or _norm(heatmap, values),
        cmap="viridis",
        rasterized=True,
    )
    panel.set_facecolor("0.9")  # nothing measured
    panel.yaxis.set_major_locator(MaxNLocator(min(len(rows), 13), integer=True))
    panel.set(ylabel=heatmap.rows, title=heatmap.title)
    above = heatmap.highest is not None and bool((values > heatmap.highest).any())
    figure.colorbar(image, ax=panel, extend="max" if above else "neither")


def _draw_line(panel: "Axes", curve: dict[int, float]) -> None:
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=3, foreground="black")]
    steps = np.array(list(curve))
    panel.stairs(list(curve.values()), edges(steps), baseline=None, color="white", path_effects=outline)


def _norm(heatmap: Heatmap, values: np.ndarray) -> "Normalize":
    from matplotlib.colors import LogNorm, Normalize

    finite = values[np.isfinite(values)]
    if heatmap.logarithmic and (finite > 0).any():
        return LogNorm(finite[finite > 0].min(), finite.max())
    if heatmap.highest is not None:
        return Normalize(0, heatmap.highest if (finite > heatmap.highest).any() else max(1.0, finite.max(initial=0)))
    return Normalize()
