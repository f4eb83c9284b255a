"""A model as an ONNX file, in float32 and with int8 weights, and what such a file answers."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ..depth import Collate
from ..errors import EvalError
from .speed import random_batch

ONNX_FILE, INT8_FILE = "model.onnx", "model_int8.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def check_installed() -> None:
    """Raise `EvalError` unless the packages of the extra `onnx` are there."""
    if absent := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise EvalError(f"onnx: {', '.join(absent)} not installed: pip install 'acn-lm[onnx]'")


class _Logits(nn.Module):
    """Token ids, mask and segments in, logits out: the graph that is exported."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """(B, T) each -> (B, num_labels), or (B, T, vocabulary) of a masked language model"""
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its progress, and of packages that do not matter here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def export_onnx(model: PreTrainedModel, path: Path) -> None:
    """Write `model` as an ONNX graph for any batch size and length: [`INPUTS`] (B, T) int64 in, `logits` out.

    Args:
        model: one with logits: a classifier, or a masked language model.
    """
    example = random_batch(model, 2, min(8, model.config.max_position_embeddings))
    inputs = (example["input_ids"], example["attention_mask"], torch.zeros_like(example["input_ids"]))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with _quiet():
        torch.onnx.export(
            _Logits(model).eval(),
            inputs,
            path,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes=(shape,) * len(INPUTS),
            dynamo=True,
            external_data=False,
        )


def quantize_int8(source: Path, target: Path) -> None:
    """Write `source` with int8 weights; activations are quantised as they come (dynamic quantisation, ONNX Runtime)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # the exporter's notes on inner shapes go stale as weights are folded; the quantiser infers them again
    del graph.graph.value_info[:]
    with _quiet():
        quantize_dynamic(graph, target, weight_type=QuantType.QInt8, per_channel=True)


def open_session(path: Path) -> Any:
    """An ONNX Runtime session on CPUs, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_logits(session: Any, dataset: datasets.Dataset, collate: Collate, batch_size: int = 64) -> np.ndarray:
    """What the graph answers to each example of a tokenized data set: (N, num_labels) float32.

    Batches are of similar lengths, as in `sweep_logits`.
    """
    order = np.argsort([-len(ids) for ids in dataset["input_ids"]], kind="stable")
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(dataset), batch_size):
        index = order[start : start + batch_size]
        batch = collate([dataset[int(row)] for row in index])
        ids = batch["input_ids"]
        segments = batch.get("token_type_ids", torch.zeros_like(ids))
        feed = dict(zip(INPUTS, (ids.numpy(), batch["attention_mask"].numpy(), segments.numpy()), strict=True))
        answers.append((index, session.run(None, feed)[0]))
    logits = np.empty((len(dataset), answers[0][1].shape[-1]), dtype=np.float32)
    for index, values in answers:
        logits[index] = values
    return logits
