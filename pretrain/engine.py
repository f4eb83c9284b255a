"""The DeepSpeed engine: the process group it lives in, the model and the settings that it is given."""

import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import set_seed

from modeling import AcnConfig, AcnForMaskedLM, choose_attention, choose_compile, compile_layers, resolve_precision

from .config import PretrainConfig
from .deepspeed_options import LARGEST_BUCKET, REDUCED_AT_ONCE, merged, overrides
from .optim import adapt_to_engine, build_optimizer
from .step import masked_cross_entropy


def init_distributed(timeout_seconds: float) -> torch.device:
    """Join the process group (gloo on CPU, NCCL on GPUs) and return this rank's device.

    Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun, `deepspeed` and srun wrappers set them;
    without them the process is a world of its own.

    Args:
        timeout_seconds: how long a collective waits for the other ranks before it raises.
    """
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "0" if os.environ["WORLD_SIZE"] == "1" else "29500")
    on_cuda = torch.cuda.is_available()
    # without this, each collective of torch's gloo backend prints a deprecation of its logger
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    from .lean_deepspeed import deepspeed

    timeout = timedelta(seconds=timeout_seconds)
    # DeepSpeed's sub-groups take torch's default time-out, whatever init_distributed is given
    dist.distributed_c10d.default_pg_timeout = timeout
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(device)
    backend = "nccl" if on_cuda else "gloo"
    _join(backend, timeout)
    deepspeed.init_distributed(dist_backend=backend, timeout=timeout, verbose=False)  # takes over that group
    return device


def _join(backend: str, timeout: timedelta) -> None:
    """Join the process group.

    torch 2.13's agents keep one store over all restarts, in which a new rank would find the addresses of dead ones:
    the number of restarts in front of every key keeps them apart. With TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, which
    several nodes need, each attempt has its own store; and there the number must stay out of it, because agents count
    only the restarts that their own workers caused.
    """
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    if os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0") != "1":
        store = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def gather_objects(value: Any) -> list[Any]:
    """The `value` of every rank, by rank. A collective."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def deepspeed_config(config: PretrainConfig, world_size: int, parameters: int) -> dict[str, Any]:
    """DeepSpeed's own configuration: generated from ours, then overridden key by key by `config.deepspeed`."""
    precision = resolve_precision(config.precision)
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.zero_stage:
        bucket = min(LARGEST_BUCKET, -(-parameters // 1024) * 1024)  # aligned, as NCCL wants it
        zero |= {
            # DeepSpeed waits for the device at every bucket and at the end, to overlap: nothing to gain on one rank
            "overlap_comm": torch.cuda.is_available() and world_size > 1,
            "contiguous_gradients": True,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            **config.offload.deepspeed(),
        }
    if config.zero_stage == 3:
        zero |= {"stage3_prefetch_bucket_size": bucket, "stage3_gather_16bit_weights_on_model_save": False}
    generated: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config.micro_batch(world_size),
        "gradient_accumulation_steps": config.global_batch_size // world_size // config.micro_batch(world_size),
        # plain fp32 without ZeRO would step on non-finite gradients: `step` clips and decides instead
        "gradient_clipping": 0.0 if clips_outside(config) else config.optim.grad_clip,
        "zero_optimization": zero,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},  # with DeepSpeed's dynamic loss scale
        "zero_force_ds_cpu_optimizer": False,  # offloaded states are stepped by torch's AdamW, which needs no compiler
        "steps_per_print": 2**31,
    }
    if precision != "fp32" and config.zero_stage:
        generated["data_types"] = {"grad_accum_dtype": "fp32"}  # else micro-batches are summed in 8 or 11 bits
    generated = merged(generated, config.optim.deepspeed_settings(config.zero_stage))
    return merged(generated, overrides(config.deepspeed))


def clips_outside(config: PretrainConfig) -> bool:
    """Whether gradients are clipped, and checked to be finite, here instead of in DeepSpeed."""
    return config.zero_stage == 0 and resolve_precision(config.precision) == "fp32"


def checkpoint_activations(model: Any) -> None:
    """Have `model` (a transformers model) keep only each layer's input for the backward pass."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # transformers 5.23's name
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def build_model(
    config: PretrainConfig,
    fields: dict[str, Any],
    packed: bool = False,
    make: Callable[[AcnConfig], AcnForMaskedLM] = AcnForMaskedLM,
) -> AcnForMaskedLM:
    """The model with its initial weights, which depend on `config.seed` alone: every rank begins with the same.

    Args:
        fields: of the `AcnConfig`.
        packed: the corpus has several documents in a block.
        make: the class, or what makes a model as it does.
    """
    set_seed(config.seed)
    attention = choose_attention(config.precision, config.attention, packed)
    model = make(AcnConfig(**fields, attn_implementation=attention))
    model.loss_function = masked_cross_entropy
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if compiled := choose_compile(config.compile, config.zero_stage):
        compile_layers(model, graphs=compiled == "graphs")
    return model


def build_engine(model: nn.Module, config: PretrainConfig) -> Any:
    """The DeepSpeed engine around `model` with its optimizer."""
    from .lean_deepspeed import deepspeed

    optimizer = build_optimizer(model, config.optim)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    settings = deepspeed_config(config, dist.get_world_size(), sum(p.numel() for p in model.parameters()))
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    adapt_to_engine(engine)
    if config.zero_stage == 0:
        engine.allreduce_gradients = partial(engine.allreduce_gradients, bucket_size=REDUCED_AT_ONCE)
    engine.optimizer_order = order  # names in the optimizer's order, which its state_dict numbers them by
    return engine


def set_global_batch(engine: Any, blocks: int) -> None:
    """Make the next optimizer step accumulate a global batch of `blocks`; to be called between two steps only.

    DeepSpeed divides losses by the number of micro-batches, and finds the last one by counting them since the start:
    the count begins anew, or a step after a change would end too early.
    """
    engine.set_train_batch_size(blocks)
    engine.micro_steps = 0


def non_finite_parameters(engine: Any) -> list[str]:
    """Names of parameters whose values, as far as this rank holds them, are not all finite. Asks no other rank."""
    return [name for name, parameter in engine.module.named_parameters() if not _own_part(parameter).isfinite().all()]


def _own_part(parameter: Any) -> torch.Tensor:
    """What this rank has of a parameter: all of it, or at ZeRO 3 its part, without the padding at the end."""
    part = getattr(parameter, "ds_tensor", None)
    if part is None:
        return parameter.detach()
    rest = parameter.ds_numel - part.numel() * dist.get_rank()
    return part.detach().flatten()[: max(0, rest)]
