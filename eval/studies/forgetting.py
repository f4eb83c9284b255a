"""Forgetting: tasks learned one after the other with one encoder and a head for each.

R[i, j] is the score on task j after training on task i (1..T). Then

    average accuracy    A = 1/T sum_j R[T, j]
    average forgetting  F = 1/(T-1) sum_{j<T} ( max_{i<T} R[i, j] - R[T, j] )        (Chaudhry et al. 2018, arXiv
    1801.10112)

with i >= j in the maximum: a task is not forgotten before it was learned. Methods: naive (nothing is done about it),
Synaptic Intelligence and Elastic Weight Consolidation, in consolidation.py.
"""

from collections.abc import Sequence
from statistics import fmean

import datasets
import torch

from modeling import AcnForSequenceClassification

from ..progress import Progress
from .base import Context, Curve, Kind, Point, Study
from .config import ForgettingOptions
from .consolidation import Consolidation, ElasticWeights, SynapticIntelligence
from .training import fit


def average_accuracy(scores: Sequence[Sequence[float]]) -> float:
    """A of the scores R: row i has task 1..i+1 after training on task i+1."""
    return fmean(scores[-1])


def average_forgetting(scores: Sequence[Sequence[float]]) -> float:
    """F of the scores R, as above; 0 for a single task."""
    last = len(scores) - 1
    if not last:
        return 0.0
    return fmean(max(scores[i][j] for i in range(j, last)) - scores[last][j] for j in range(last))


def _models(context: Context, seed: int) -> list[AcnForSequenceClassification]:
    """A classifier per task, all with one encoder."""
    torch.manual_seed(seed)
    models = [context.load_for_task(data.task) for data in context.data]
    for model in models[1:]:
        model.acn = models[0].acn
    return models


def _method(name: str, model: AcnForSequenceClassification, options: ForgettingOptions) -> Consolidation | None:
    weights = list(model.acn.parameters())
    if name == "si":
        return SynapticIntelligence(weights, options.si_strength, options.si_damping)
    if name == "ewc":
        return ElasticWeights(weights, options.ewc_strength)
    return None


def learn_in_sequence(
    context: Context,
    options: ForgettingOptions,
    name: str,
    seed: int,
    validations: list[datasets.Dataset],
    progress: Progress,
) -> list[list[float]]:
    """R as rows: after each task, the scores on it and on all before it."""
    models = _models(context, seed)
    method = _method(name, models[0], options)
    scores: list[list[float]] = []
    for i, (model, data) in enumerate(zip(models, context.data, strict=True)):
        train = context.train_samples(data, seed)
        label = f"forgetting/{name}/{data.task.name}/seed_{seed}"
        fit(context, model, train, seed, label, callbacks=[method] if method else [])
        if isinstance(method, SynapticIntelligence):
            method.consolidate()
        elif isinstance(method, ElasticWeights):
            sample = train.shuffle(seed=seed).select(range(min(options.ewc_samples, len(train))))
            method.consolidate(model, context.batches(model, sample, 1), seed, context.gradient_precision)
        past = zip(models[: i + 1], context.data, validations, strict=False)
        scores.append([context.score(m, d.task, v) for m, d, v in past])
        progress.step(f"{name}, {data.task.name}")
    return scores


def run(context: Context, options: ForgettingOptions) -> Study:
    """Average score after each task and the forgetting of each method."""
    seeds, tasks = context.options.seed_list, [data.task for data in context.data]
    validations = [context.encode(data.task, data.validation) for data in context.data]
    progress = Progress("forgetting", len(options.names) * len(seeds) * len(tasks))
    curves, rows = [], []
    sequence = " -> ".join(task.name for task in tasks)
    for name in options.names:
        found = [learn_in_sequence(context, options, name, seed, validations, progress) for seed in seeds]
        seen = [Point(i + 1, [fmean(scores[i]) for scores in found]) for i in range(len(tasks))]
        curves.append(Curve(name, f"tasks learned ({sequence})", "mean score on the tasks so far", seen))
        first = [Point(i + 1, [scores[i][0] for scores in found]) for i in range(len(tasks))]
        curves.append(Curve(name, f"tasks learned ({sequence})", f"score on the first task, {tasks[0].name}", first))
        accuracy, forgetting = (
            Point(0, [measure(scores) for scores in found]).as_json()
            for measure in (average_accuracy, average_forgetting)
        )
        rows.append([name, accuracy["mean"], accuracy["std"], forgetting["mean"], forgetting["std"]])
    return Study(
        curves,
        ["method", "average score", "its deviation", "average forgetting", "its deviation"],
        rows,
        f"One encoder learns {sequence}, with a head for each. Average score: mean over the tasks after the last one. "
        "Average forgetting: mean over the tasks but the last of the best score before the last task minus the final "
        "score (Chaudhry et al. 2018). si: Synaptic Intelligence (Zenke et al. 2017); ewc: Elastic Weight "
        "Consolidation (Kirkpatrick et al. 2017). Deviations over the seeds, which draw the examples, the heads and "
        "the order.",
        seeds,
    )


KIND = Kind(run, "pretrained", tasks=2)
