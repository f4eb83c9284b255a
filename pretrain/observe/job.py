"""Which machines a job runs on."""

import platform
import socket

import torch

from ..engine import gather_objects


def job_tags(device: torch.device) -> dict[str, str]:
    """Tags of the run's record: the hosts in the order of their ranks, the number of ranks, the device. Collective."""
    hosts = gather_objects(socket.gethostname())
    on_cuda = device.type == "cuda"
    return {
        "hosts": ", ".join(dict.fromkeys(hosts)),
        "world_size": str(len(hosts)),
        "device": torch.cuda.get_device_name(device) if on_cuda else f"cpu ({platform.machine()})",
    }
