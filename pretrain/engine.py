"""The DeepSpeed engine, and the environment it needs."""

import os
import warnings
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from .config import PretrainConfig
from .optim import build_optimizer

COLLECTIVE_TIMEOUT = timedelta(minutes=10)


def init_distributed() -> torch.device:
    """Join the process group (gloo on CPU, NCCL on GPUs) and return this rank's device.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun, `deepspeed` and srun wrappers set them;
    without them the process is a world of its own.
    """
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "0" if os.environ["WORLD_SIZE"] == "1" else "29500")
    on_cuda = torch.cuda.is_available()
    if not on_cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # without this, each collective of torch's gloo backend prints a deprecation of its logger
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    import deepspeed
    import deepspeed.ops

    if not on_cuda:  # a shared-memory collective that init_distributed would compile for most of a minute
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # DeepSpeed's sub-groups take torch's default time-out, whatever init_distributed is given
    dist.distributed_c10d.default_pg_timeout = COLLECTIVE_TIMEOUT
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(device)
    deepspeed.init_distributed(dist_backend="nccl" if on_cuda else "gloo", timeout=COLLECTIVE_TIMEOUT, verbose=False)
    return device


def deepspeed_config(config: PretrainConfig, world_size: int) -> dict[str, Any]:
    """DeepSpeed's own configuration, generated from ours."""
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.global_batch_size // world_size // config.micro_batch_size,
        "gradient_clipping": config.optim.grad_clip,
        "zero_optimization": {"stage": config.zero_stage},
        "bf16": {"enabled": config.precision == "bf16"},
        "steps_per_print": 2**31,
    }


def build_engine(model: nn.Module, config: PretrainConfig) -> Any:
    """The DeepSpeed engine around `model` with its optimizer."""
    import deepspeed

    optimizer = build_optimizer(model, config.optim)
    settings = deepspeed_config(config, dist.get_world_size())
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    return engine


def set_learning_rate(engine: Any, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(engine: Any) -> float | None:
    """The global gradient norm of the last optimizer step before clipping, where the engine knows it."""
    norm = engine.get_global_grad_norm()
    return None if norm is None else float(norm)
