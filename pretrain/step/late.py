"""Numbers that the device computes and the host wants to know, without the device standing still for it.

The host hands the device its work far ahead of time. Asking for a value (`item`, `tolist`, an `if` on a tensor) waits
until all that work is done, and while the host then prepares more, the device has nothing to do. So what a step brings
forth is copied to the host when the device gets there, and read when the next step is on its way.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


class Reading:
    """The values of a small tensor at this moment, on their way to the host."""

    def __init__(self, tensor: torch.Tensor):
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._host = tensor.clone()

    def values(self) -> Any:
        """What `tensor.tolist()` would have said; waits for the device to have got there, and no further."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.tolist()


class Agreement:
    """Numbers that all ranks take alike, each the largest that any of them has.

    Args:
        late: answer each call with what was agreed on in the one before, so that nobody waits for this one.
        first: what a late one answers the first call.
    """

    def __init__(self, device: torch.device, late: bool, first: Sequence[float]):
        self._device, self._late = device, late
        self._last = Reading(torch.tensor(first, dtype=torch.float64))

    def __call__(self, *numbers: float) -> list[float]:
        """A collective: every rank gives as many numbers."""
        shared = on_device(torch.tensor(numbers, dtype=torch.float64), self._device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        before, self._last = self._last, Reading(shared)
        return (before if self._late else self._last).values()


def on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host tensor on `device`; from pinned memory, because copies from any other wait for the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
