"""What a run's options ask of DeepSpeed itself: offloading, and `--deepspeed.a.b.c 5` over the generated settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from data_pipeline import Problem

# A BERT-size model has 1e8 parameters at most: DeepSpeed's default buckets of 5e8 elements would reserve gigabytes and
# leave one bucket, with nothing to overlap.
LARGEST_BUCKET = 24 * 1024 * 1024
# Without ZeRO DeepSpeed copies all gradients into one buffer, reduces it and copies them back. Memory for buffers of
# this size is reused; for a larger one the system maps and zeroes pages in every step.
REDUCED_AT_ONCE = 4 * 1024 * 1024


@dataclass
class OffloadConfig:
    """Where DeepSpeed keeps what the device has no room for; slower, and rarely needed by a BERT-size model."""

    optimizer: Literal["none", "cpu", "nvme"] = "none"
    """Optimizer states: cpu needs zero_stage 1 or more, nvme needs zero_stage 3."""
    parameters: Literal["none", "cpu", "nvme"] = "none"
    """Weights; needs zero_stage 3."""
    nvme_path: str | None = None
    """Folder on a local NVMe disk, for nvme."""

    def problems(self, zero_stage: int) -> list[Problem]:
        found = []
        least = {"none": 0, "cpu": 1, "nvme": 3}[self.optimizer]
        if zero_stage < least:
            found.append(
                Problem("offload.optimizer", self.optimizer, f"needs zero_stage {least} or more, not {zero_stage}")
            )
        if self.parameters != "none" and zero_stage < 3:
            found.append(Problem("offload.parameters", self.parameters, f"needs zero_stage 3, not {zero_stage}"))
        if "nvme" in (self.optimizer, self.parameters):
            if self.nvme_path is None:
                found.append(Problem("offload.nvme_path", wrong="is missing", fix="name a folder on the NVMe disk"))
            found += _async_io_problems()
        return found

    def deepspeed(self) -> dict[str, Any]:
        """The entries of DeepSpeed's `zero_optimization`."""
        places = {"offload_optimizer": self.optimizer, "offload_param": self.parameters}
        return {
            key: {"device": place} | ({"nvme_path": self.nvme_path} if place == "nvme" else {})
            for key, place in places.items()
            if place != "none"
        }


def _async_io_problems() -> list[Problem]:
    from .lean_deepspeed import deepspeed  # and torch, which options are otherwise checked without

    if deepspeed.ops.op_builder.AsyncIOBuilder().is_compatible(verbose=False):
        return []
    return [
        Problem(
            "offload",
            wrong="to nvme: DeepSpeed cannot build its asynchronous I/O here; install libaio's headers (Debian: "
            "libaio-dev) and a C++ compiler, or offload to cpu",
        )
    ]


def overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """`--deepspeed.a.b.c 5` as DeepSpeed wants it: dotted keys opened up, text read as YAML."""
    opened: dict[str, Any] = {}
    for dotted, value in given.items():
        if isinstance(value, Mapping):
            value = overrides(value)
        elif isinstance(value, str):
            value = _number(value)
        *outer, last = dotted.split(".")
        for key in reversed(outer):
            value, last = {last: value}, key
        opened = merged(opened, {last: value})
    return opened


def _number(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):  # YAML 1.1 wants a point in 1e6
        try:
            value = float(text)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, nested ones merged key by key; `above` wins."""
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        both[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both


# Settings of DeepSpeed's that would contradict ours, and what to set instead.
_OURS = {
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "global_batch_size or micro_batch_size",
    "gradient_clipping": "optim.grad_clip",
    "optimizer": "optim",
    "scheduler": "schedule",
    "zero_optimization.stage": "zero_stage",
    "bf16.enabled": "precision",
    "fp16.enabled": "precision",
}


def override_problems(given: Mapping[str, Any]) -> list[Problem]:
    """Settings that contradict options of ours, each with the option to set instead."""
    found = []
    for dotted, ours in _OURS.items():
        value: Any = overrides(given)
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.append(Problem(f"deepspeed.{dotted}", fix=f"set {ours} instead"))
    return found
