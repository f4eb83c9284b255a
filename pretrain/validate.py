"""Held-out loss, masked accuracy and match with a teacher at every depth, from one forward pass of the encoder."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F

from data_pipeline import duration
from data_pipeline.stream import MaskedBatch, validation_batch_count, validation_batches
from modeling import AcnForMaskedLM
from modeling.modeling_acn import gather_positions

from .config import PretrainConfig
from .distil import Lessons, Student
from .optim import Ema

CUT_TOLERANCE = 0.01
"""Accuracy that the best cut may lose against the full model."""


_SPOKEN_SECONDS = 10.0


def validate(
    config: PretrainConfig,
    model: Any,
    average: Ema[AcnForMaskedLM] | None,
    lessons: Lessons,
    blocks: int,
    say: Callable[[str], None],
) -> dict[str, float]:
    """What every depth scores on the held-out blocks; of the averaged weights too. A collective.

    Args:
        model: the engine's module.
        blocks, say: see `held_out_batches`.
    """
    metrics: dict[str, float] = {}
    for prefix, one in {"validation": model, "validation_ema": average and average.model}.items():
        if one is not None:
            metrics |= validate_depths(one, held_out_batches(config, blocks, say), lessons, prefix, student=model)
    return metrics


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
    model: AcnForMaskedLM,
    batches: Iterable[MaskedBatch],
    lessons: Lessons,
    prefix: str = "validation",
    student: Student | None = None,
) -> dict[str, float]:
    """What every depth 0..L scores over all ranks' batches, from one forward pass of the encoder.

    Collective: every rank passes its own batches, as many as the others (ZeRO 3 gathers weights for each), and gets
    the same numbers. At ZeRO 3 the model's own hooks gather and release the weights layer by layer.

    Args:
        lessons: what the model reads of a batch, as in training.
        student: whose projection the match with a teacher goes through, where there is one.

    Returns:
        Where masked tokens are predicted, `validation/loss` and `validation/accuracy` of the full model,
        `validation/loss_depth_XX` and `validation/accuracy_depth_XX`, `validation/cut_depth` (see `best_cut`) and
        `validation/cut_accuracy` there. With a teacher, `validation/match` of the full model and
        `validation/match_depth_XX`. With another `prefix` for "validation".
    """
    depths = model.config.num_hidden_layers + 1
    # hits and losses of masked tokens, errors of the match; what each is divided by in the last column
    sums = torch.zeros(3, depths + 1, dtype=torch.float64, device=lessons.device)
    was_training = model.training
    model.eval()
    for batch in batches:
        lesson = lessons.read(batch)
        for depth, read_out in enumerate(model.acn.read_outs(**lesson.inputs)):
            if lesson.labels is not None and lesson.masked_positions is not None:
                scores = model.head_logits(gather_positions(read_out, lesson.masked_positions))
                sums[:2, depth] += _hits_and_loss(scores.float().flatten(0, 1), lesson.labels.flatten())
            if lesson.states is not None and student is not None:
                errors = student.errors(read_out, lesson.states)
                sums[2, depth] += (errors if lesson.real is None else errors[lesson.real]).sum()
        targets, tokens = lesson.sizes()
        sums[:, -1] += torch.stack([targets, targets, tokens])
    model.train(was_training)
    dist.all_reduce(sums)
    accuracies, losses, errors_by_depth = (sums[:, :-1] / sums[:, -1:]).tolist()
    metrics = {}
    if lessons.config.masked:
        cut = best_cut(accuracies)
        metrics = {
            f"{prefix}/loss": losses[-1],
            f"{prefix}/accuracy": accuracies[-1],
            f"{prefix}/cut_depth": float(cut),
            f"{prefix}/cut_accuracy": accuracies[cut],
            **_by_depth(f"{prefix}/accuracy", accuracies),
            **_by_depth(f"{prefix}/loss", losses),
        }
    if lessons.teacher is not None:
        metrics |= {f"{prefix}/match": errors_by_depth[-1], **_by_depth(f"{prefix}/match", errors_by_depth)}
    return metrics


def _hits_and_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(2,) how many targets (N,) have the best score of their row of (N, V), and the sum of the losses."""
    hits = (scores.argmax(-1) == labels).sum()  # -100, no target, is never the best score
    return torch.stack([hits, F.cross_entropy(scores, labels, reduction="sum")])


def _by_depth(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_depth_{depth:02d}": value for depth, value in enumerate(values)}


def best_cut(accuracies: Sequence[float], tolerance: float = CUT_TOLERANCE) -> int:
    """The smallest depth whose accuracy is within `tolerance` of the full model's, the last of `accuracies`."""
    return next(depth for depth, value in enumerate(accuracies) if value >= accuracies[-1] - tolerance - 1e-9)
