"""The loss of several depths in one step, see supervision.py."""

from collections.abc import Callable, Iterable

import torch
from torch.nn import functional as F

from .supervision import DepthWeights


def supervised_loss(
    weights: DepthWeights,
    read_outs: Iterable[torch.Tensor],
    answer: Callable[[torch.Tensor], torch.Tensor],
    loss: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a step, and the answer of the deepest depth.

    Args:
        read_outs: y_0, ..., y_L.
        answer: from a read-out to logits (..., C); asked for no depth without weight.
        loss: from logits to a number.
    """
    depths = weights.loss.keys() | weights.divergence.keys()
    answers = {depth: answer(read_out) for depth, read_out in enumerate(read_outs) if depth in depths}
    deepest = answers[max(answers)]
    parts = [weight * loss(answers[depth]) for depth, weight in weights.loss.items()]
    parts += [weight * kl_divergence(answers[depth], deepest.detach()) for depth, weight in weights.divergence.items()]
    return torch.stack(parts).sum(), deepest


def kl_divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far an answer is from the wanted one, both (N, C): the mean of KL(wanted | answer) in nats.

    Of one number, which is no distribution, the mean squared difference.
    """
    if logits.shape[-1] == 1:
        return F.mse_loss(logits, wanted)
    inputs = F.log_softmax(logits.flatten(0, -2), dim=-1), F.log_softmax(wanted.flatten(0, -2), dim=-1)
    return F.kl_div(*inputs, reduction="batchmean", log_target=True)
