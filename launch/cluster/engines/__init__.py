"""Scripts that start a pretraining on Slurm, with torchrun or DeepSpeed, on Kubernetes and with SkyPilot."""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
