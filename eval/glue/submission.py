"""Predictions for GLUE's test splits and its diagnostic set, in the format that gluebenchmark.com takes."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import DataCollatorWithPadding

from data_pipeline import new_file
from eval import ranks
from modeling import AcnForSequenceClassification

from ..depth import predict, shared_logits
from ..tasks import DIAGNOSTIC, LABEL, SUBMISSION_FILES, SUBMITTED_AS_IDS, Task, compute_metrics, load_test_splits
from .finetune import encode

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


def predict_tests(
    model: AcnForSequenceClassification,
    tokenizer: Any,
    task: Task,
    glue_dir: str | None,
    seq_length: int,
    folder: Path,
) -> dict[str, float]:
    """Predict the test splits of `task` that there are, and with an MNLI model the diagnostic set; all ranks together.

    Writes one file per split into `folder`.

    Returns:
        The diagnostic set's Matthews coefficient as `ax`, where its labels are known (on the Hub they are -1).
    """
    collate, scores = DataCollatorWithPadding(tokenizer), {}
    for asked in (task, *([DIAGNOSTIC] if task.name == "mnli" else [])):
        for split, data in load_test_splits(asked, glue_dir).items():
            hidden = [0] * len(data)
            labels = data[LABEL][:] if LABEL in data.column_names else hidden
            unlabelled = data.remove_columns(LABEL) if LABEL in data.column_names else data
            encoded = encode(asked, unlabelled.add_column(LABEL, hidden), tokenizer, seq_length)
            predictions = predict(asked, shared_logits(model, encoded, collate)[-1])
            index = data["idx"][:] if "idx" in data.column_names else list(range(len(data)))
            if ranks.is_first():
                write_submission(folder / file_name(asked, split), asked, predictions, index)
            ranks.say(f"{asked.name}: {len(data)} predictions for {split}: {folder / file_name(asked, split)}")
            if asked is DIAGNOSTIC and LABEL in data.column_names and min(labels) >= 0:
                scores["ax"] = compute_metrics(asked, predictions, np.asarray(labels))["matthews"]
    return scores
