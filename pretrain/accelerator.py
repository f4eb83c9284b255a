"""Which devices DeepSpeed takes."""

import os

import torch


def choose_accelerator() -> None:
    """Tell DeepSpeed, which warns when it has to guess, that this machine has no GPU; before it is first imported."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
