"""Shortcuts carried by the layers' own weights: where an ACN begins that has the weights of a residual model.

Without its short residuals a layer hands on what its branches add, and most of what it was given is lost. Half of its
heads and of its MLP's units, those that matter least, are given the task of the lost shortcut instead. "Cutting the
Skip" (arXiv 2510.00345) has the same aim for models that begin at random; this is a closed form for trained ones.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from data_pipeline import Problem
from modeling import AcnConfig, AcnModel
from modeling.modeling_acn import AcnLayer

from .anneal import AnnealedShortcut

OWN_SCORE = 11.3
"""Score that a token of mean size gives itself in a head that hands it on; others get 0 in the mean."""


class Moments:
    """Mean and covariances of vectors (D,) that come in batches, in float64.

    Covariances are those within each `group` of neighbouring dimensions: with D of one vector all, with 1 variances.
    """

    def __init__(self, width: int, group: int) -> None:
        self._count = 0
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width // group, group, group, dtype=torch.float64)

    def add(self, vectors: torch.Tensor) -> None:
        """Take in vectors (N, D)."""
        rows = vectors.detach().double().cpu()
        self._count += len(rows)
        self._sum += rows.sum(0)
        groups = rows.view(len(rows), *self._products.shape[:2]).transpose(0, 1)
        self._products += groups.transpose(1, 2) @ groups

    @property
    def mean(self) -> torch.Tensor:
        """(D,)"""
        return self._sum / self._count

    @property
    def covariance(self) -> torch.Tensor:
        """(D / group, group, group)"""
        means = self.mean.view(self._products.shape[:2])
        return self._products / self._count - means[:, :, None] * means[:, None]

    def components(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one group: principal directions, the columns of (D, D), and their variances (D,), the largest first."""
        variances, directions = torch.linalg.eigh(self.covariance[0])
        return directions.flip(1), variances.flip(0).clamp(min=0)


class LayerReadings:
    """What the parts of a layer are given while it reads tokens."""

    def __init__(self, layer: AcnLayer) -> None:
        self.layer = layer
        hidden = layer.mlp.up_proj.in_features
        self.attention, self.mlp = Moments(hidden, group=hidden), Moments(hidden, group=hidden)
        self.heads = Moments(layer.attention.out_proj.in_features, group=layer.attention.head_dim)
        self.units = Moments(layer.mlp.down_proj.in_features, group=1)

    @contextmanager
    def listening(self, counted: torch.Tensor | None) -> Iterator[None]:
        """Measure what the layer reads of one batch: the tokens (B, T) that are counted; None: all."""

        def measure(module: nn.Module, moments: Moments) -> torch.utils.hooks.RemovableHandle:
            return module.register_forward_pre_hook(
                lambda _, given: moments.add(given[0].flatten(0, 1) if counted is None else given[0][counted])
            )

        attention, mlp = self.layer.attention, self.layer.mlp
        hooks = [measure(attention, self.attention), measure(attention.out_proj, self.heads)]
        hooks += [measure(mlp, self.mlp), measure(mlp.down_proj, self.units)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def _with_shortcuts(model: AcnModel) -> Iterator[None]:
    """The model's layers compute what a residual model's with its weights do."""
    own = [layer.shortcut for layer in model.layers]
    for layer in model.layers:
        layer.shortcut = AnnealedShortcut(torch.ones(()))
    try:
        yield
    finally:
        for layer, shortcut in zip(model.layers, own, strict=True):
            layer.shortcut = shortcut


@torch.no_grad()
def carry_shortcuts(
    model: AcnModel, batches: Iterable[tuple[dict[str, torch.Tensor], torch.Tensor | None]]
) -> tuple[int, int]:
    """Change the weights of an ACN, which are those of a residual model, so that its layers hand on their input.

    In every layer, half of the heads attend to their own token and hand on the first principal components of the
    layer's input; they are those whose output varies least. Pairs of the MLP's units compute act(z) - act(-z), which is
    z, for as many components of the MLP's input as half of the units are enough for. What the replaced heads and units
    gave in the mean is in the biases.

    Args:
        model: in evaluation mode, on its device, of a configuration that has no `carry_problems`.
        batches: some thousand tokens to measure on: inputs of `model`, and which tokens (B, T) count; None: all.

    Returns:
        How many heads and units of a layer hand on.
    """
    layers: list[Any] = list(model.layers)
    readings = [LayerReadings(layer) for layer in layers]
    with _with_shortcuts(model), torch.compiler.set_stance("force_eager"):  # compiled layers call no hooks
        for inputs, counted in batches:
            with ExitStack() as listening:
                for seen in readings:
                    listening.enter_context(seen.listening(counted))
                model(**inputs)
    made = [(_carry_in_heads(seen), _carry_in_units(seen)) for seen in readings]
    return made[0] if made else (0, 0)


def _carry_in_heads(seen: LayerReadings) -> int:
    """Have heads of a layer hand on its input; returns how many."""
    attention = seen.layer.attention
    hidden, width = attention.out_proj.out_features, attention.head_dim
    weight = attention.qkv_proj.weight.double().cpu().view(3, -1, width, hidden)
    bias = attention.qkv_proj.bias.double().cpu().view(3, -1, width)
    output = attention.out_proj.weight.double().cpu().view(hidden, -1, width)
    output_bias = attention.out_proj.bias.double().cpu()
    heads = output.shape[1]
    mean, given = seen.attention.mean, seen.heads.mean.view(heads, width)
    directions, variances = seen.attention.components()
    # whitened: what is rare tells a token from others, and the score for itself is about the same for all
    whitened = directions[:, :width] * variances[:width].clamp(min=1e-6 * float(variances[0])).rsqrt()
    query = _widened(whitened * (OWN_SCORE / width**0.5) ** 0.5, width).T
    varies = torch.einsum("hni,nij,hnj->n", output, seen.heads.covariance, output)
    for place, head in enumerate(varies.argsort()[: heads // 2].tolist()):
        output_bias += output[:, head] @ given[head]
        output[:, head] = _widened(directions[:, place * width : (place + 1) * width], width)
        weight[:, head] = torch.stack([query, query, output[:, head].T])
        bias[:, head] = -(weight[:, head] @ mean)
    attention.qkv_proj.weight.copy_(weight.flatten(0, 2))
    attention.qkv_proj.bias.copy_(bias.flatten())
    attention.out_proj.weight.copy_(output.flatten(1))
    attention.out_proj.bias.copy_(output_bias + mean)
    return heads // 2


def _widened(columns: torch.Tensor, width: int) -> torch.Tensor:
    """(H, up to `width`) -> (H, width), with zeros: there are fewer components than places."""
    return F.pad(columns, (0, width - columns.shape[1]))


def _carry_in_units(seen: LayerReadings) -> int:
    """Have units of a layer's MLP hand on its input; returns how many."""
    up, down = seen.layer.mlp.up_proj, seen.layer.mlp.down_proj
    weight, bias = up.weight.double().cpu(), up.bias.double().cpu()
    output, output_bias = down.weight.double().cpu(), down.bias.double().cpu()
    pairs = min(down.in_features // 4, up.in_features)
    varies = seen.units.covariance.flatten() * output.square().sum(0)
    chosen = varies.argsort()[: 2 * pairs]
    directions = seen.mlp.components()[0][:, :pairs]
    output_bias += output[:, chosen] @ seen.units.mean[chosen] + seen.mlp.mean
    output[:, chosen] = torch.cat([directions, -directions], dim=1)
    weight[chosen] = output[:, chosen].T
    bias[chosen] = -(weight[chosen] @ seen.mlp.mean)
    for parameter, value in ((up.weight, weight), (up.bias, bias), (down.weight, output), (down.bias, output_bias)):
        parameter.copy_(value)
    return 2 * pairs


def carry_problems(model: AcnConfig) -> list[Problem]:
    """Why the layers of a model cannot carry their shortcuts, each with its fix."""
    lacking = []
    if model.num_attention_heads < 2:
        lacking.append("needs two attention heads at least")
    if model.gated_mlp:
        lacking.append("needs an MLP that is not gated")
    points, act = torch.linspace(-4, 4, 33, dtype=torch.float64), ACT2FN[model.hidden_act]
    if not torch.allclose(act(points) - act(-points), points, atol=1e-3):
        lacking.append(f"needs an activation with act(z) - act(-z) = z, as gelu, relu and silu; not {model.hidden_act}")
    return [Problem("carry_shortcuts", wrong=wrong, fix="set anneal.share instead") for wrong in lacking]
