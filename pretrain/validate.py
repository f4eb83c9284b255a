"""Held-out loss and masked accuracy at every depth, from one forward pass of the encoder."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch.nn import functional as F

from data_pipeline import duration
from data_pipeline.stream import MaskedBatch, validation_batch_count, validation_batches
from modeling import AcnForMaskedLM

from .config import PretrainConfig
from .step import model_inputs

CUT_TOLERANCE = 0.01
"""Accuracy that the best cut may lose against the full model."""


_SPOKEN_SECONDS = 10.0


def held_out_batches(config: PretrainConfig, blocks: int, say: Callable[[str], None]) -> Iterator[MaskedBatch]:
    """This rank's batches of the validation split, the same in every validation.

    Args:
        blocks: what the split has.
        say: hears how far a validation is that takes long.
    """
    batches = validation_batches(
        config.data,
        config.masking,
        batch_size=config.micro_batch_size,
        max_blocks=config.validation.blocks,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        remote=config.stream.remote,
    )
    used = min(blocks, config.validation.blocks)
    return spoken(batches, validation_batch_count(used, config.micro_batch_size, dist.get_world_size()), say)


def spoken(
    batches: Iterable[MaskedBatch],
    total: int,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[MaskedBatch]:
    """The batches, and a line about every ten seconds of how many are done and how long the rest will take."""
    began = said = clock()
    for done, batch in enumerate(batches):
        now = clock()
        if done and now - said >= _SPOKEN_SECONDS:
            said = now
            say(f"validating: {done:,} of {total:,} batches, {duration((now - began) / done * (total - done))} left")
        yield batch


@torch.no_grad()
def validate_depths(
    model: AcnForMaskedLM, batches: Iterable[MaskedBatch], device: torch.device, prefix: str = "validation"
) -> dict[str, float]:
    """Loss and masked accuracy at depth 0..L over all ranks' batches, those of the full model, and the best cut.

    Collective: every rank passes its own batches, as many as the others (ZeRO 3 gathers weights for each), and gets
    the same numbers. At ZeRO 3 the model's own hooks gather and release the weights layer by layer.

    Returns:
        `validation/loss` and `validation/accuracy` of the full model, `validation/loss_depth_XX` and
        `validation/accuracy_depth_XX`, `validation/cut_depth` (see `best_cut`) and `validation/cut_accuracy` there;
        with another `prefix` for "validation".
    """
    depths = model.config.num_hidden_layers + 1
    correct = torch.zeros(depths, dtype=torch.float64, device=device)
    losses, count = torch.zeros_like(correct), torch.zeros_like(correct[:1])
    was_training = model.training
    model.eval()
    for batch in batches:
        labels = batch.labels.to(device).flatten()
        for depth, scores in enumerate(model.depth_logits(**model_inputs(batch, device))):
            scores = scores.float().flatten(0, 1)
            correct[depth] += (scores.argmax(-1) == labels).sum()  # -100, no target, is never the best score
            losses[depth] += F.cross_entropy(scores, labels, reduction="sum")
        count += (labels != -100).sum()
    model.train(was_training)
    sums = torch.cat([correct, losses, count])
    dist.all_reduce(sums)
    means = (sums[:-1] / sums[-1]).tolist()
    accuracies, mean_losses = means[:depths], means[depths:]
    cut = best_cut(accuracies)
    metrics = {
        f"{prefix}/loss": mean_losses[-1],
        f"{prefix}/accuracy": accuracies[-1],
        f"{prefix}/cut_depth": float(cut),
        f"{prefix}/cut_accuracy": accuracies[cut],
    }
    metrics |= {f"{prefix}/accuracy_depth_{depth:02d}": value for depth, value in enumerate(accuracies)}
    return metrics | {f"{prefix}/loss_depth_{depth:02d}": value for depth, value in enumerate(mean_losses)}


def best_cut(accuracies: Sequence[float], tolerance: float = CUT_TOLERANCE) -> int:
    """The smallest depth whose accuracy is within `tolerance` of the full model's, the last of `accuracies`."""
    return next(depth for depth, value in enumerate(accuracies) if value >= accuracies[-1] - tolerance - 1e-9)
