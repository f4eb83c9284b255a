"""The ranks of a distributed fine-tuning, as accelerate sets them up; one process alone is rank 0 of 1."""

import os
from typing import Any

import torch
from accelerate import PartialState


def join_ranks() -> None:
    """Meet the other ranks that a launcher started (WORLD_SIZE in the environment): gloo on CPUs, NCCL on GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(**({} if torch.cuda.is_available() else {"cpu": True, "backend": "gloo"}))
        torch.distributed.barrier()  # a rank that leaves early, for a mistake, must not be missed by one still joining


def _joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """This process's number, 0..world_size - 1."""
    return torch.distributed.get_rank() if _joined() else 0


def world_size() -> int:
    """How many processes work together."""
    return torch.distributed.get_world_size() if _joined() else 1


def is_first() -> bool:
    """Whether this rank is the one that writes and speaks."""
    return rank() == 0


def gather(value: Any) -> list[Any]:
    """Every rank's `value`, in the order of the ranks, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def say(line: str) -> None:
    """Print, on the first rank only."""
    if is_first():
        print(line, flush=True)


def leave_ranks() -> None:
    """End the meeting; the opposite of `join_ranks`."""
    if _joined() and world_size() > 1:
        torch.distributed.destroy_process_group()
