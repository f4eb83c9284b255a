"""Finds where a training step would make the host wait for its device, on a machine without one.

On a GPU each of these waits until everything has been computed that the host asked for: reading a value (`item`,
`tolist`, `cpu`, `numpy`, an `if` on a tensor), operators whose result has a shape that hangs on values (`nonzero`,
indexing by a mask), and tensors made on the device of numbers of the host (`torch.tensor(..., device=)`). On a CPU they
are counted where they are called. What cannot be seen here: `.to(device)` of memory that is not pinned, and what
DeepSpeed does on CUDA only.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.step.late import Reading

READING = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "__array__")
MAKING = ("tensor", "as_tensor")
OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")


class Waits(TorchDispatchMode):
    """Inside, notes every wait as "what, file:line" in `found`.

    Args:
        host: whether a tensor is one of the host, which may be read.
    """

    def __init__(self, host: Callable[[torch.Tensor], bool]):
        super().__init__()
        self.found: list[str] = []
        self._host, self._patches = host, ExitStack()
        self._inside = 0

    def note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
        ours = next(f for f in reversed(frames) if "/torch/" not in f.filename)
        self.found.append(f"{what}, {'/'.join(ours.filename.split('/')[-2:])}:{ours.lineno} in {ours.name}")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.__name__.split(".")[0]
        by_mask = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if not self._inside and (name in OPERATORS or by_mask) and not self._host(args[0]):
            self.note(name)
        return function(*args, **(kwargs or {}))

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def _reader(self, name: str) -> Callable[..., Any]:
        inner = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self._inside and not self._host(tensor):
                self.note(name)
            with self._quiet():
                return inner(tensor, *args, **kwargs)

        return read

    def _maker(self, name: str) -> Callable[..., Any]:
        inner = getattr(torch, name)

        def make(data: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("device") is not None and not isinstance(data, torch.Tensor):
                self.note(f"torch.{name}(..., device=)")
            return inner(data, *args, **kwargs)

        return make

    def _late(self) -> Callable[[Reading], Any]:
        inner = Reading.values

        def values(reading: Reading) -> Any:
            with self._quiet():  # what the late readings are for: the tests of them say how late they are
                return inner(reading)

        return values

    def __enter__(self) -> "Waits":
        for name in READING:
            self._patches.enter_context(mock.patch.object(torch.Tensor, name, self._reader(name)))
        for name in MAKING:
            self._patches.enter_context(mock.patch.object(torch, name, self._maker(name)))
        self._patches.enter_context(mock.patch.object(Reading, "values", self._late()))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()
