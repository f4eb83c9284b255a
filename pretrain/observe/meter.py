"""Speed, where the time of a step goes, memory, and time left, measured without ever waiting for the device."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from modeling import AcnConfig, DepthSupervision

from ..distil import training_flops

STEP_PHASES = ("data", "forward", "backward", "optimizer")
"""The parts of an optimizer step. Other phases (validation, checkpoint) lie between steps and slow none."""


@dataclass(frozen=True)
class Peak:
    """What the job can do at most."""

    flops: float | None
    """FLOP/s of one device; None where it is unknown."""
    devices: int
    """Devices of the job, one for each rank."""


class Meter:
    """Measures laps, which are the steps from one logging step to the next.

        with meter.phase("forward"):
            ...
        meter.count(samples, seq_length, masked_positions)  # once a step
        metrics = meter.lap(step)

    Phases are timed on the host; on CUDA those of a step, except for the wait for data, by events that the device
    records as it gets there: they are read at the end of a lap, when the loss is read anyway. The times are then the
    device's, and a gap between forward and backward in which it had nothing to do is in none of them.

    Args:
        model: what the FLOPs are counted for.
        teacher: the same; None: there is none.
        masked: whether the masked-language-model loss is computed beside the match with a teacher.
        supervision: which depths are trained; None: the whole model alone.
        peak: what MFU is relative to, which is left out where the peak is unknown.
        device: where the model is.
    """

    def __init__(
        self,
        model: AcnConfig,
        peak: Peak,
        device: torch.device,
        teacher: AcnConfig | None = None,
        masked: bool = True,
        supervision: DepthSupervision | None = None,
    ):
        self._model = model
        self._teaching = teacher, masked, supervision
        self._peak = peak
        self._device = device
        self._since = time.perf_counter()
        self._pace: float | None = None  # seconds per step, smoothed over laps
        self._steps = self._tokens = 0
        self._flops = 0.0
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._free: list[torch.cuda.Event] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as part of `name`: one of `STEP_PHASES`, or something between two steps."""
        if self._device.type == "cuda" and name in STEP_PHASES and name != "data":
            begin, end = self._event(), self._event()
            begin.record()
            yield
            end.record()
            self._events.append((name, begin, end))
        else:
            began = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - began

    def count(self, samples: int, seq_length: int, masked_positions: int) -> None:
        """Add the work of one optimizer step, over all ranks: blocks, their length, and decoded positions of each."""
        self._steps += 1
        self._tokens += samples * seq_length
        self._flops += samples * training_flops(self._model, seq_length, masked_positions, *self._teaching)

    def lap(self, step: int, steps: int) -> dict[str, float]:
        """End the lap after `step` of `steps`: the metrics of the steps since the last one.

        Times are seconds per step of this rank; `time/validation` and `time/checkpoint`, outside of the steps, are
        whole seconds. Memory is the highest so far, in GiB: CUDA's allocator's, or resident in this process. Empty for
        a lap without steps.
        """
        if not self._steps:
            return {}  # after a restart
        now = time.perf_counter()
        self._read_events()
        between = {name: value for name, value in self._seconds.items() if name not in STEP_PHASES}
        seconds = now - self._since - sum(between.values())
        pace = seconds / self._steps
        self._pace = pace if self._pace is None else 0.7 * self._pace + 0.3 * pace
        speed = self._tokens / seconds
        achieved = self._flops / seconds / self._peak.devices
        metrics = {
            "train/tokens_per_second": speed,
            "train/tokens_per_second_per_device": speed / self._peak.devices,
            "train/tflops_per_device": achieved / 1e12,
            "train/seconds_left": self._pace * (steps - step),
            "train/peak_memory_gib": peak_memory(self._device) / 2**30,
            "time/step": pace,
        }
        if self._peak.flops is not None:
            metrics["train/mfu"] = achieved / self._peak.flops
        metrics |= {f"time/{name}": self._seconds[name] / self._steps for name in STEP_PHASES}
        metrics |= {f"time/{name}": value for name, value in between.items()}
        self.restart()
        return metrics

    def restart(self) -> None:
        """Measure a new lap from now on."""
        self._since = time.perf_counter()
        self._read_events()
        self._seconds.clear()
        self._steps = self._tokens = 0
        self._flops = 0.0

    def _event(self) -> torch.cuda.Event:
        return self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)

    def _read_events(self) -> None:
        """Add the times between events; all of them are over once the last one is."""
        if self._events:
            self._events[-1][2].synchronize()
        for name, begin, end in self._events:
            self._seconds[name] += begin.elapsed_time(end) / 1000
            self._free += (begin, end)
        self._events.clear()


def peak_memory(device: torch.device) -> int:
    """The most bytes this process has held so far: allocated on a GPU, resident otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # see getrusage(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
