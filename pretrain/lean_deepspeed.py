"""DeepSpeed, imported in half the time: import it from here, or this module before any part of it.

What is left out takes seconds at every start and is never used: the MLflow of DeepSpeed's autotuner, and, on CPUs, the
compiler around its Muon (which runs there as it is written) and a shared-memory collective that is compiled for most of
a minute when the process group opens.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Have imports of `module` fail, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # the import system's way to say that there is none
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Have DeepSpeed's decorators for torch.compile leave functions as they are."""
    from deepspeed.runtime import compiler

    compile_function = compiler.compile
    compiler.compile = lambda *_, **__: lambda function: function
    try:
        yield
    finally:
        compiler.compile = compile_function


def _import_deepspeed() -> Any:
    on_cuda = torch.cuda.is_available()
    if not on_cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # it warns when it has to guess
    with _hidden("mlflow"):
        import deepspeed
        import deepspeed.ops
    if not on_cuda:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        with _uncompiled():
            import deepspeed.runtime.zero.muon.muon_optimizer
    return deepspeed


deepspeed: Any = _import_deepspeed()
