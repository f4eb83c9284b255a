"""Measured latency and throughput of a classifier at some of its depths."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from modeling import AcnForSequenceClassification, autocast

from ..precision import resolved
from ..results import DepthSpeed, Speed

BATCHES = (1, 32)
WARMUP = 2
ROUNDS = {1: 15, 32: 5}


def median_seconds(cases: dict[Any, Callable[[], Any]], rounds: int, warmup: int = WARMUP) -> dict[Any, float]:
    """Median seconds of each case; the cases run in turn, so that a drifting machine strikes them alike."""
    seconds: dict[Any, list[float]] = {name: [] for name in cases}
    for turn in range(warmup + rounds):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def random_batch(model: PreTrainedModel, size: int, seq_length: int) -> dict[str, torch.Tensor]:
    """A batch of random tokens without padding: (size, seq_length)."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (size, seq_length), generator=generator)
    return {"input_ids": ids.to(model.device), "attention_mask": torch.ones_like(ids).to(model.device)}


@torch.no_grad()  # in inference mode autocast would cast the weights for every batch
def depth_seconds(
    models: Mapping[str, AcnForSequenceClassification],
    depths: Mapping[str, Sequence[int]],
    batch_size: int,
    seq_length: int,
    precision: str = "fp32",
) -> dict[tuple[str, int], float]:
    """Median seconds of each model, all on one device, cut at each of its depths, on a batch of random tokens.

    All of them run in turn, after a warm-up. What runs is the first layers and the head, as in the cut model. Weights
    are cast to `precision` before the clock starts, as in a program that answers many texts.
    """
    cases: dict[tuple[str, int], Callable[[], Any]] = {}
    for name, model in models.items():
        batch = random_batch(model, batch_size, seq_length)
        cases |= {(name, depth): partial(_forward, model, batch, depth) for depth in depths[name]}
    was_training = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    with autocast(precision, next(iter(models.values())).device):  # around all rounds: it keeps the cast weights
        medians = median_seconds(cases, ROUNDS[batch_size])
    for name, model in models.items():
        model.train(was_training[name])
    return medians


def _forward(model: AcnForSequenceClassification, batch: dict[str, torch.Tensor], depth: int) -> None:
    model(**batch, depth=depth)
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def measure_speed(
    model: AcnForSequenceClassification, depths: Sequence[int], seq_length: int, precision: str = "fp32"
) -> Speed:
    """Latency and throughput of `model` cut at each depth, for batches of 1 and 32 sequences of `seq_length` tokens.

    Medians of interleaved, warmed-up runs (15 and 5), see `depth_seconds`.
    """
    medians = {}
    for size in BATCHES:
        seconds = depth_seconds({"": model}, {"": depths}, size, seq_length, precision)
        medians[size] = {depth: seconds["", depth] for depth in depths}
    by_depth = {
        str(depth): DepthSpeed(medians[1][depth] * 1e3, BATCHES[1] / medians[BATCHES[1]][depth]) for depth in depths
    }
    return Speed(torch.get_num_threads(), by_depth, str(model.device), seq_length, resolved(precision))
