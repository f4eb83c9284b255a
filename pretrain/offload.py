"""Moving optimizer states and weights out of the device's memory (ZeRO-Offload, ZeRO-Infinity)."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass
class OffloadConfig:
    """Where DeepSpeed keeps what the device has no room for; slower, and rarely needed by a BERT-size model."""

    optimizer: Literal["none", "cpu", "nvme"] = "none"
    """Optimizer states: cpu needs zero_stage 1 or more, nvme needs zero_stage 3."""
    parameters: Literal["none", "cpu", "nvme"] = "none"
    """Weights; needs zero_stage 3."""
    nvme_path: str | None = None
    """Folder on a local NVMe disk, for nvme."""

    def problems(self, zero_stage: int) -> list[str]:
        """Every bad combination, each with its mend."""
        found = []
        least = {"none": 0, "cpu": 1, "nvme": 3}[self.optimizer]
        if zero_stage < least:
            found.append(f"offload.optimizer={self.optimizer} needs zero_stage {least} or more, not {zero_stage}")
        if self.parameters != "none" and zero_stage < 3:
            found.append(f"offload.parameters={self.parameters} needs zero_stage 3, not {zero_stage}")
        if "nvme" in (self.optimizer, self.parameters):
            if self.nvme_path is None:
                found.append("offload.nvme_path is missing: name a folder on the NVMe disk")
            found += _async_io_problems()
        return found

    def deepspeed(self) -> dict[str, Any]:
        """The entries of DeepSpeed's `zero_optimization`."""
        places = {"offload_optimizer": self.optimizer, "offload_param": self.parameters}
        return {
            key: {"device": place} | ({"nvme_path": self.nvme_path} if place == "nvme" else {})
            for key, place in places.items()
            if place != "none"
        }


def _async_io_problems() -> list[str]:
    from .lean_deepspeed import deepspeed  # and torch, which options are otherwise checked without

    if deepspeed.ops.op_builder.AsyncIOBuilder().is_compatible(verbose=False):
        return []
    return [
        "offload to nvme: DeepSpeed cannot build its asynchronous I/O here; install libaio's headers (Debian: "
        "libaio-dev) and a C++ compiler, or offload to cpu"
    ]
