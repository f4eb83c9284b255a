"""`--deepspeed.a.b.c 5`: settings of the user's for DeepSpeed, over the generated ones."""

from collections.abc import Mapping
from typing import Any

import yaml


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


def override_problems(given: Mapping[str, Any]) -> list[str]:
    """Settings that contradict options of ours, each with the option to set instead."""
    found = []
    for dotted, ours in _OURS.items():
        value: Any = overrides(given)
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.append(f"deepspeed.{dotted}: set {ours} instead")
    return found
