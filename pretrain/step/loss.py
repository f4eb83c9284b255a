"""The cross-entropy of the masked positions, without copies of the logits in fp32.

Logits of M targets and a vocabulary of V words are the largest activation of a small model. torch's cross-entropy of
logits in bf16 makes four tensors of M x V numbers in fp32 and their gradient; here a few rows at a time are in fp32, as
many as stay in a processor's cache, and the gradient is made beside them (as Liger Kernel does it, arXiv 2410.10989).
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from data_pipeline.stream import IGNORED_LABEL

_IN_CACHE = 2**19
"""Numbers of the rows that a CPU has in fp32 at a time."""
_ON_GPU = 2**26


class _MaskedCrossEntropy(torch.autograd.Function):
    """The summed cross-entropy over `share`; the gradient is computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        rows = max(1, (_ON_GPU if logits.is_cuda else _IN_CACHE) // logits.shape[-1])
        gradient = torch.empty_like(logits)
        loss = torch.zeros((), device=logits.device)
        for scores, targets, result in zip(logits.split(rows), labels.split(rows), gradient.split(rows), strict=True):
            counts = (targets != IGNORED_LABEL).unsqueeze(-1)
            index = targets.clamp(min=0).unsqueeze(-1)
            probabilities = scores.softmax(-1, dtype=torch.float32)
            # log(sum(exp)) by the likeliest word, whose probability cannot vanish
            normaliser = scores.amax(-1, keepdim=True).float() - probabilities.amax(-1, keepdim=True).log()
            loss += torch.where(counts, normaliser - scores.gather(-1, index), 0).sum()
            probabilities.scatter_add_(-1, index, torch.full_like(normaliser, -1.0))
            result.copy_(probabilities.mul_(counts / share))
        ctx.rows = rows
        ctx.save_for_backward(gradient)
        return loss / share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        if ctx.rows is None:
            raise RuntimeError("the gradient of masked_cross_entropy is made in place: it can be asked for once only")
        (gradient,) = ctx.saved_tensors
        factor = outer.view(1, 1)  # with dimensions it is not rounded to the gradient's precision before
        for part in gradient.split(ctx.rows):
            torch.mul(part, factor, out=part)
        ctx.rows = None
        return gradient, None, None


def masked_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | float | None = None, **_: Any
) -> torch.Tensor:
    """transformers' loss of masked-language models: the cross-entropy, summed over the targets, over their number.

    Args:
        logits: (..., V).
        labels: (...); -100 is no target.
        num_items_in_batch: what the sum is divided by; None: the number of targets.

    Returns:
        A scalar in fp32.
    """
    logits, labels = logits.flatten(0, -2), labels.flatten()
    if num_items_in_batch is None:
        num_items_in_batch = (labels != IGNORED_LABEL).sum()
    if logits.dtype == torch.float16 or not logits.requires_grad:
        # small probabilities vanish in fp16 unless the loss's scale is multiplied in before they are rounded
        return F.cross_entropy(logits.float(), labels, reduction="sum", ignore_index=IGNORED_LABEL) / num_items_in_batch
    return _MaskedCrossEntropy.apply(logits, labels, torch.as_tensor(num_items_in_batch, device=logits.device))
