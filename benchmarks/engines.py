"""What a user can run a classifier with on a CPU: torch, compiled or not, and ONNX Runtime, in some precisions.

An engine makes functions from texts to logits out of the same model at several depths, or says why it cannot.
"""

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from eval import EvalError
from eval.compress import INPUTS, check_installed, export_onnx, open_session, quantize_int8
from eval.studies import exit_early
from modeling import AcnForSequenceClassification, cpu_multiplies_bf16

EARLY_EXIT = "early exit"
# `quantize_dynamic` is still in torch 2.13, with a warning that it goes, and so do the quantised tensors below it. Its
# successor, torchao, is a package of its own that no part of this project needs; tried on a CPU without VNNI, its int8
# took some 20 times as long as fp32.
TORCH_INT8 = "torch.ao.quantization is deprecated, and torchao another package; `acn compress --int8` writes ONNX"


@dataclass(frozen=True)
class Texts:
    """What is asked at once."""

    inputs: dict[str, torch.Tensor]
    """`input_ids` and `attention_mask`, (B, T) each."""
    exits: torch.Tensor
    """(B,) the depth at which each of them leaves where texts may leave early."""


Models = dict[int, AcnForSequenceClassification]
Answer = Callable[[Texts], torch.Tensor]
"""Texts -> logits (B, C)."""


def at(depth: int) -> str:
    """The name of the case of a model cut at a depth."""
    return f"depth {depth}"


@dataclass(frozen=True)
class Engine:
    """A way to run a model."""

    name: str
    build: Callable[[Models, Path], dict[str, Answer]]
    """Takes models by their depth and a folder for files, which all engines share; returns what answers, by case."""
    tolerance: float
    """Of `benchmarks.inference.deviation` from plain torch."""
    absent: Callable[[], str | None] = lambda: None
    """Why it cannot be measured here."""
    share: Callable[[], float] = lambda: 1.0
    """Of the command line's rounds."""


def eager(models: Models, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Answer]:
    """Plain torch, which alone can leave early: where a text stops is not part of any fixed graph."""
    cast = {depth: copy.deepcopy(model).to(dtype) for depth, model in models.items()}
    whole = cast[max(cast)]
    answers: dict[str, Answer] = {at(depth): partial(logits_of, model) for depth, model in cast.items()}
    return answers | {EARLY_EXIT: partial(_leave, whole)}


def compile_whole(models: Models, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Answer]:
    """torch.compile of the whole model for each shape; by layers, as in pretraining, batches of one gain nothing."""
    torch.compiler.reset()  # it gives up after eight variants, fp32's among them, which fullgraph makes an error
    cast = {depth: copy.deepcopy(model).to(dtype) for depth, model in models.items()}
    compiled = {depth: torch.compile(model, dynamic=False, fullgraph=True) for depth, model in cast.items()}
    return {at(depth): partial(logits_of, model) for depth, model in compiled.items()}


def onnx(models: Models, folder: Path, int8: bool = False) -> dict[str, Answer]:
    """ONNX Runtime on the graphs that `acn compress --onnx`, or `--int8`, writes."""
    answers: dict[str, Answer] = {}
    for depth, model in models.items():
        file, quantized = folder / f"{depth}.onnx", folder / f"{depth}-int8.onnx"
        if not file.exists():
            export_onnx(model, file)
        if int8:
            quantize_int8(file, quantized)
        answers[at(depth)] = partial(_session_logits, open_session(quantized if int8 else file))
    return answers


def logits_of(model: Callable, texts: Texts) -> torch.Tensor:
    """What a model in torch, compiled or not, answers."""
    return model(**texts.inputs).logits


def _leave(model: AcnForSequenceClassification, texts: Texts) -> torch.Tensor:
    return exit_early(model, texts.inputs, lambda depth, logits, rows: texts.exits[rows] == depth)[0]


def _session_logits(session: Any, texts: Texts) -> torch.Tensor:
    ids, mask = texts.inputs["input_ids"], texts.inputs["attention_mask"]
    given = (ids.numpy(), mask.numpy(), torch.zeros_like(ids).numpy())
    return torch.from_numpy(session.run(None, dict(zip(INPUTS, given, strict=True)))[0])


def no_compiler() -> str | None:
    """torch.compile writes C++ on a CPU, and looks for the compiler as is done here."""
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"torch.compile needs a C++ compiler, and there is no {compiler}"


def no_bf16() -> str | None:
    """Compiling for minutes what cannot be fast tells nobody anything."""
    return no_compiler() if cpu_multiplies_bf16() else "this processor has no bf16 instructions, compiled or not"


def no_onnx() -> str | None:
    """The packages are an extra."""
    try:
        check_installed()
    except EvalError as error:
        return str(error)
    return None


def _bf16_share() -> float:
    return 1.0 if cpu_multiplies_bf16() else 0.25  # some eight times slower than fp32: most of the time would be its


# Tolerances: the logits of other texts are 1.4 away, those of the model cut at 6 layers instead of 12 are 2.7. Random
# weights make int8 look worse than it is on a trained model: `acn compress --int8` scores that.
ENGINES = (
    Engine("torch fp32", eager, 1e-3),
    Engine("torch.compile fp32", compile_whole, 1e-3, absent=no_compiler),
    Engine("ONNX Runtime fp32", onnx, 1e-3, absent=no_onnx),
    Engine("torch bf16", partial(eager, dtype=torch.bfloat16), 0.4, share=_bf16_share),
    Engine("torch.compile bf16", partial(compile_whole, dtype=torch.bfloat16), 0.4, absent=no_bf16),
    Engine("ONNX Runtime int8", partial(onnx, int8=True), 0.8, absent=no_onnx),
    Engine("torch int8", lambda *_: {}, 0.8, absent=lambda: TORCH_INT8),
)
REFERENCE = ENGINES[0]
