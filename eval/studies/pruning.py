"""Pruning: how many of the encoder's weights a fine-tuned model needs.

Global magnitude pruning after fine-tuning (Han et al. 2015, arXiv 1506.02626), movement pruning during fine-tuning
(Sanh, Wolf and Rush 2020, arXiv 2005.07683), and structured removal of attention heads and feed-forward neurons
(structured.py). What is pruned are the weight matrices of the encoder's layers; embeddings, norms, biases and the head
stay.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import datasets
import torch
from torch import nn
from torch.nn.utils import prune
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modeling import AcnForSequenceClassification

from ..errors import EvalError
from ..progress import Progress
from .base import Context, Curve, Kind, Point, Study
from .config import PruningOptions, numbers
from .structured import gradient_importance, magnitude_importance, shrink
from .training import fit, is_dropped

NOTES = (
    "Weights are those of the matrices of the encoder's layers; embeddings, norms, biases and head are not pruned. "
    "Magnitude: the smallest of all matrices together, nothing trained afterwards. Movement: fine-tuned further on the "
    "training examples, a point per epoch, score of a weight -sum w dL/dw (Sanh et al. 2020). Heads and neurons: the "
    "same share from every layer, at least one stays, nothing trained afterwards; the matrices shrink."
)


def prunable(model: AcnForSequenceClassification) -> list[nn.Linear]:
    """The matrices of the encoder's layers: attention and feed-forward projections."""
    return [module for module in model.base_model.layers.modules() if isinstance(module, nn.Linear)]


def remaining(model: AcnForSequenceClassification) -> int:
    """How many weights of these matrices are not zero."""
    return sum(int(module.weight.count_nonzero()) for module in prunable(model))


def prune_by_magnitude(model: AcnForSequenceClassification, sparsity: float) -> None:
    """Set the smallest weights of the encoder's matrices to zero, in place: a share of all of them taken together."""
    weights = [(module, "weight") for module in prunable(model)]
    if not weights:
        return
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=float(sparsity))
    for module, name in weights:
        prune.remove(module, name)  # make it permanent


class MovementPruning(TrainerCallback):
    """Removes, while a model is fine-tuned, the weights that move towards zero.

    The score of a weight is S = -sum_t w_t dL/dw_t (Sanh et al. 2020, eq. 4 up to the learning rate): it grows while
    the weight moves away from zero. Of the weights of all matrices taken together the lowest scores go, in `stages`
    equal ratios in the second half of each epoch, so that `rate` of those that an epoch starts with are gone when it
    ends. What is gone stays so.
    """

    def __init__(self, modules: Iterable[nn.Linear], rate: float, steps_per_epoch: int, stages: int = 10) -> None:
        self.weights = [module.weight for module in modules]
        self.scores = [torch.zeros_like(weight) for weight in self.weights]
        self.masks = [torch.ones_like(weight, dtype=torch.bool) for weight in self.weights]
        self.total = sum(weight.numel() for weight in self.weights)
        self.rate, self.steps_per_epoch, self.stages = rate, steps_per_epoch, stages
        self.pruned = 0.0

    def accumulate(self) -> None:
        """Add -w dL/dw of the gradients at hand to the scores."""
        if is_dropped(self.weights):
            return
        for score, weight in zip(self.scores, self.weights, strict=True):
            assert weight.grad is not None
            score.sub_(weight.detach() * weight.grad)

    @torch.no_grad()
    def apply(self) -> None:
        """Zero what is masked; an optimizer with momentum would move it."""
        for mask, weight in zip(self.masks, self.weights, strict=True):
            weight.mul_(mask)

    @torch.no_grad()
    def prune_to(self, share: float) -> None:
        """Keep `share` of all weights: those with the highest scores among the ones still there."""
        keep = round(share * self.total)
        flat = torch.cat(
            [s.masked_fill(~m, -torch.inf).flatten() for s, m in zip(self.scores, self.masks, strict=True)]
        )
        mask = torch.zeros_like(flat, dtype=torch.bool)
        mask[flat.topk(keep, sorted=False).indices] = True
        for old, new in zip(self.masks, mask.split([w.numel() for w in self.weights]), strict=True):
            old &= new.view_as(old)
        self.apply()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.accumulate()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.apply()
        epochs = self.epochs_of_pruning(state.global_step + 1)  # the Trainer counts the step after this
        if epochs > self.pruned:
            self.prune_to((1 - self.rate) ** epochs)
            self.pruned = epochs

    def epochs_of_pruning(self, steps: int) -> float:
        """Epochs' worth of pruning due after so many steps: none in the first half of an epoch, then stage by stage."""
        epoch, step = divmod(steps, self.steps_per_epoch)
        within = max(0.0, 2 * step / self.steps_per_epoch - 1)
        return epoch + int(within * self.stages + 1e-9) / self.stages


class ScoreEachEpoch(TrainerCallback):
    """Calls `measure` at the end of every epoch and keeps what it says."""

    def __init__(self, measure: Callable[[], tuple[int, float]]) -> None:
        self.measure = measure
        self.found: list[tuple[int, float]] = []

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.found.append(self.measure())


@dataclass(frozen=True)
class _Pruner:
    """Prunes the model at one depth by any method; every method gives (remaining weights, score) pairs."""

    context: Context
    options: PruningOptions
    depth: int
    validation: datasets.Dataset

    def load(self) -> AcnForSequenceClassification:
        """A fresh copy."""
        model = self.context.load_finetuned()
        model.truncate(self.depth)
        return model

    def measure(self, model: AcnForSequenceClassification) -> tuple[int, float]:
        """Weights that are not zero, and the score."""
        training = model.training
        found = remaining(model), self.context.score(model.eval(), self.context.only.task, self.validation)
        model.train(training)
        return found

    def magnitude(self) -> list[tuple[int, float]]:
        """One pair per sparsity, the whole model first."""
        found = []
        for sparsity in sorted({0.0, *numbers(self.options.sparsities)}):
            model = self.load()
            prune_by_magnitude(model, sparsity)
            found.append(self.measure(model))
        return found

    def movement(self, rate: float, seed: int) -> list[tuple[int, float]]:
        """One pair per epoch, the model before it first."""
        model, options = self.load(), self.context.options
        data = self.context.train_samples(self.context.only, seed)
        steps = -(-len(data) // options.batch_size)
        watcher = ScoreEachEpoch(lambda: self.measure(model))
        name = f"pruning/movement_{rate:g}/depth_{self.depth}/seed_{seed}"
        before = self.measure(model)
        callbacks = [MovementPruning(prunable(model), rate, steps), watcher]
        fit(self.context, model, data, seed, name, callbacks, epochs=self.options.movement_epochs)
        return [before, *watcher.found]

    def structured(self, seed: int) -> list[tuple[int, float]]:
        """One pair per share of heads and neurons removed from every layer, the whole model first."""
        found, whole = [], self.load()
        if self.options.importance == "gradient":
            data = self.context.train_samples(self.context.only, seed)
            batches = self.context.batches(whole, data, self.context.options.batch_size)
            importance = gradient_importance(whole, batches, self.context.gradient_precision)
        else:
            importance = magnitude_importance(whole)
        for share in sorted({0.0, *numbers(self.options.sparsities)}):
            model = self.load()
            shrink(model, share, importance)
            found.append(self.measure(model))
        return found

    def plan(self) -> dict[str, list[Callable[[], list[tuple[int, float]]]]]:
        """What there is to run for each curve, once per seed where something is random."""
        seeds, plan = self.context.options.seed_list, {}
        for method in self.options.names:
            if method == "magnitude":
                plan["magnitude"] = [self.magnitude]
            elif method == "movement":
                for rate in numbers(self.options.movement_rates):
                    plan[f"movement, {rate:.0%} an epoch"] = [partial(self.movement, rate, seed) for seed in seeds]
            else:
                drawn = seeds if self.options.importance == "gradient" else seeds[:1]
                plan[f"heads and neurons by {self.options.importance}"] = [partial(self.structured, s) for s in drawn]
        return plan


def _depths(context: Context, options: PruningOptions) -> list[int]:
    """The whole model, and the cut one where it has layers and lacks some.

    Raises:
        EvalError: `depth` is outside the model.
    """
    assert context.results is not None
    layers = context.config.num_hidden_layers
    cut = context.results.cut_depth if options.depth is None else options.depth
    if cut > layers:
        raise EvalError(f"pruning.depth={cut}: the model has {layers} layers: give one of these")
    return [layers, cut] if 0 < cut < layers else [layers]


def run(context: Context, options: PruningOptions) -> Study:
    """Score against remaining weights of every method, for the whole and the cut model."""
    task = context.only.task
    validation = context.encode(task, context.only.validation)
    pruners = [_Pruner(context, options, depth, validation) for depth in _depths(context, options)]
    plans = {(pruner.depth, label): runs for pruner in pruners for label, runs in pruner.plan().items()}
    progress = Progress("pruning", sum(map(len, plans.values())))
    whole = remaining(pruners[0].load())
    curves, rows = [], []
    for (depth, label), runs in plans.items():
        found = []
        for run in runs:
            found.append(run())
            progress.step(f"{label}, {depth} layers")
        points = [Point(seeds[0][0] / whole, [score for _, score in seeds]) for seeds in zip(*found, strict=True)]
        name = f"{label}, {depth} layer{'s' * (depth != 1)}"
        full = fmean(points[0].values)
        curves.append(
            Curve(name, "remaining weights, share of the whole encoder's", f"{task.name} {task.metric}", points, full)
        )
        rows += [
            [label, depth, at[0][0], at[0][0] / whole, fmean(p.values)]
            for at, p in zip(zip(*found, strict=True), points, strict=True)
        ]
    return Study(
        curves, ["method", "layers", "remaining weights", "share", task.metric], rows, NOTES, context.options.seed_list
    )


KIND = Kind(run, "fine-tuned")
