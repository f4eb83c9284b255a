"""How busy this machine is: processors, memory and GPUs, under the names that MLflow shows as system metrics."""

import time

import psutil
import torch

from .rapl import PackagePower

_MEGABYTE = 1e6


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
        """Utilization in percent, memory in megabytes; empty when no sample is due."""
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
        watts = self._package_power.watts()
        if watts is not None:
            values["system/cpu_power_usage_watts"] = watts
        # not before the program itself has begun to use CUDA: a sample must not create a context
        if torch.cuda.is_initialized():
            for gpu in range(torch.cuda.device_count()):
                values |= _gpu(gpu)
        return values


def _gpu(gpu: int) -> dict[str, float]:
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
