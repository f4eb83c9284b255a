"""Held-out loss and masked accuracy at every depth, from one forward pass of the encoder."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.nn import functional as F

from data_pipeline import MaskedBatch
from modeling import AcnForMaskedLM

from .batch import model_inputs


@torch.no_grad()
def validate(model: AcnForMaskedLM, batches: Iterable[MaskedBatch], device: torch.device) -> dict[str, float]:
    """Loss and masked accuracy of the full model, and masked accuracy at depth 0..L, over all ranks' batches.

    Collective: every rank passes its own batches, and gets the same numbers.
    """
    depths = model.config.num_hidden_layers + 1
    sums = torch.zeros(depths + 2, dtype=torch.float64, device=device)  # correct per depth, summed loss, targets
    was_training = model.training
    model.eval()
    for batch in batches:
        labels = batch.labels.to(device)
        targets = labels != -100
        logits = model.depth_logits(**model_inputs(batch, device))
        for depth, scores in enumerate(logits):
            sums[depth] += ((scores.argmax(-1) == labels) & targets).sum()
            if depth == depths - 1:
                sums[-2] += F.cross_entropy(scores.float().flatten(0, 1), labels.flatten(), reduction="sum")
        sums[-1] += targets.sum()
    model.train(was_training)
    dist.all_reduce(sums)
    *correct, loss, count = sums.tolist()
    metrics = {"validation/loss": loss / count, "validation/accuracy": correct[-1] / count}
    return metrics | {f"validation/accuracy_depth_{depth:02d}": c / count for depth, c in enumerate(correct)}
