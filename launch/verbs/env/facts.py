"""What a bug report needs to know of this machine: versions, devices, backends. Nothing secret, no paths."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from data_pipeline import hide_credentials

from ...provenance import processor, provenance_tags, usable_cores

_PACKAGES = (
    "torch", "transformers", "tokenizers", "datasets", "pyarrow", "deepspeed", "accelerate", "safetensors",
    "huggingface_hub", "mlflow", "numpy", "jsonargparse",
)  # fmt: skip
_OPTIONAL = ("flash-attn", "triton", "onnxruntime", "s3fs", "sentence-transformers")
# what changes how training runs; none of them holds a credential
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "HF_HUB_OFFLINE", "NCCL_DEBUG", "NCCL_IB_DISABLE", "NCCL_P2P_DISABLE",
    "NCCL_SOCKET_IFNAME", "OMP_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_LOGS", "WORLD_SIZE",
)  # fmt: skip

Facts = dict[str, dict[str, Any]]


def describe_environment() -> Facts:
    """Facts by section: acn-lm, machine, packages, torch, variables.

    A package that is not installed is None; a torch that cannot be imported is described by its error.
    """
    return {
        "acn-lm": _acn(),
        "machine": _machine(),
        "packages": {name: _version(name) for name in _PACKAGES}
        | {name: found for name in _OPTIONAL if (found := _version(name)) is not None},
        "torch": _torch(),
        "variables": {name: hide_credentials(os.environ[name]) for name in _VARIABLES if name in os.environ},
    }


def as_block(facts: Facts) -> str:
    """The facts as text for an issue: a line each, in sections."""
    lines = []
    for section, values in facts.items():
        width = max(map(len, values), default=0)
        lines += [section] + [f"  {name:{width}}  {_shown(value)}" for name, value in values.items()]
        lines += [] if values else ["  none set"]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not installed" if value is None else str(value)


def _acn() -> dict[str, Any]:
    tags = provenance_tags()
    facts: dict[str, Any] = {"version": tags.get("version.acn-lm", "run from a folder")}
    if "git.commit" in tags:
        facts |= {"commit": tags["git.commit"], "changed since": tags["git.dirty"] == "true"}
    return facts


def _machine() -> dict[str, Any]:
    import psutil

    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": processor(),
        "cores": usable_cores(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "C++ compiler": any(shutil.which(name) for name in ("c++", "g++", "clang++")),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    """What this build of torch can do here. The one slow part: only torch itself knows whether it can use a GPU."""
    if find_spec("torch") is None:
        return {"installed": False}
    try:
        import torch

        return _build(torch) | _devices(torch)
    except Exception as error:  # a broken installation is what the report is about
        return {"error": hide_credentials(f"{type(error).__name__}: {error}".splitlines()[0])}


def _build(torch: Any) -> dict[str, Any]:
    distributed = torch.distributed
    here = distributed.is_available()
    backends = {"gloo": "is_gloo_available", "nccl": "is_nccl_available", "mpi": "is_mpi_available"}
    return {
        "CUDA": torch.version.cuda or "not in this build",
        "ROCm": torch.version.hip or "not in this build",
        "distributed": [name for name, asked in backends.items() if here and getattr(distributed, asked)()],
        "attention": ["sdpa", "eager"] + (["flash_attention_2"] if find_spec("flash_attn") else []),
        "threads": torch.get_num_threads(),
    }


def _devices(torch: Any) -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"devices": ["cpu"]}
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    facts: dict[str, Any] = {
        "devices": [f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in names],
        "bf16": torch.cuda.is_bf16_supported(),
        "cuDNN": torch.backends.cudnn.version(),
    }
    if torch.version.hip is None and torch.distributed.is_nccl_available():
        facts["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
    return facts
