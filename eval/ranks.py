"""The ranks of a distributed fine-tuning, as accelerate sets them up; one process alone is rank 0 of 1."""

import os
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object


def _state() -> PartialState:
    """What accelerate knows of this process and the others; the first call meets them, over gloo on CPUs."""
    # without a GPU accelerate takes a launcher's ranks for single processes, unless it is told
    on_cpus = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    return PartialState(**({"cpu": True, "backend": "gloo"} if on_cpus else {}))


def join_ranks() -> None:
    """Meet the other ranks that a launcher started (WORLD_SIZE in the environment): gloo on CPUs, NCCL on GPUs."""
    # a rank that leaves early, for a mistake, must not be missed by one still joining
    _state().wait_for_everyone()


def rank() -> int:
    """This process's number, 0..world_size - 1."""
    return _state().process_index


def world_size() -> int:
    """How many processes work together."""
    return _state().num_processes


def is_first() -> bool:
    """Whether this rank is the one that writes and speaks."""
    return _state().is_main_process


def gather(value: Any) -> list[Any]:
    """Every rank's `value`, in the order of the ranks, on every rank."""
    _state()
    return gather_object([value])


def say(line: str) -> None:
    """Print, on the first rank only."""
    # accelerate's own print speaks once on every machine
    _state().on_main_process(print)(line, flush=True)


def leave_ranks() -> None:
    """End the meeting; the opposite of `join_ranks`. Ranks that never met have nothing to end."""
    if torch.distributed.is_available() and torch.distributed.is_initialized() and world_size() > 1:
        _state().destroy_process_group()
