"""Traces of a few steps, on demand: what every operator, kernel and collective of them took."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from data_pipeline import new_file

from .config import ProfileConfig


class StepProfiler:
    """Traces steps `start` to `start + steps - 1` of this process into RUN/profile.

    `trace-rankR-stepA.json.gz` is a Chrome trace (open it in ui.perfetto.dev or chrome://tracing), and
    `table-rankR-stepA.txt` has the operators by their own time, with the FLOPs of matrix products. Operators of traced
    steps are slower than others: compare them with each other.
    """

    def __init__(self, config: ProfileConfig, folder: Path, rank: int, device: torch.device):
        self._config = config
        self._folder = folder
        self._rank = rank
        self._on_cuda = device.type == "cuda"
        self._wanted = config.steps > 0 and (rank == 0 or config.all_ranks)
        self._profile: profile | None = None
        self._first = config.start

    def before_step(self, step: int) -> None:
        """Begin to trace if `step` is the first of those wanted; a resumed run may begin in their middle."""
        end = self._config.start + self._config.steps
        if self._wanted and self._profile is None and self._config.start <= step < end:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_cuda else [])]
            self._profile = profile(activities=activities, with_flops=True, record_shapes=True)
            self._first = step
            self._profile.start()

    def after_step(self, step: int) -> Path | None:
        """End the trace if `step` was the last of it, and return where it is."""
        if self._profile is None or step < self._config.start + self._config.steps - 1:
            return None
        return self.close()

    def close(self) -> Path | None:
        """Write what was traced, also when the run ends in the middle."""
        if self._profile is None:
            return None
        done, self._profile, self._wanted = self._profile, None, False
        done.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        end = f"rank{self._rank}-step{self._first}"
        order = "self_cuda_time_total" if self._on_cuda else "self_cpu_time_total"
        (self._folder / f"table-{end}.txt").write_text(done.key_averages().table(sort_by=order, row_limit=40) + "\n")
        trace = self._folder / f"trace-{end}.json.gz"
        with new_file(trace, keep_ending=True) as aside:
            done.export_chrome_trace(str(aside))  # compresses what ends in .gz
        return trace
