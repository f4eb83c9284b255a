"""What the C library does with memory that a training frees."""

import ctypes
import os

import torch

# of mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1
_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Have this process keep what it frees, from now on, for its next training step (glibc; nothing happens elsewhere).

    Otherwise blocks of more than 32 MB, such as the gradient of the embeddings, go back to the system after each step,
    which maps and zeroes their pages anew in the next: a tenth of a step on a CPU. On a GPU such blocks are torch's.
    The environment's own settings win.
    """
    if torch.cuda.is_available() or any(name in os.environ for name in _SETTINGS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
