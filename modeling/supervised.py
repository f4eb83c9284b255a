"""The loss of several depths in one step, see supervision.py."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch.nn import functional as F

from .supervision import DepthWeights


class Answer(Protocol):
    """What a model gives for one read-out."""

    loss: Any
    logits: Any


Output = TypeVar("Output", bound=Answer)


def kl_divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far each answer is from the wanted one, two of (..., C): KL(wanted | answer) in nats, (...).

    Of one number, which is no distribution, the squared difference. In fp32 or better.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    if logits.shape[-1] == 1:
        return (logits.to(precise) - wanted.to(precise)).square().squeeze(-1)
    answers, targets = logits.log_softmax(-1, dtype=precise), wanted.log_softmax(-1, dtype=precise)
    return F.kl_div(answers, targets, reduction="none", log_target=True).sum(-1)


def supervised_loss(
    weights: DepthWeights,
    read_outs: Iterable[torch.Tensor],
    answer: Callable[[torch.Tensor], Output],
    divergence: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = lambda logits, wanted: kl_divergence(
        logits, wanted
    ).mean(),
) -> Output:
    """The deepest depth's answer, its loss in place of which is the one of the step.

    Args:
        read_outs: y_0, ..., y_L.
        answer: from a read-out to loss and logits (..., C); asked for no depth without weight.
        divergence: of a depth's logits from the deepest one's, a number.
    """
    depths = weights.loss.keys() | weights.divergence.keys()
    answers = {depth: answer(read_out) for depth, read_out in enumerate(read_outs) if depth in depths}
    deepest = answers[max(answers)]
    parts = [weight * answers[depth].loss for depth, weight in weights.loss.items()]
    parts += [
        weight * divergence(answers[depth].logits, deepest.logits.detach())
        for depth, weight in weights.divergence.items()
    ]
    deepest.loss = torch.stack(parts).sum()
    return deepest
