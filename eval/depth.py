"""The depth sweep: one forward pass per batch scores every depth 0..L, and the cut depth is read off the scores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import torch

from modeling import AcnForSequenceClassification, autocast, forward_flops

from . import ranks
from .errors import EvalError
from .tasks import Task, compute_metrics

Collate = Callable[[list[dict]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class DepthSweep:
    """What a model says at each depth about each example of a data set, in the order of that data set."""

    logits: np.ndarray
    """(L+1, N, num_labels) float32."""
    predictions: np.ndarray
    """(L+1, N): class ids, or floats for regression."""
    metrics: list[dict[str, float]]
    """The task's metrics at depth 0, 1, ..., L."""

    def scores(self, metric: str) -> list[float]:
        """One metric at every depth."""
        return [by_name[metric] for by_name in self.metrics]


def predict(task: Task, logits: np.ndarray) -> np.ndarray:
    """(..., num_labels) -> (...): the class with the largest logit, or the value itself for regression."""
    return logits[..., 0] if task.is_regression else logits.argmax(-1)


@torch.no_grad()
def sweep_logits(
    model: AcnForSequenceClassification,
    dataset: datasets.Dataset,
    collate: Collate,
    batch_size: int = 64,
    precision: str = "fp32",
) -> np.ndarray:
    """The logits of every depth for every example: (L+1, N, num_labels) float32, from one forward pass per batch.

    Args:
        dataset: tokenized, with `input_ids`, `labels` and whatever else `collate` turns into the model's inputs.
        collate: pads a list of rows into a batch of tensors.
        precision: of the matrix products, resolved.
    """
    rows = len(dataset)
    # similar lengths together: little padding; stable, so that the batches and their rounding are always the same
    order = np.argsort([-len(ids) for ids in dataset["input_ids"]], kind="stable")
    logits = np.empty((model.config.num_hidden_layers + 1, rows, model.config.num_labels), dtype=np.float32)
    was_training = model.training
    model.eval()
    try:
        with autocast(precision, model.device):  # around all batches: weights are cast once
            for start in range(0, rows, batch_size):
                index = order[start : start + batch_size]
                batch = collate([dataset[int(row)] for row in index])
                inputs = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
                for depth, depth_logits in enumerate(model.depth_logits(**inputs)):
                    logits[depth, index] = depth_logits.float().cpu().numpy()
    finally:
        model.train(was_training)
    return logits


def shared_logits(
    model: AcnForSequenceClassification,
    dataset: datasets.Dataset,
    collate: Collate,
    batch_size: int = 64,
    precision: str = "fp32",
) -> np.ndarray:
    """[`sweep_logits`] as the work of all ranks, which must all call it: each example is computed once, by one rank.

    Returns the whole on every rank.
    """
    rank, world = ranks.rank(), ranks.world_size()
    if world == 1:
        return sweep_logits(model, dataset, collate, batch_size, precision)
    own = sweep_logits(model, dataset.select(range(rank, len(dataset), world)), collate, batch_size, precision)
    logits = np.empty((len(own), len(dataset), own.shape[-1]), dtype=np.float32)
    for other, part in enumerate(ranks.gather(own)):
        logits[:, other::world] = part
    return logits


def depth_sweep(
    model: AcnForSequenceClassification,
    dataset: datasets.Dataset,
    task: Task,
    collate: Collate,
    batch_size: int = 64,
    shared: bool = False,
    precision: str = "fp32",
) -> DepthSweep:
    """Score every depth 0..L of `model` on a tokenized data set with `labels`; see [`sweep_logits`].

    Args:
        shared: the ranks of a distributed run divide the examples ([`shared_logits`]).
    """
    logits = (shared_logits if shared else sweep_logits)(model, dataset, collate, batch_size, precision)
    predictions = predict(task, logits)
    labels = np.asarray(dataset["labels"])
    return DepthSweep(logits, predictions, [compute_metrics(task, at_depth, labels) for at_depth in predictions])


def cut_depth(depth_scores: Sequence[float], full_score: float, tolerance: float) -> int:
    """The smallest depth whose score is at least `full_score - tolerance`.

    A score that falls short by less than 1e-9 (rounding of decimal tolerances) counts as reaching it.

    Raises:
        EvalError: `tolerance` is negative or no number, or no depth is good enough.
    """
    if not tolerance >= 0:
        raise EvalError(f"tolerance={tolerance} must be 0 or more: the score that a shallower model may lose")
    for depth, score in enumerate(depth_scores):
        if score >= full_score - tolerance - 1e-9:
            return depth
    raise EvalError(f"no depth reaches {full_score} - {tolerance}: the scores are {list(depth_scores)}")


def flops_by_depth(model: AcnForSequenceClassification, seq_length: int) -> list[int]:
    """Forward FLOPs of one sequence of `seq_length` tokens, classifier included, at depth 0..L."""
    config = model.config
    return [
        forward_flops(config, seq_length, depth, num_labels=config.num_labels)
        for depth in range(config.num_hidden_layers + 1)
    ]


def majority_score(task: Task, labels: np.ndarray) -> float:
    """The primary metric of the best constant answer: for accuracy the commonest label; any number, for regression."""
    labels = np.asarray(labels)
    answers = [math.fsum(labels) / len(labels)] if task.is_regression else np.unique(labels)
    return max(compute_metrics(task, np.full(len(labels), answer), labels)[task.metric] for answer in answers)
