"""Draws docs/figures/connectivities.png: python docs/figures/connectivities.py"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from modeling.configuration_acn import CONNECTIVITIES, Connectivity

LAYERS = 2
SUB_LAYER, LAYER, TOP = 2.0, 4.8, 2 * 4.8 + 0.9  # heights: a sub-layer, a layer with its state, the read-out
STATE, OPERATION, NORM, READ_OUT = "#e8e8e8", "#cfe0f3", "#dff0d8", "#f8dcc0"
SHORTCUT, SUM = "#b5403a", "#c07a2c"
TITLES = {
    "acn": "no shortcuts; every state is summed",
    "residual": "shortcuts; the last state (BERT)",
    "feedforward": "no shortcuts; the last state",
    "hybrid": "shortcuts times a learned $s_i$; the sum",
    "reversible": "two streams; the norm of their mean",
}


def box(axes: Axes, y: float, text: str, colour: str, width: float) -> None:
    """A labelled rounded box centred at (0, y)."""
    patch = FancyBboxPatch((-width / 2, y - 0.22), width, 0.44, "round,pad=0.02,rounding_size=0.08",
                           facecolor=colour, edgecolor="#444444", linewidth=0.9)  # fmt: skip
    axes.add_patch(patch)
    axes.text(0, y, text, ha="center", va="center", fontsize=9)


def path(axes: Axes, *points: tuple[float, float], colour: str = "#333333", line: str = "-") -> None:
    """A line through the points that ends in an arrow head."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], color=colour, linestyle=line, linewidth=1.2, solid_capstyle="butt")
    style = {"arrowstyle": "-|>", "color": colour, "linestyle": line, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=style)


def sub_layer(axes: Axes, base: float, i: int, name: str, wiring: Connectivity) -> None:
    """One sub-layer on the stream that leaves height `base`: the operation, the sum with the shortcut, the norm."""
    box(axes, base + 0.68, name, OPERATION, 1.25)
    path(axes, (0, base), (0, base + 0.44))
    if wiring.shortcut == "none":
        path(axes, (0, base + 0.92), (0, base + 1.54))
    else:
        line = "--" if wiring.shortcut == "learned" else "-"
        left, plus = -0.95, base + 1.22
        path(axes, (0, base + 0.12), (left, base + 0.12), (left, plus), (-0.13, plus), colour=SHORTCUT, line=line)
        axes.text(0, plus, "+", ha="center", va="center", fontsize=10,
                  bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": SHORTCUT})  # fmt: skip
        path(axes, (0, base + 0.92), (0, plus - 0.13))
        path(axes, (0, plus + 0.13), (0, base + 1.54))
        if wiring.shortcut == "learned":
            axes.text(left - 0.07, base + 0.68, f"$s_{i}$", color=SHORTCUT, fontsize=10, ha="right", va="center")
    box(axes, base + 1.78, "LayerNorm", NORM, 1.25)


def panel(axes: Axes, name: str, wiring: Connectivity) -> None:
    """One connectivity, the embeddings below and the read-out above."""
    box(axes, 0, "embeddings $x_0$", STATE, 1.25)
    for i in range(1, LAYERS + 1) if wiring.streams == 1 else ():
        base = (i - 1) * LAYER + 0.24
        sub_layer(axes, base, i, "attention", wiring)
        sub_layer(axes, base + SUB_LAYER, i, "feed-forward", wiring)
        path(axes, (0, base + 2 * SUB_LAYER), (0, i * LAYER - 0.24))
        box(axes, i * LAYER, f"$x_{i}$", STATE, 0.6)
    if wiring.streams == 2:
        two_streams(axes)
    else:
        path(axes, (0, LAYERS * LAYER + 0.24), (0, TOP - 0.24))
    box(axes, TOP, f"read-out  $y_{LAYERS}$", READ_OUT, 1.25)
    if wiring.sums_layers:
        path(axes, (1.05, 0), (1.05, TOP), (0.67, TOP), colour=SUM)
        for i in range(LAYERS):
            axes.plot([0.65 if i == 0 else 0.32, 1.05], [i * LAYER, i * LAYER], color=SUM, linewidth=1.2)
            axes.text(1.13, i * LAYER, "+", color=SUM, fontsize=11, va="center")
    axes.text(0, TOP + 1.0, name, ha="center", fontsize=12, fontweight="bold")
    axes.text(0, TOP + 0.55, TITLES[name], ha="center", fontsize=9, color="#444444")
    axes.set_xlim(-1.6, 1.6)
    axes.set_ylim(-0.35, TOP + 1.4)
    axes.axis("off")


def crossed(axes: Axes, base: float, name: str, side: int) -> None:
    """One sub-layer of two streams: the stream of the other side, normed, is added to that of `side` (-1 or 1)."""
    read, to, plus = -0.85 * side, 0.85 * side, base + 1.75
    path(axes, (read, base + 0.1), (0, base + 0.1), (0, base + 0.33))
    box(axes, base + 0.55, "LayerNorm", NORM, 1.15)
    path(axes, (0, base + 0.77), (0, base + 1.0))
    box(axes, base + 1.22, name, OPERATION, 1.15)
    path(axes, (0, base + 1.44), (0, plus), (to - 0.13 * side, plus), colour=SHORTCUT)
    axes.text(to, plus, "+", ha="center", va="center", fontsize=10,
              bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": SHORTCUT})  # fmt: skip


def two_streams(axes: Axes) -> None:
    """The layers of a reversible model; each stream runs straight up."""
    for i in range(LAYERS):
        base = i * LAYER + 0.44
        crossed(axes, base, "attention", -1)
        crossed(axes, base + SUB_LAYER, "feed-forward", 1)
    for x, name in ((-0.85, "s"), (0.85, "t")):
        path(axes, (0.6 * x, 0.24), (x, 0.44), (x, TOP - 0.44), (0.55 * x, TOP - 0.24))
        for i in range(1, LAYERS + 1):
            axes.text(1.55 * x, i * LAYER, f"${name}_{i}$", ha="center", va="center", fontsize=10)


def main() -> None:
    """Write the picture beside this script."""
    figure, axes = plt.subplots(1, len(CONNECTIVITIES), figsize=(15, 8))
    for one, (name, wiring) in zip(axes, CONNECTIVITIES.items(), strict=True):
        panel(one, name, wiring)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
