"""Scoring a model that was written, on the examples that its source was scored on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import DataCollatorWithPadding

from data_pipeline import find_model
from modeling import AcnConfig, AcnForSequenceClassification, choose_attention

from ..depth import DepthSweep, depth_sweep, predict
from ..errors import EvalError
from ..glue import EVAL_SUBSET_SEED, encode, load_recorded, subset
from ..models import best_device, class_names, load_finetuned
from ..precision import Resolved
from ..results import TaskResults
from ..tasks import Task, compute_metrics
from .config import CompressConfig
from .onnx_model import INT8_FILE, ONNX_FILE, export_onnx, onnx_logits, open_session, quantize_int8
from .speed import ROUNDS, median_seconds, random_batch

# rounding differs between machines and may turn an example that lies between two classes
RESCORE_SLACK = 0.005


@dataclass(frozen=True)
class Rescorer:
    """The validation examples behind a results.json, tokenized."""

    task: Task
    data: datasets.Dataset
    collate: DataCollatorWithPadding
    precision: Resolved
    """That of the scores: those of another differ by more than rounding."""

    def score(self, folder: Path) -> float:
        """What the model in `folder` scores, whole."""
        return self._sweep(folder, self.precision).metrics[-1][self.task.metric]

    def rounding(self, folder: Path) -> float:
        """What half precision moves a score by: the share of examples to which it gives another class than fp32 does.

        Other devices round as many in other ways. Of a regression, what its score differs by; in fp32 nothing.
        """
        if self.precision == "fp32":
            return 0.0
        half, plain = (self._sweep(folder, precision) for precision in (self.precision, "fp32"))
        if self.task.is_regression:
            return abs(half.metrics[-1][self.task.metric] - plain.metrics[-1][self.task.metric])
        return float((half.predictions[-1] != plain.predictions[-1]).mean())

    def _sweep(self, folder: Path, precision: str) -> DepthSweep:
        model = load_finetuned(str(folder), precision).to(best_device())
        return depth_sweep(model, self.data, self.task, self.collate, precision=precision)

    def onnx_score(self, session: Any) -> float:
        """What an ONNX graph scores."""
        predictions = predict(self.task, onnx_logits(session, self.data, self.collate))
        return compute_metrics(self.task, predictions, np.asarray(self.data["labels"]))[self.task.metric]


def rescorer(config: CompressConfig, results: TaskResults, model: AcnConfig, tokenizer: Any) -> Rescorer | None:
    """What scores models as `results` were scored; None where they do not say on what that was.

    Args:
        model: of the fine-tuned model: examples get its ids of the classes.

    Raises:
        EvalError: the data is not there any more, or has other classes.
    """
    try:
        loaded = load_recorded(
            results, find_model(config.model).path, class_names(model), config.glue_dir, config.dataset
        )
    except EvalError as error:
        raise EvalError(*(replace(p, fix=f"{p.fix}, or --check false") for p in error.problems)) from error
    if loaded is None or results.seq_length is None:
        return None
    assert results.settings is not None, "they name the data"
    task, splits = loaded
    rows = subset(splits[task.validation_splits[0]], results.settings["max_eval_samples"], EVAL_SUBSET_SEED)
    encoded = encode(task, rows, tokenizer, results.seq_length)
    return Rescorer(task, encoded, DataCollatorWithPadding(tokenizer), results.precision)


def check_score(scoring: Rescorer, folder: Path, expected: float, source: str) -> float:
    """What the model written into `folder` scores.

    Raises:
        EvalError: not what the sweep of its `source` said, by more than rounding.
    """
    measured = scoring.score(folder)
    by = abs(measured - expected)
    if by > RESCORE_SLACK and by > RESCORE_SLACK + scoring.rounding(folder):
        raise EvalError(
            f"{source}: the cut model scores {measured:.4f}, results.json says {expected:.4f} for this depth: "
            "the data or the weights have changed since, run `acn glue` again (or say --check false)"
        )
    return measured


def onnx_variants(
    folder: Path, model: AcnForSequenceClassification, scoring: Rescorer | None, seq_length: int, int8: bool
) -> dict[str, dict[str, float]]:
    """Write `model` as ONNX into `folder`, also with int8 weights if asked; size, latency and score of each file.

    The graph computes in float32, whatever the model was scored in.
    """
    model.set_attn_implementation(choose_attention("fp32"))
    export_onnx(model, folder / ONNX_FILE)
    names = [ONNX_FILE]
    if int8:
        quantize_int8(folder / ONNX_FILE, folder / INT8_FILE)
        names.append(INT8_FILE)
    batch = {name: value.numpy() for name, value in random_batch(model, 1, seq_length).items()}
    batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
    sessions = {name: open_session(folder / name) for name in names}
    cases: dict[str, Callable[[], Any]] = {name: _runner(session, batch) for name, session in sessions.items()}
    seconds = median_seconds(cases, ROUNDS[1])
    variants = {}
    for name in names:
        variants[name] = {"mb": (folder / name).stat().st_size / 2**20, "latency_ms": seconds[name] * 1e3}
        if scoring is not None:
            variants[name]["score"] = scoring.onnx_score(sessions[name])
    return variants


def _runner(session: Any, batch: dict[str, np.ndarray]) -> Callable[[], Any]:
    return lambda: session.run(None, batch)
