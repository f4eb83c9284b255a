"""How busy this machine is: processors, memory and GPUs, under the names that MLflow shows as system metrics.

Own code: MLflow's collectors would be imported by the main thread before the first step (above a second, also where
MLflow is switched off) and give other numbers (rounded; no memory of this process; GPUs by NVML's index, whether or not
the program may use them). For the power of processors they have nothing.
"""

import os
import time
from pathlib import Path

import psutil
import torch

_MEGABYTE = 1e6
_POWERCAP = Path("/sys/class/powercap")


class SystemMonitor:
    """Takes a sample when one is due. It has no thread: whoever logs metrics asks, and pays below a millisecond.

    Args:
        every: seconds between two samples; 0 for none at all.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._due = time.monotonic()
        self._process = psutil.Process()
        self._package_power = PackagePower()
        psutil.cpu_percent()  # measures since the last call

    def sample(self) -> dict[str, float]:
        """Utilization in percent, memory in megabytes, power in watts; empty when no sample is due."""
        now = time.monotonic()
        if not self._every or now < self._due:
            return {}
        self._due = now + self._every
        memory = psutil.virtual_memory()
        values = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_percentage": memory.percent,
            "system/system_memory_usage_megabytes": (memory.total - memory.available) / _MEGABYTE,
            "system/process_memory_usage_megabytes": self._process.memory_info().rss / _MEGABYTE,
        }
        watts = self._package_power.read_watts()
        if watts is not None:
            values["system/cpu_power_usage_watts"] = watts
        # not before the program itself has begun to use CUDA: a sample must not create a context
        if torch.cuda.is_initialized():
            for gpu in range(torch.cuda.device_count()):
                values |= _sample_gpu(gpu)
        return values


def _sample_gpu(gpu: int) -> dict[str, float]:
    """Memory, and with nvidia-ml-py (or AMD's library) installed utilization and power, of one GPU."""
    free, total = torch.cuda.mem_get_info(gpu)
    values = {
        f"system/gpu_{gpu}_memory_usage_percentage": 100 * (total - free) / total,
        f"system/gpu_{gpu}_memory_usage_megabytes": (total - free) / _MEGABYTE,
    }
    try:
        values[f"system/gpu_{gpu}_utilization_percentage"] = float(torch.cuda.utilization(gpu))
        values[f"system/gpu_{gpu}_power_usage_watts"] = torch.cuda.power_draw(gpu) / 1000
    except (ModuleNotFoundError, RuntimeError):
        pass
    return values


class PackagePower:
    """Mean power of all processor packages between two readings of Linux's energy counters (RAPL; often root's only).

    https://www.kernel.org/doc/html/latest/power/powercap/powercap.html

    Args:
        root: where the counters are.
    """

    def __init__(self, root: Path = _POWERCAP) -> None:
        # intel-rapl:0 is a package (AMD's too), intel-rapl:0:0 a part of it
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self._zones = [zone for zone in zones if os.access(zone / "energy_uj", os.R_OK)]
        self._before, self._when = self._read_counters(), time.monotonic()

    def read_watts(self) -> float | None:
        """Since the last call, or since the beginning; None where there are no counters to read."""
        now, when = self._read_counters(), time.monotonic()
        before, seconds = self._before, when - self._when
        self._before, self._when = now, when
        if not now or len(now) != len(before) or seconds <= 0:
            return None
        # a counter starts over at its maximum
        spans = [(b - a) % (most + 1) for (a, most), (b, _) in zip(before, now, strict=True)]
        return sum(spans) / 1e6 / seconds

    def _read_counters(self) -> list[tuple[int, int]]:
        """(microjoules, the most before starting over) of every package."""
        try:
            names = ("energy_uj", "max_energy_range_uj")
            values = [[int((zone / name).read_text()) for name in names] for zone in self._zones]
        except (OSError, ValueError):
            return []
        return [(energy, most) for energy, most in values]
