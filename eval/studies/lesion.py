"""Lesions: delete one layer, swap two neighbours, repeat one, and see what it costs.

Veit, Wilber and Belongie, "Residual networks behave like ensembles of relatively shallow networks" (2016, arXiv
1605.06431): a residual network hardly notices the loss of a layer, because most of its paths do not pass through it; a
plain feed-forward network breaks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from modeling import AcnForSequenceClassification

from ..progress import Progress
from .base import Context, Curve, Kind, Point, Study
from .config import LesionOptions


def orders(kind: str, layers: int) -> dict[int, list[int]]:
    """The layers that run, in their order, for a lesion at each layer 1..L it is possible at (numbers from 0)."""
    intact = list(range(layers))
    if kind == "delete":
        return {i + 1: intact[:i] + intact[i + 1 :] for i in intact}
    if kind == "swap":
        return {i + 1: [*intact[:i], i + 1, i, *intact[i + 2 :]] for i in intact[:-1]}
    return {i + 1: intact[: i + 1] + intact[i:] for i in intact}


@contextmanager
def lesioned(model: AcnForSequenceClassification, order: Sequence[int]) -> Iterator[None]:
    """Within the block, the encoder runs the layers `order` (each any number of times), and reads them all out."""
    base, layers = model.base_model, model.config.num_hidden_layers
    intact = base.layers
    base.layers = nn.ModuleList([intact[i] for i in order])
    model.config.num_hidden_layers = len(order)
    try:
        yield
    finally:
        base.layers = intact
        model.config.num_hidden_layers = layers


def run(context: Context, options: LesionOptions) -> Study:
    """The score of the model with each lesion."""
    task, layers = context.only.task, context.config.num_hidden_layers
    data = context.encode(task, context.only.validation)
    model = context.load_finetuned()
    full = context.score(model, task, data)
    lesions = {kind: orders(kind, layers) for kind in options.names}
    progress = Progress("lesion", sum(map(len, lesions.values())))
    curves, damage = [], {}
    for kind, by_layer in lesions.items():
        points = []
        for layer, order in by_layer.items():
            with lesioned(model, order):
                points.append(Point(layer, [context.score(model, task, data)]))
            damage[kind, layer] = full - points[-1].values[0]
            progress.step(f"{kind} {layer}")
        curves.append(Curve(kind, "layer", f"{task.name} {task.metric}", points, reference=full))
    lowest = min(0.0, *(point.values[0] for curve in curves for point in curve.points))
    return Study(
        y_range=(lowest, 1.0),  # of every metric of a task: twins have the same scale
        curves=curves,
        columns=["layer", *(f"damage of {kind}" for kind in options.names)],
        rows=[[layer, *(damage.get((kind, layer)) for kind in options.names)] for layer in range(1, layers + 1)],
        notes="One layer is deleted, swapped with the next, or run twice; nothing is trained afterwards. Damage is the "
        "intact model's score minus the lesioned one's (Veit et al. 2016). In a model that sums its layers a "
        "deleted layer is missing from the read-out too, and a repeated one is in it twice. Nothing is random: no "
        "seeds.",
    )


KIND = Kind(run, "fine-tuned")
