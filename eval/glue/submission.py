"""Predictions for GLUE's test splits and its diagnostic set, in the format that gluebenchmark.com takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import DataCollatorWithPadding

from data_pipeline import new_file
from eval import ranks
from modeling import AcnForSequenceClassification

from ..depth import predict, shared_logits
from ..models import most_tokens
from ..tasks import (
    DIAGNOSTIC,
    LABEL,
    SUBMISSION_FILES,
    SUBMITTED_AS_IDS,
    DatasetConfig,
    Task,
    compute_metrics,
    load_custom_tests,
    load_test_splits,
)
from .encoding import Cut, count_cut, encode, say_cut

SUBMISSION_FOLDER = "submission"


def file_name(task: Task, split: str) -> str:
    """`SST-2.tsv`, `MNLI-mm.tsv`, ...; a task that is not GLUE's has its own name."""
    names = (SUBMISSION_FILES.get(key) for key in (task.name, f"{task.name}/{split}"))
    return next((name for name in names if name is not None), task.name) + ".tsv"


def answers(task: Task, predictions: np.ndarray) -> list[str]:
    """Predictions as the benchmark spells them: ids, class names, or a similarity in 0..5 with three decimals."""
    if task.is_regression:
        bounded = np.clip(predictions, 0, 5) if task.name == "stsb" else predictions
        return [f"{value:.3f}" for value in bounded]
    return [str(p) if task.name in SUBMITTED_AS_IDS else task.labels[p] for p in predictions.tolist()]


def write_submission(path: Path, task: Task, predictions: np.ndarray, index: list[int]) -> None:
    """Write `index<TAB>prediction` lines under a header, atomically."""
    lines = [f"{i}\t{answer}" for i, answer in zip(index, answers(task, predictions), strict=True)]
    with new_file(path) as aside:
        aside.write_text("\n".join(["index\tprediction", *lines]) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SplitToPredict:
    """A test split: its texts, `idx`, and for the diagnostic set `label` where it is known."""

    task: Task
    """The diagnostic set's is not the one the model was trained on."""
    name: str
    data: datasets.Dataset

    @property
    def key(self) -> str:
        """Its name in results.json."""
        return self.task.name if self.task is DIAGNOSTIC else self.name


def load_tests(task: Task, glue_dir: str | None, own_data: DatasetConfig | None = None) -> list[SplitToPredict]:
    """The test splits of `task` that there are, and with MNLI the diagnostic set.

    Raises:
        EvalError: one of them is malformed.
    """
    if own_data is not None:
        return [SplitToPredict(task, name, data) for name, data in load_custom_tests(task, own_data).items()]
    asked = (task, *([DIAGNOSTIC] if task.name == "mnli" else []))
    return [SplitToPredict(of, name, data) for of in asked for name, data in load_test_splits(of, glue_dir).items()]


def predict_tests(
    model: AcnForSequenceClassification,
    tokenizer: Any,
    tests: Sequence[SplitToPredict],
    seq_length: int,
    folder: Path,
    precision: str,
) -> tuple[dict[str, float], dict[str, Cut]]:
    """Predict test splits, all ranks together, and write one file per split into `folder`.

    Returns:
        The diagnostic set's Matthews coefficient as `ax`, where its labels are known (on the Hub they are -1); and what
        `seq_length` cuts off each split.
    """
    collate, scores, cuts = DataCollatorWithPadding(tokenizer), {}, {}
    for test in tests:
        task, data = test.task, test.data
        labels = data[LABEL][:] if LABEL in data.column_names else None
        unlabelled = data.remove_columns(LABEL) if labels is not None else data
        encoded = encode(task, unlabelled.add_column(LABEL, [0] * len(data)), tokenizer, seq_length)
        cuts[test.key] = count_cut(task, data, encoded, tokenizer, seq_length)
        say_cut(task.name, seq_length, most_tokens(model.config), {test.name: cuts[test.key]})
        predictions = predict(task, shared_logits(model, encoded, collate, precision=precision)[-1])
        path = folder / file_name(task, test.name)
        if ranks.is_first():
            write_submission(path, task, predictions, data["idx"][:])
        ranks.say(f"{task.name}: {len(data)} predictions for {test.name}: {path}")
        if labels is not None:
            scores[test.key] = compute_metrics(task, predictions, np.asarray(labels))[task.metric]
    return scores, cuts
