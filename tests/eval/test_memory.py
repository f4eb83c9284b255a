"""A training on a CPU keeps the memory of its last step for the next one."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eval import memory

LARGE = 64 << 20
PROGRAM = """
import sys, torch
from eval.memory import keep_freed_memory
from tests.eval.test_memory import LARGE, mapped_blocks
keep_freed_memory()
before = mapped_blocks()
block = torch.empty(LARGE, dtype=torch.uint8)
sys.exit(mapped_blocks() - before)
"""
glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2") or torch.cuda.is_available(),
    reason="is about glibc, where there is no GPU",
)


def mapped_blocks() -> int:
    """Blocks that the C library has mapped one by one, which go back to the system when they are freed."""

    class Info(ctypes.Structure):
        """mallinfo(3); `hblks` is the fourth."""

        _fields_ = [(name, ctypes.c_size_t) for name in "abc"] + [("hblks", ctypes.c_size_t)]
        _fields_ += [(name, ctypes.c_size_t) for name in "efghij"]

    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Info
    return ask().hblks


def blocks_of_a_new_tensor(**environment: str) -> int:
    """How many of those a tensor of 64 MB makes in a process that keeps freed memory."""
    given = {name: value for name, value in os.environ.items() if name not in memory._SETTINGS} | environment
    root = Path(memory.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=given | {"PYTHONPATH": str(root)}, cwd=root, check=False)
    return done.returncode


@glibc
def test_large_blocks_are_not_mapped_one_by_one() -> None:
    assert blocks_of_a_new_tensor() == 0


@glibc
def test_the_environments_own_settings_win() -> None:
    assert blocks_of_a_new_tensor(MALLOC_MMAP_MAX_="65536") == 1
