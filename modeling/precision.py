"""The arithmetic of a forward pass on this machine: which precision, which attention, and compiled layers.

One place for pretraining and for evaluation, so that a model computes in the same way in both.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._triton import has_triton
from transformers.utils import is_flash_attn_2_available

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str) -> str:
    """fp32, bf16 or fp16: `auto` is bf16 where the device multiplies it, fp32 elsewhere."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_multiplies_bf16() else "fp32"


def precision_refusal(precision: str) -> str | None:
    """Why this machine cannot compute in `precision`; None when it can."""
    if precision == "fp16" and not torch.cuda.is_available() and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
        return "this CPU has no fp16 arithmetic"
    return None


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has instructions for bf16; without them torch converts in software, value by value."""
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.13 may not tell
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def precision_warning(precision: str) -> str | None:
    """What to know of this machine and a resolved precision; None where there is nothing."""
    if precision == "bf16" and not torch.cuda.is_available() and not cpu_multiplies_bf16():
        return "WARNING: this CPU has no bf16 instructions, so that bf16 is many times slower than precision fp32"
    return None


def choose_attention(precision: str, asked: str = "auto", packed: bool = False) -> str:
    """transformers' name of the attention's implementation: the one asked for, or the fastest.

    Args:
        precision: may be auto.
        packed: rows hold several documents. Flash attention then takes their lengths, where torch's own kernels would
            have to take a mask of each row, with which none of the fast ones works.
    """
    if asked != "auto":
        return asked
    if packed and resolve_precision(precision) in HALF and is_flash_attn_2_available():
        return "flash_attention_2"
    # in bf16 torch's fused kernel for CPUs is slower than products and softmax in turn (benchmarks/NOTES.md)
    slow = resolve_precision(precision) == "bf16" and not torch.cuda.is_available()
    return "eager" if slow else "sdpa"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Where matrix products are computed in `precision` while weights and sums stay fp32.

    Args:
        precision: resolved.
    """
    return torch.autocast(device.type, HALF.get(precision, torch.bfloat16), enabled=precision in HALF)


def choose_compile(asked: bool | str, zero_stage: int = 0) -> bool | str:
    """Whether layers are compiled: as asked for (true, false, or "graphs"), or, for auto, where it pays.

    That is on GPUs. On CPUs compiling takes a minute and gains nothing where the processor's products are fast
    (benchmarks/NOTES.md).
    """
    if asked != "auto":
        return asked
    return torch.cuda.is_available() and has_triton() and zero_stage < 3


def compile_layers(model: Any, dynamic: bool = False, graphs: bool = False) -> None:
    """Have torch compile the layers of an ACN model, in place: one compilation serves all of them.

    Whole layers hold nearly all element-wise work; compiling the model at once takes several times as long to start and
    would swallow the hooks of validation and probes, which look at modules between layers.

    Args:
        dynamic: for batches of any shape. Those of pretraining are always of one; the shapes of validation are compiled
            for once more.
        graphs: record each layer's kernels as a CUDA graph as well, which launches them all at once.
    """
    for layer in model.base_model.layers:
        layer.compile(dynamic=dynamic, mode="reduce-overhead" if graphs else None)
