"""Linear probes: what a linear classifier of its own reads off each depth (Alain & Bengio 2016).

The depth sweep asks what the *shared* head makes of a depth; a probe asks what is there to be read.
"""

import datasets
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeling import AcnForSequenceClassification, autocast

from ..depth import Collate
from ..tasks import Task, compute_metrics

PROBE_SAMPLES = 2000


@torch.no_grad()
def depth_features(
    model: AcnForSequenceClassification,
    dataset: datasets.Dataset,
    collate: Collate,
    precision: str,
    batch_size: int = 64,
) -> np.ndarray:
    """The mean of each depth's read-out over an example's tokens, padding left out: (L+1, N, H) float32."""
    features = np.empty((model.config.num_hidden_layers + 1, len(dataset), model.config.hidden_size), np.float32)
    was_training = model.training
    model.eval()
    with autocast(precision, model.device):  # around all batches: weights are cast once
        for start in range(0, len(dataset), batch_size):
            rows = range(start, min(start + batch_size, len(dataset)))
            batch = collate([dataset[row] for row in rows])
            inputs = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
            kept = inputs["attention_mask"].unsqueeze(-1).float()
            for depth, read_out in enumerate(model.base_model.read_outs(**inputs)):
                mean = (read_out.float() * kept).sum(1) / kept.sum(1)
                features[depth, start : start + len(rows)] = mean.cpu().numpy()
    model.train(was_training)
    return features


def probe_scores(
    model: AcnForSequenceClassification,
    task: Task,
    train: datasets.Dataset,
    validation: datasets.Dataset,
    collate: Collate,
    precision: str,
) -> list[float]:
    """The task's metric of a linear probe at depth 0, 1, ..., L, trained on the first 2,000 of `train`.

    Features are mean read-outs, standardised; logistic regression (L2, C = 1) for classes, ridge regression for
    numbers.

    Args:
        train, validation: tokenized, with `labels`.
        precision: of the features, resolved.
    """
    examples = train.select(range(min(PROBE_SAMPLES, len(train))))
    labels, truth = np.asarray(examples["labels"]), np.asarray(validation["labels"])
    known, unknown = (depth_features(model, data, collate, precision) for data in (examples, validation))
    scores = []
    for x, z in zip(known, unknown, strict=True):
        if task.is_regression or len(set(labels.tolist())) > 1:
            estimator = Ridge() if task.is_regression else LogisticRegression(max_iter=300)
            answers = make_pipeline(StandardScaler(), estimator).fit(x, labels).predict(z)
        else:  # there is nothing to tell apart in so few examples
            answers = np.full(len(truth), labels[0])
        scores.append(compute_metrics(task, answers, truth)[task.metric])
    return scores
