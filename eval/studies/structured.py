"""Whole attention heads and feed-forward neurons removed, so that the matrices shrink.

The importance of a unit is the norm of the weights that read it, or |dL/dg| for a gate g = 1 on its output, summed over
batches of training examples (Michel, Levy and Neubig 2019, "Are sixteen heads really better than one?", arXiv
1905.10650). Every layer loses as many, so the result is an ordinary model of the family: `num_attention_heads`,
`head_dim` and `intermediate_size` of its configuration say its shape, and it is saved and loaded as any other.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modeling import AcnForSequenceClassification, autocast


@dataclass(frozen=True)
class Importance:
    """Of every unit of every layer."""

    heads: list[torch.Tensor]
    """Per layer (heads,)."""
    neurons: list[torch.Tensor]
    """Per layer (intermediate_size,)."""


def _per_head(columns: torch.Tensor, model: AcnForSequenceClassification) -> torch.Tensor:
    """What was summed over the rows of an output projection, (heads * D,), as (heads, D)."""
    return columns.view(model.config.num_attention_heads, -1)


@torch.no_grad()
def magnitude_importance(model: AcnForSequenceClassification) -> Importance:
    """Euclidean norms of the output-projection weights that read a head, and of the down-projection's that read a
    neuron."""
    layers = model.base_model.layers
    return Importance(
        [_per_head(layer.attention.out_proj.weight.square().sum(0), model).sum(1).sqrt() for layer in layers],
        [layer.mlp.down_proj.weight.square().sum(0).sqrt() for layer in layers],
    )


def gradient_importance(
    model: AcnForSequenceClassification, batches: list[dict[str, torch.Tensor]], precision: str = "fp32"
) -> Importance:
    """sum over batches of |sum w dL/dw| over the weights that read a unit, which is |dL/dg| of a gate on its output.

    Args:
        batches: inputs with labels.
    """
    layers = model.base_model.layers
    matrices = [projection.weight for layer in layers for projection in (layer.attention.out_proj, layer.mlp.down_proj)]
    sums = [torch.zeros(weight.shape[1], device=weight.device) for weight in matrices]
    heads = model.config.num_attention_heads
    for batch in batches:
        with autocast(precision, model.device):
            loss = model(**batch).loss
        gradients = torch.autograd.grad(loss, matrices)
        for i, (weight, gradient) in enumerate(zip(matrices, gradients, strict=True)):
            slopes = (weight.detach() * gradient).sum(0)
            if i % 2 == 0:  # the columns of a head share its gate
                slopes = slopes.view(heads, -1).sum(1).repeat_interleave(len(slopes) // heads)
            sums[i] += slopes.abs()
    return Importance([_per_head(total, model)[:, 0] for total in sums[::2]], sums[1::2])


def _kept(importance: torch.Tensor, share: float) -> torch.Tensor:
    """The indices, rising, of the most important units when `share` of them go; at least one stays."""
    keep = max(1, round((1 - share) * len(importance)))
    return importance.topk(keep).indices.sort().values


def _keep_rows(linear: nn.Linear, rows: torch.Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight.detach()[rows].clone())
    linear.bias = nn.Parameter(linear.bias.detach()[rows].clone())
    linear.out_features = len(rows)


def _keep_columns(linear: nn.Linear, columns: torch.Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight.detach()[:, columns].clone())
    linear.in_features = len(columns)


def _keep_heads(attention: Any, heads: torch.Tensor) -> None:
    within = torch.arange(attention.head_dim, device=heads.device)
    columns = (heads[:, None] * attention.head_dim + within).flatten()
    width = attention.out_proj.in_features
    # query, key and value lie one after the other in the fused projection
    _keep_rows(attention.qkv_proj, torch.cat([part * width + columns for part in range(3)]))
    _keep_columns(attention.out_proj, columns)


def _keep_neurons(mlp: Any, neurons: torch.Tensor) -> None:
    width = mlp.down_proj.in_features
    # a gated layer has the gates first
    _keep_rows(mlp.up_proj, torch.cat([part * width + neurons for part in range(2 if mlp.gated else 1)]))
    _keep_columns(mlp.down_proj, neurons)


def shrink(model: AcnForSequenceClassification, share: float, importance: Importance) -> None:
    """Remove `share` of the heads and of the neurons of every layer, the least important first, in place."""
    config = model.config
    config.head_dim = config.head_width
    config.identity_attention_init = False  # how the weights began; it goes with square projections only
    kept_heads = [_kept(scores, share) for scores in importance.heads]
    kept_neurons = [_kept(scores, share) for scores in importance.neurons]
    for layer, heads, neurons in zip(model.base_model.layers, kept_heads, kept_neurons, strict=True):
        _keep_heads(layer.attention, heads)
        _keep_neurons(layer.mlp, neurons)
    if kept_heads:
        config.num_attention_heads, config.intermediate_size = len(kept_heads[0]), len(kept_neurons[0])
