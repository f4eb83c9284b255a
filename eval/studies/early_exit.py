"""Early exit: an example leaves the encoder at the first depth at which the shared head is certain enough.

The head that was trained on the last read-out is asked at every depth. Uncertainty is the entropy of its prediction
divided by log(classes) (Xin et al. 2020, "DeeBERT", arXiv 2004.12993), or one minus the largest probability; an example
leaves when it is below the threshold, so the threshold 0 is the full model. Patience p counts the depths in a row that
answer as the one before them, and lets an example leave at the p-th (Zhou et al. 2020, "BERT loses patience", arXiv
2006.04152); L is more than there can be, and the full model. Layers run one after the other on the examples that are
still in.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from modeling import (
    AcnConfig,
    AcnForSequenceClassification,
    DepthSupervision,
    autocast,
    forward_flops,
    supervised_loss,
)

from ..depth import DepthSweep, predict
from ..progress import Progress
from ..tasks import Task, compute_metrics
from .base import Context, Curve, Kind, Point, Study
from .config import EarlyExitOptions, numbers
from .training import Loss, fit

FLOPS_LABEL = "mean forward FLOPs, share of the full model's"
TIME_LABEL = "measured time, share of the full model's"
COLUMNS = [
    "model",
    "criterion",
    "seed of the split",
    "threshold",
    "score",
    "full score",
    "mean depth",
    "FLOPs, share of full",
    "speed-up, measured",
]
NOTES = (
    "An example leaves at the first depth 1..L whose uncertainty is below the threshold (0: never), or that is, in a "
    "row, the threshold-th to answer as the one before it (patience; L: never). Curves: all validation examples, one "
    "point per threshold. Table: the validation examples are halved by the seed, the threshold is the most eager one "
    "that loses at most {0.tolerance} on one half, and the scores, depths and FLOPs are those "
    "of the other half. FLOPs are those of each example's own length, the head at every depth included. Time: medians "
    "of {0.latency_rounds} interleaved rounds in batches of {0.latency_batch}, against the ordinary forward pass."
)
# depth, its logits (B', C), and which rows of the batch they belong to (B',) -> which of them leave (B',)
Leave = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


def uncertainty(logits: torch.Tensor, criterion: str) -> torch.Tensor:
    """How unsure a prediction is: logits (..., C) -> (...) in [0, 1]."""
    log_p = logits.float().log_softmax(-1)
    if criterion == "confidence":
        return 1 - log_p.exp().amax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])
    return entropy.clamp(0, 1)


def leave_below(threshold: float, criterion: str) -> Leave:
    """Leave when the uncertainty is below the threshold; 0 never does."""
    return lambda depth, logits, rows: uncertainty(logits, criterion) < threshold


class Patience:
    """Leave when so many depths in a row, 1 or more, have answered as the one before them."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def __call__(self, depth: int, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        answers = logits.argmax(-1)
        if depth == 1:  # another batch
            self._answers, self._agreed = answers, torch.zeros_like(answers)
            return torch.zeros_like(rows, dtype=torch.bool)
        self._agreed[rows] = (self._agreed[rows] + 1) * (self._answers[rows] == answers)
        self._answers[rows] = answers
        return self._agreed[rows] >= self.patience


def make_leave(threshold: float, criterion: str) -> Leave:
    """The rule of a criterion at a threshold."""
    return Patience(int(threshold)) if criterion == "patience" else leave_below(threshold, criterion)


def thresholds_of(criterion: str, uncertainties: Sequence[float], layers: int) -> list[float]:
    """What a criterion is tried at, from the one at which nothing leaves early on to the most eager one."""
    if criterion == "patience":
        return [float(patience) for patience in range(layers, 0, -1)] or [0.0]
    return sorted({0.0, *uncertainties})


@torch.no_grad()
def exit_early(
    model: AcnForSequenceClassification, inputs: dict[str, torch.Tensor], leave: Leave
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a batch layer by layer; rows that leave are taken out of it and cost nothing from there on.

    Nothing leaves at depth 0, where the read-out at [CLS] is the same for every text.

    Args:
        inputs: what the encoder takes, B rows.

    Returns:
        (B, C) logits in float32, each row those of the depth it stopped at, and (B,) these depths.
    """
    batch, last = len(inputs["input_ids"]), model.config.num_hidden_layers
    rows = torch.arange(batch, device=model.device)
    depths = torch.full((batch,), last, device=model.device)
    read_outs = model.base_model.read_outs(**inputs)
    read_out = next(read_outs)
    if not last:
        return model.head_logits(read_out).float(), depths
    logits = torch.empty(batch, model.config.num_labels, device=model.device)
    kept: torch.Tensor | None = None
    for depth in range(1, last + 1):
        read_out = read_outs.send(kept)
        here = model.head_logits(read_out).float()
        out = torch.ones_like(rows, dtype=torch.bool) if depth == last else leave(depth, here, rows)
        logits[rows[out]], depths[rows[out]] = here[out], depth
        kept = (~out).nonzero().flatten()
        if not len(kept):
            break
        if len(kept) == len(rows):
            kept = None  # nothing to copy
        else:
            rows = rows[kept]
    read_outs.close()
    return logits, depths


def exit_depths(logits: np.ndarray, threshold: float, criterion: str) -> np.ndarray:
    """The depth 1..L at which each example leaves, from the logits (L+1, N, C) of a sweep: (N,)."""
    last = len(logits) - 1
    if not last:
        return np.zeros(logits.shape[1], dtype=int)
    rule = make_leave(threshold, criterion)
    rows = torch.arange(logits.shape[1])
    leaves = np.stack([rule(depth, torch.from_numpy(logits[depth]), rows).numpy() for depth in range(1, last + 1)])
    leaves[-1] = True
    return leaves.argmax(0) + 1


def exit_flops(config: AcnConfig, lengths: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """Forward FLOPs (N,) of examples that stop at `depths` (N,), the head asked at each of them, at their own
    lengths."""
    head = forward_flops(config, 1, 0, num_labels=config.num_labels)
    body = [forward_flops(config, int(n), int(k)) for n, k in zip(lengths, depths, strict=True)]
    return np.array(body) + head * np.maximum(depths, 1)


def weighted_depth_loss(model: AcnForSequenceClassification, inputs: dict[str, Any]) -> torch.Tensor:
    """A loss at every exit, as depth supervision `deep` weighs them."""
    weights = DepthSupervision("deep").weights(model.config.num_hidden_layers, seed=0, step=0)
    read_outs = model.acn.read_outs(**{name: value for name, value in inputs.items() if name != "labels"})

    def answer(read_out: torch.Tensor) -> SequenceClassifierOutput:
        logits = model.head_logits(read_out)
        return SequenceClassifierOutput(loss=torch.nn.functional.cross_entropy(logits, inputs["labels"]), logits=logits)

    loss: torch.Tensor = supervised_loss(weights, read_outs, answer).loss
    return loss


@dataclass(frozen=True)
class Measured:
    """One way of leaving early on one set of examples."""

    score: float
    flops: float
    """Mean forward FLOPs per example, as a share of the full model's without exits."""
    depth: float
    """Mean depth."""


@dataclass(frozen=True)
class Exits:
    """A model's predictions at every depth, from which every threshold can be evaluated."""

    task: Task
    config: AcnConfig
    sweep: DepthSweep
    labels: np.ndarray
    lengths: np.ndarray

    def at(self, threshold: float, criterion: str, examples: np.ndarray) -> Measured:
        """Leaving at `threshold`, on the examples with these indices."""
        depths = exit_depths(self.sweep.logits, threshold, criterion)[examples]
        predictions = predict(self.task, self.sweep.logits)[depths, examples]
        score = compute_metrics(self.task, predictions, self.labels[examples])[self.task.metric]
        flops = exit_flops(self.config, self.lengths[examples], depths)
        return Measured(score, float(flops.sum()) / self._flops(self.config.num_hidden_layers, examples), depths.mean())

    def cut(self, depth: int) -> Measured:
        """Every example stops at `depth`, where the head is asked once: the cut model."""
        everything = np.arange(len(self.labels))
        share = self._flops(depth, everything) / self._flops(self.config.num_hidden_layers, everything)
        return Measured(self.sweep.metrics[depth][self.task.metric], share, depth)

    def pick(self, thresholds: list[float], criterion: str, tolerance: float, examples: np.ndarray) -> float:
        """The most eager threshold that loses no more than `tolerance` against the full model, on these examples.

        Args:
            thresholds: see `thresholds_of`.
        """
        full = self.at(thresholds[0], criterion, examples).score
        return [t for t in thresholds if self.at(t, criterion, examples).score >= full - tolerance - 1e-9][-1]

    def _flops(self, depth: int, examples: np.ndarray) -> int:
        labels = self.config.num_labels
        return sum(forward_flops(self.config, int(n), depth, num_labels=labels) for n in self.lengths[examples])


def _exits(context: Context, model: AcnForSequenceClassification, data: datasets.Dataset) -> Exits:
    lengths = np.array([len(ids) for ids in data["input_ids"]])
    sweep = context.sweep(model, context.only.task, data)
    return Exits(context.only.task, model.config, sweep, np.array(data["labels"]), lengths)


def measure_time(
    model: AcnForSequenceClassification,
    batches: list[dict[str, torch.Tensor]],
    leaves: dict[float, Leave],
    rounds: int,
    precision: str,
) -> dict[float, float]:
    """The time that all batches take by the key of `leaves`, as a share of the ordinary forward pass without exits.

    All cases run in turn, `rounds` times after a warm-up, and the median of the shares within a round counts: a
    machine's speed drifts.
    """

    @torch.no_grad()
    def ordinary(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**inputs).logits

    runs: dict[float | None, Callable[[dict[str, torch.Tensor]], torch.Tensor]] = {None: ordinary}
    for threshold, leave in leaves.items():
        runs[threshold] = lambda inputs, leave=leave: exit_early(model, inputs, leave)[0]  # type: ignore[misc]
    seconds: dict[float | None, list[float]] = {case: [] for case in runs}
    with autocast(precision, model.device):  # around all rounds: it keeps the cast weights
        for turn in range(rounds + 1):
            for case, answer in runs.items():
                started = time.perf_counter()
                for inputs in batches:
                    answer(inputs).cpu()  # waits for the device
                if turn:
                    seconds[case].append(time.perf_counter() - started)
    shares = {case: [own / whole for own, whole in zip(seconds[case], seconds[None], strict=True)] for case in leaves}
    return {case: statistics.median(values) for case, values in shares.items()}


def _variants(context: Context, train: bool) -> Iterator[tuple[str, int | None, AcnForSequenceClassification]]:
    """(name, seed of its training, model): the model as it is, and trained on in two ways."""
    yield "as fine-tuned", None, context.load_finetuned()
    ways: dict[str, Loss | None] = {"loss at every depth": weighted_depth_loss, "ordinary loss": None}
    for way, loss in ways.items() if train else ():
        for seed in context.options.seed_list:
            model = context.load_finetuned()
            name = f"early_exit/{way.replace(' ', '_')}/seed_{seed}"
            fit(context, model, context.train_samples(context.only, seed), seed, name, loss=loss)
            yield way, seed, model


class _Collector:
    """Points by curve and position along it; several seeds of one position become one point."""

    def __init__(self, y_label: str) -> None:
        self.y_label = y_label
        self.found: dict[tuple[str, str], dict[float, list[tuple[float, float]]]] = {}

    def add(self, label: str, x_label: str, position: float, x: float, y: float) -> None:
        """One seed's (x, y) at a threshold or depth."""
        self.found.setdefault((label, x_label), {}).setdefault(position, []).append((x, y))

    def curves(self, reference: float) -> list[Curve]:
        """x is the mean over the seeds, y keeps each value."""
        curves = []
        for (label, x_label), positions in self.found.items():
            points = [
                Point(statistics.fmean(x for x, _ in seeds), [y for _, y in seeds]) for seeds in positions.values()
            ]
            curves.append(Curve(label, x_label, self.y_label, points, reference))
        return curves


def _halves(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of 0..size-1 at random: one to pick the threshold on, one to report."""
    order = np.random.default_rng(seed).permutation(size)
    return np.sort(order[: size // 2]), np.sort(order[size // 2 :])


def run(context: Context, options: EarlyExitOptions) -> Study:
    """Score against FLOPs and time of early exit, and the threshold that keeps the score."""
    task, seeds = context.only.task, context.options.seed_list
    data = context.encode(task, context.only.validation)
    collector, rows, reference = _Collector(f"{task.name} {task.metric}"), [], math.nan
    progress = Progress("early_exit", (1 + 2 * len(seeds) * options.train) * (1 + len(options.names)))
    everything = np.arange(len(data))
    for variant, trained, model in _variants(context, options.train):
        exits = _exits(context, model, data)
        progress.step(f"{variant}, every depth")
        for depth in range(min(1, model.config.num_hidden_layers), model.config.num_hidden_layers + 1):
            cut = exits.cut(depth)
            collector.add(f"{variant}, cut at a depth", FLOPS_LABEL, depth, cut.flops, cut.score)
        if trained is None:
            reference = cut.score
        timed = data.remove_columns("labels").select(range(min(len(data), options.latency_samples)))
        batches = context.batches(model, timed, options.latency_batch)
        for criterion in options.names:
            thresholds = thresholds_of(criterion, numbers(options.thresholds), model.config.num_hidden_layers)
            cases = {threshold: make_leave(threshold, criterion) for threshold in thresholds}
            took = measure_time(model, batches, cases, options.latency_rounds, context.precision)
            for threshold in thresholds:
                at = exits.at(threshold, criterion, everything)
                label = f"{variant}, {criterion}"
                collector.add(label, FLOPS_LABEL, threshold, at.flops, at.score)
                collector.add(label, TIME_LABEL, threshold, took[threshold], at.score)
            for seed in seeds if trained is None else [trained]:
                pick, report = _halves(len(data), seed)
                threshold = exits.pick(thresholds, criterion, options.tolerance, pick)
                early, full = (exits.at(at, criterion, report) for at in (threshold, thresholds[0]))
                row = [threshold, early.score, full.score, early.depth, early.flops, 1 / took[threshold]]
                rows.append([variant, criterion, seed, *map(float, row)])
            progress.step(f"{variant}, {criterion}")
    return Study(collector.curves(reference), COLUMNS, rows, NOTES.format(options), seeds)


KIND = Kind(run, "fine-tuned", classes=True)
