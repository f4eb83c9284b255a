"""How alike the representations of two depths are: linear centred kernel alignment (CKA).

Kornblith et al. 2019 (arXiv 1905.00414) with the unbiased estimator of HSIC (Song et al. 2012, JMLR 13) that Nguyen,
Raghu and Kornblith 2021 (arXiv 2010.15327) use: with few examples the biased one calls everything alike.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import datasets
import numpy as np
import torch

from modeling import CONNECTIVITIES, AcnForSequenceClassification

from ..progress import Progress
from .base import Context, Curve, Kind, Point, Study
from .config import SimilarityOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPRESENTATIONS = ("read-out", "layer")


def _gram(x: np.ndarray) -> np.ndarray:
    """Linear Gram matrix (N, N) of centred rows (N, H), without its diagonal. The shift changes rounding only."""
    x = x - x.mean(0)
    gram = x @ x.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, of two Gram matrices with a zero diagonal."""
    n = len(k)
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))
    return float(((k * m).sum() + sums) / (n * (n - 3)))


def cka(representations: list[np.ndarray]) -> np.ndarray:
    """Debiased linear CKA of every pair of representations (N, H_i) of the same N >= 4 examples: (R, R).

    1 on the diagonal, invariant to rotation, shift and scaling; about 0 (also a little below) for unrelated ones. NaN
    where a representation is the same for all examples.
    """
    grams = [_gram(np.asarray(x, dtype=np.float64)) for x in representations]
    hsic = np.array([[_unbiased_hsic(a, b) for b in grams] for a in grams])
    scale = np.sqrt(np.clip(np.diag(hsic), 0, None))
    scale[scale <= 1e-12 * max(scale.max(), 1e-300)] = np.nan
    return hsic / np.outer(scale, scale)


@torch.no_grad()
def mean_representations(
    context: Context, model: AcnForSequenceClassification, encoded: datasets.Dataset, batch_size: int
) -> dict[str, list[np.ndarray]]:
    """The mean over an example's tokens, (N, H), of the read-out y_k and of the layer output x_k, for k = 0..L."""
    sums_layers = CONNECTIVITIES[model.config.connectivity].sums_layers
    found: dict[str, list[list[np.ndarray]]] = {
        kind: [[] for _ in range(model.config.num_hidden_layers + 1)] for kind in REPRESENTATIONS
    }
    for inputs in context.batches(model, encoded.remove_columns("labels"), batch_size):
        mask = inputs["attention_mask"].unsqueeze(-1)
        before: torch.Tensor | None = None
        with context.autocast(model):
            for depth, read_out in enumerate(model.base_model.read_outs(**inputs)):
                mean = ((read_out.float() * mask).sum(1) / mask.sum(1)).double()
                layer = mean - before if sums_layers and before is not None else mean
                before = mean
                found["read-out"][depth].append(mean.cpu().numpy())
                found["layer"][depth].append(layer.cpu().numpy())
    return {kind: [np.concatenate(parts) for parts in depths] for kind, depths in found.items()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _curves(task: str, kind: str, matrix: np.ndarray) -> Iterator[Curve]:
    """Similarity to the last depth, and of neighbours."""
    last = len(matrix) - 1
    lines = {"with the last": matrix[:, last], "with the one before": np.diag(matrix, 1)}
    for name, values in lines.items():
        start = last + 1 - len(values)
        points = [Point(start + i, [value]) for i, value in enumerate(values) if not np.isnan(value)]
        yield Curve(f"{task}, {kind}s: {name}", "depth", "CKA", points)


def run(context: Context, options: SimilarityOptions) -> Study:
    """CKA of all pairs of depths, on each task's validation texts."""
    progress = Progress("similarity", len(context.data))
    matrices: dict[tuple[str, str], np.ndarray] = {}
    for data in context.data:
        model = context.load_for_task(data.task).eval()
        encoded = context.encode(data.task, data.validation)
        for kind, values in mean_representations(context, model, encoded, options.batch_size).items():
            matrices[data.task.name, kind] = cka(values)
        progress.step(data.task.name)
    depths = range(context.config.num_hidden_layers + 1)

    def draw(figure: "Figure") -> None:
        """The matrices as pictures."""
        figure.set_size_inches(9, 4.3 * len(context.data))
        panels = figure.subplots(len(context.data), len(REPRESENTATIONS), squeeze=False)
        for axes, ((task, kind), matrix) in zip(panels.flat, matrices.items(), strict=True):
            image = axes.imshow(matrix, origin="lower", vmin=0, vmax=1, cmap="viridis", aspect="auto")
            axes.set(title=f"{task}: {kind}s", xlabel="depth", ylabel="depth")
        figure.colorbar(image, ax=panels, label="debiased linear CKA", shrink=0.8)

    return Study(
        curves=[curve for (task, kind), matrix in matrices.items() for curve in _curves(task, kind, matrix)],
        columns=["task", "representation", "depth", *map(str, depths)],
        rows=[
            [task, kind, depth, *map(_number, matrix[depth])]
            for (task, kind), matrix in matrices.items()
            for depth in depths
        ],
        notes="Debiased linear CKA (Nguyen et al. 2021) between depths, of the mean over each validation example's "
        "tokens. read-out: y_k, what the head sees at depth k; layer: x_k, what layer k adds to it (where the read-out "
        "is x_k itself the two are the same). Nothing is random: no seeds.",
        draw=draw,
    )


KIND = Kind(run, "either")
