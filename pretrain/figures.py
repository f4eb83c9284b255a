"""The picture of a pretraining run: its loss, and the masked accuracy of every depth over the steps."""

import json
import os
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def read_metrics(run: Path) -> dict[str, dict[int, float]]:
    """Every metric of RUN/metrics.jsonl as {name: {step: value}}; what a resumed run logged again replaces the old."""
    curves: dict[str, dict[int, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if name not in ("step", "time") and isinstance(value, int | float):
                curves.setdefault(name, {})[record["step"]] = value
    return curves


def draw_run(run: Path, title: str) -> Path:
    """Draw RUN/pretraining.png from the run's metrics: losses, and a depth-over-steps heatmap of masked accuracy."""
    curves = read_metrics(run)
    figure, (losses, depths) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, label in (("train/loss", "training"), ("validation/loss", "validation")):
        curve = curves.get(name, {})
        marker = "o" if name.startswith("validation") else ""
        losses.plot(list(curve), list(curve.values()), label=label, marker=marker, markersize=4)
    losses.set(xlabel="optimizer step", ylabel="masked-language-model loss (nats)", title="Loss")
    losses.legend(frameon=False)
    losses.grid(alpha=0.3)

    names = sorted(name for name in curves if name.startswith("validation/accuracy_depth_"))
    steps = list(curves[names[0]])
    accuracy = np.array([list(curves[name].values()) for name in names])
    image = depths.imshow(accuracy, origin="lower", aspect="auto", cmap="viridis", interpolation="nearest")
    depths.set_xticks(range(len(steps)), [str(step) for step in steps], rotation=45 if len(steps) > 6 else 0)
    depths.set_yticks(range(len(names)))
    depths.set(xlabel="optimizer step", ylabel="read-out depth", title="Masked accuracy of every depth")
    figure.colorbar(image, ax=depths)
    figure.suptitle(title)
    path = run / "pretraining.png"
    aside = run / ".pretraining.tmp.png"
    figure.savefig(aside, dpi=120)
    plt.close(figure)
    os.replace(aside, path)
    return path
