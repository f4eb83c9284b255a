"""The geometry of each layer: the spectrum of the pull-back metric at sampled inputs.

A layer f maps the states x (T, H) of a text to new ones. Taking T x H as one vector of n numbers with the Jacobian J,
the Euclidean metric of the output pulled back to the input is G = J^T J (Hauser and Ray 2017, "Principles of Riemannian
geometry in neural networks"): its eigenvalues say by how much the layer stretches (squared) which directions, and zeros
what it forgets. J is never formed for wide layers: G v = J^T (J v) by a Jacobian-vector and a vector-Jacobian product,
and Lanczos iterations from random vectors give the spectrum (stochastic Lanczos quadrature; Ubaru, Chen and Saad 2017).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from modeling import AcnForSequenceClassification

from ..progress import Progress
from .base import Context, Curve, Kind, Point, Study
from .config import RANKS, GeometryOptions

Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a pull-back metric with the share of the n dimensions that each stands for."""

    eigenvalues: np.ndarray
    """(m,), rising, never negative."""
    shares: np.ndarray
    """(m,), summing to 1; 1/n each where the spectrum is exact."""
    size: int
    """n."""

    @property
    def mean(self) -> float:
        """trace(G) / n."""
        return float(self.eigenvalues @ self.shares)

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of p_i = lambda_i / sum lambda (Roy and Vetterli 2007): n if all are equal, 1 if one is
        left."""
        p = self.eigenvalues / (self.mean * self.size)
        positive = p > 0
        return float(np.exp(-self.size * (self.shares[positive] * p[positive] * np.log(p[positive])).sum()))

    def largest(self, rank: int) -> float:
        """The eigenvalue of this rank, 1 for the largest (the smallest, where there are not so many)."""
        return float(self.eigenvalues[max(0, len(self.eigenvalues) - rank)])


def _flat(function: Map, shape: torch.Size) -> Map:
    return lambda x: function(x.view(shape)).flatten()


def exact_spectrum(function: Map, x: torch.Tensor) -> Spectrum:
    """The spectrum at x from the whole Jacobian, a Jacobian-vector product per column."""
    flat, at = _flat(function, x.shape), x.flatten()
    columns = torch.func.vmap(lambda v: torch.func.jvp(flat, (at,), (v,))[1], chunk_size=128)
    jacobian = columns(torch.eye(len(at), dtype=at.dtype, device=at.device))  # its transpose
    eigenvalues = torch.linalg.eigvalsh(jacobian @ jacobian.T).clamp(min=0).cpu().numpy()
    return Spectrum(eigenvalues, np.full(len(at), 1 / len(at)), len(at))


def lanczos_spectrum(function: Map, x: torch.Tensor, steps: int, generator: torch.Generator) -> Spectrum:
    """The spectrum at x by `steps` Lanczos iterations from one random vector.

    With as many steps as dimensions the eigenvalues are exact; with fewer, sums over the spectrum are exact for
    polynomials of degree 2 steps - 1 up to the random vector, and the largest eigenvalues come out best.
    """
    flat, at = _flat(function, x.shape), x.flatten()
    pull = torch.func.vjp(flat, at)[1]
    v = torch.randn(len(at), generator=generator, dtype=at.dtype).to(at.device)
    basis = [v / v.norm()]
    diagonal: list[float] = []
    below: list[float] = []
    for step in range(min(steps, len(at))):
        push = torch.func.jvp(flat, (at,), (basis[step],))[1]
        w = pull(push)[0]
        diagonal.append(float(w @ basis[step]))
        known = torch.stack(basis)
        for _ in range(2):  # twice is enough: orthogonal to all before, not to the last two only
            w = w - known.T @ (known @ w)
        below.append(float(w.norm()))
        if below[-1] <= 1e-10 * max(diagonal):
            break  # an invariant subspace
        basis.append(w / below[-1])
    inner = below[: len(diagonal) - 1]
    eigenvalues, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
    return Spectrum(np.clip(eigenvalues, 0, None), vectors[0] ** 2, len(at))


@torch.no_grad()
def layer_maps(
    model: AcnForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> Iterator[tuple[Map, torch.Tensor]]:
    """Every layer as a function of its input, and its input (1, T, H) for a text."""
    seen: list[tuple[nn.Module, torch.Tensor, dict[str, Any]]] = []

    def keep(module: nn.Module, args: tuple[torch.Tensor], kwargs: dict[str, Any]) -> None:
        seen.append((module, args[0].detach(), kwargs))

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in model.base_model.layers]
    try:
        model.base_model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, x, kwargs in seen:
        yield partial(layer, **kwargs), x


def _spectra(
    context: Context,
    options: GeometryOptions,
    model: AcnForSequenceClassification,
    rows: Any,
    generator: torch.Generator,
) -> list[list[Spectrum]]:
    """Per text, per layer."""
    spectra = []
    for inputs in context.batches(model, rows.remove_columns("labels"), 1):
        of_text = []
        for function, x in layer_maps(model, inputs):
            if x.numel() <= options.exact_up_to:
                of_text.append(exact_spectrum(function, x))
            else:
                of_text.append(lanczos_spectrum(function, x, options.lanczos_steps, generator))
        spectra.append(of_text)
    return spectra


def _log10(value: float) -> float:
    """Eigenvalues that are zero up to rounding count as 1e-12."""
    return float(np.log10(max(value, 1e-12)))


def _eigenvalue(rank: int) -> Callable[[Spectrum], float]:
    return lambda spectrum: _log10(spectrum.largest(rank))


MEASURES: dict[tuple[str, str], Callable[[Spectrum], float]] = {
    ("effective rank", "effective rank / dimensions"): lambda s: s.effective_rank / s.size,
    **{(f"eigenvalue {rank}", "log10 eigenvalue of J^T J"): _eigenvalue(rank) for rank in RANKS},
    ("mean of all", "log10 eigenvalue of J^T J"): lambda s: _log10(s.mean),
}


def run(context: Context, options: GeometryOptions) -> Study:
    """The spectrum of every layer's pull-back metric, averaged over texts."""
    seeds, curves = context.options.seed_list, []
    rows: list[list[Any]] = []
    progress = Progress("geometry", len(context.data) * len(seeds))
    for data in context.data:
        task = data.task
        # forward-mode differentiation needs attention written out; float64 keeps small eigenvalues apart from rounding
        model = context.load_for_task(task).eval().double()
        model.set_attn_implementation("eager")
        model.requires_grad_(False)
        encoded = context.encode(task, data.validation)
        found = []
        for seed in seeds:
            chosen = np.random.default_rng(seed).permutation(len(encoded))[: options.samples]
            generator = torch.Generator().manual_seed(seed)
            found.append(_spectra(context, options, model, encoded.select(np.sort(chosen)), generator))
            progress.step(f"{task.name}, seed {seed}")
        for (name, y_label), measure in MEASURES.items():
            points = [
                Point(layer + 1, [fmean(measure(text[layer]) for text in texts) for texts in found])
                for layer in range(context.config.num_hidden_layers)
            ]
            curves.append(Curve(f"{task.name}: {name}", "layer", y_label, points))
        table = zip(*(curve.points for curve in curves[-len(MEASURES) :]), strict=True)
        rows += [[task.name, int(at[0].x), *(fmean(point.values) for point in at)] for at in table]
    return Study(
        curves,
        ["task", "layer", *(f"{label} ({name})" if "log10" in label else label for name, label in MEASURES)],
        rows,
        "Eigenvalues of G = J^T J, J the Jacobian of a layer's output with respect to its input, both flattened over "
        "tokens (Hauser and Ray 2017): squared stretches. Effective rank: exp of the entropy of the eigenvalues "
        "divided by their sum (Roy and Vetterli 2007), as a share of the dimensions. Means over the texts; the seeds "
        f"draw texts and start vectors. By {options.lanczos_steps} Lanczos steps; the whole Jacobian where tokens x "
        f"width is at most {options.exact_up_to}. Eigenvalues by Lanczos are at most the true ones of their "
        "rank, the first are the closest.",
        seeds,
    )


KIND = Kind(run, "either", precision="fp64")
