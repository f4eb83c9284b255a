"""The order as a picture (docs/data-order.png), and how well it shuffles: `python -m benchmarks.data_order -h`."""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data_pipeline.stream import Order

SEEDS = (0, 1, 2)
BLOCKS, CELL, LANES, BATCH = 2_000_000, 512, 960, 2048  # a quarter of a billion tokens in blocks of 128


def main() -> None:
    """Draw data-order.png and print the distances of neighbours for several windows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the picture")
    output = parser.parse_args().output
    draw(Order(blocks=480, lanes=6, window=2, seed=0, cell=16), output / "data-order.png")
    for window in (1, 4, 16, None):
        print(json.dumps(shuffle_quality(window)))


def shuffle_quality(window: int | None) -> dict[str, float | str]:
    """Where blocks that follow each other in the corpus end up: distance in samples, means over seeds.

    None for a perfect shuffle, numpy's permutation of all blocks.
    """
    found = []
    for seed in SEEDS:
        if window is None:
            sample_of = np.random.default_rng(seed).permutation(BLOCKS)
        else:
            sample_of = np.empty(BLOCKS, dtype=np.int64)
            sample_of[Order(BLOCKS, LANES, window, seed, CELL).locate(np.arange(BLOCKS))] = np.arange(BLOCKS)
        distance = np.abs(np.diff(sample_of))
        together = np.mean(sample_of[1:] // BATCH == sample_of[:-1] // BATCH)
        found.append((np.median(distance) / BLOCKS, np.percentile(distance, 5), together))
    median, nearest, together = np.mean(found, axis=0)
    return {
        "window": "perfect" if window is None else str(window),
        "median_distance_epochs": float(median),
        "nearest_5_percent_samples": float(nearest),
        "neighbours_in_one_batch": float(together),
    }


def draw(order: Order, file: Path) -> None:
    """Left: where in the corpus each sample of two epochs comes from. Right: what the first batches are made of."""
    samples = np.arange(2 * order.blocks)
    blocks, places = order.locate(samples), order.places(samples)
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    order_axes, batch_axes = figure.subplots(1, 2)
    points = order_axes.scatter(samples, blocks, c=places.lane, cmap="tab10", vmin=0, vmax=9, s=5, linewidths=0)
    order_axes.axvline(order.blocks, color="black", linewidth=1)
    order_axes.set(xlabel="sample", ylabel="block of the corpus", title="Two epochs, coloured by lane")
    order_axes.legend(
        *points.legend_elements(num=order.lanes - 1), title="lane", loc="upper left", bbox_to_anchor=(1, 1)
    )
    first = 6 * order.lanes
    for sample in range(first):
        lane, row = int(places.lane[sample]), sample // order.lanes
        cell = int(blocks[sample]) // order.cell
        batch_axes.add_patch(_square(lane, row, f"C{lane}"))
        batch_axes.text(lane + 0.5, row + 0.42, f"{blocks[sample]}", ha="center", va="center", fontsize=9)
        batch_axes.text(lane + 0.5, row + 0.75, f"row group {cell}", ha="center", va="center", fontsize=6)
    batch_axes.set(xlim=(0, order.lanes), ylim=(6, 0), xlabel="lane", ylabel="round")
    batch_axes.set_xticks(np.arange(order.lanes) + 0.5, [f"{lane}" for lane in range(order.lanes)])
    batch_axes.set_yticks(np.arange(6) + 0.5, [str(row) for row in range(6)])
    batch_axes.set_title("The first samples, dealt from the lanes in turn;\nof 3 ranks, rank 0 takes lanes 0 and 3")
    figure.savefig(file, dpi=120)


def _square(column: int, row: int, colour: str) -> Rectangle:
    return Rectangle((column, row), 1, 1, facecolor=colour, alpha=0.35, edgecolor="white")


if __name__ == "__main__":
    main()
