"""A checkpoint loaded into an engine, also of another world size, ZeRO stage or precision than it was written with.

In its own layout DeepSpeed loads it. For another, DeepSpeed's universal checkpoints hold the fp32 weight and the Adam
moments of every parameter in files of their own. Loading those is done here, parameter by parameter through DeepSpeed's
tensor-fragment functions, because DeepSpeed 0.19.8's own loader refuses stage 1 -> 3 and 3 -> 2, and at stage 3 gives
all parameter groups the first one's weight decay and all sub-groups one shared step counter.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from data_pipeline import os_problem
from modeling import name_non_finite

from ..engine import gather_objects, non_finite_parameters
from ..errors import PretrainError
from ..optim import Ema
from .folder import Checkpoint, Progress, checkpoint_folder
from .soundness import diverged, loading
from .states import State, convert, universal_states, unsharded_states


def load_checkpoint(
    engine: Any, ema: Ema | None, checkpoint: Checkpoint, now: Progress, run: Path, say: Callable[[str], None]
) -> Progress:
    """Give `engine` the weights and optimizer states of `checkpoint`, whatever their layouts, and `ema` its average.

    A collective. A checkpoint without an average has one begin with its weights.

    Args:
        now: progress of the run with the engine's own layout.
        run: its folder, in which a converted checkpoint lies for the time of loading.

    Returns:
        The checkpoint's progress in the engine's layout.

    Raises:
        PretrainError: DeepSpeed could not convert the checkpoint, or it holds more than data, or weights
            that are not finite.
    """
    saved = checkpoint.progress
    averaged = ema is not None and _load_average(ema, checkpoint)
    if saved.layout == now.layout:
        with loading(checkpoint), _own_settings(engine):
            loaded, _ = engine.load_checkpoint(str(checkpoint.path.parent), tag=checkpoint.path.name)
        assert loaded is not None, f"DeepSpeed did not load the complete checkpoint {checkpoint.path}"
    else:
        say(
            f"{checkpoint.path} was written by {saved.world_size} rank(s), ZeRO stage {saved.zero_stage}, "
            f"{saved.precision}: converting"
        )
        _load_resized(engine, checkpoint, checkpoint_folder(run))
    shares = gather_objects(non_finite_parameters(engine))
    if names := sorted({name for share in shares for name in share}):
        raise diverged(checkpoint.path, name_non_finite(names))
    if ema is not None and not averaged:
        say(f"{checkpoint.path} has no average of the weights: a new one begins")
        ema.start(engine)
    return replace(saved, world_size=now.world_size, zero_stage=now.zero_stage, precision=now.precision)


@contextmanager
def _own_settings(engine: Any) -> Iterator[None]:
    """Have the optimizer keep the settings that it was built with: loading brings those of the checkpoint's run."""
    groups = _inner_optimizer(engine).param_groups
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    yield
    for group, own in zip(_inner_optimizer(engine).param_groups, settings, strict=True):
        group.update(own)


def _load_average(ema: Ema, checkpoint: Checkpoint) -> bool:
    with loading(checkpoint):
        return ema.load(checkpoint.path)


def _load_resized(engine: Any, checkpoint: Checkpoint, scratch: Path) -> None:
    """Load parameter by parameter. A collective."""
    _create_optimizer_states(engine)
    folder = _universal(checkpoint, scratch) if checkpoint.progress.zero_stage else None
    states = unsharded_states(checkpoint) if folder is None else universal_states(folder)
    parameters = dict(engine.module.named_parameters())
    seen = set()
    for name, state in states:
        if name in parameters:  # a tied weight comes under both of its names
            _set_state(engine, parameters[name], state)
            seen.add(name)
    assert seen == parameters.keys(), f"{checkpoint.path} lacks {sorted(parameters.keys() - seen)}"
    _set_step(engine, checkpoint.progress.applied)
    _refresh_weights(engine)
    dist.barrier()
    if folder is not None and dist.get_rank() == 0:
        shutil.rmtree(folder)


def _universal(checkpoint: Checkpoint, scratch: Path) -> Path:
    """Convert into a folder in `scratch`, on rank 0."""
    folder = scratch / f".universal-{checkpoint.path.name}"
    problem = None
    if dist.get_rank() == 0:
        try:
            convert(checkpoint, folder)
        except PretrainError as error:
            problem = str(error)
        except OSError as error:  # the other ranks wait for an answer
            problem = str(os_problem(error))
    if problem := gather_objects(problem)[0]:
        raise PretrainError(problem)
    return folder


def _create_optimizer_states(engine: Any) -> None:
    """One optimizer step of length zero on gradients of zero: torch's optimizers create their states in `step`."""
    inner = _inner_optimizer(engine)
    for group in inner.param_groups:
        group["lr"] = 0.0
    gradients = [part.grad for part in _masters(engine)]  # stage 3 has buffers there for offloaded states
    for part in _masters(engine):
        part.grad = torch.zeros_like(part)
    if engine.zero_optimization_stage() == 3:  # whose groups are empty between two steps
        for number, part in enumerate(_masters(engine)):
            group = inner.param_groups[engine.optimizer.sub_group_to_group_id[number]]
            group["params"] = [part]
            inner.step()
            group["params"] = []
    else:
        inner.step()
    for part, gradient in zip(_masters(engine), gradients, strict=True):
        part.grad = gradient
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _inner_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The optimizer that `build_optimizer` made, under DeepSpeed's."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _masters(engine: Any) -> list[torch.Tensor]:
    """The fp32 tensors that the optimizer steps: flat partitions with ZeRO, the parameters themselves without."""
    optimizer = engine.optimizer
    for name in ("single_partition_of_fp32_groups", "fp32_groups_flat_partition", "fp32_partitioned_groups_flat"):
        if hasattr(optimizer, name):
            return getattr(optimizer, name)
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _set_state(engine: Any, parameter: Any, state: State) -> None:
    """Write each rank's part of one parameter's fp32 weight and optimizer states."""
    stage = engine.zero_optimization_stage()
    for key, value in state.items():
        optimizer_key = None if key == "fp32" else key
        if stage == 3:
            _set_stage_3_part(parameter, value, optimizer_key)
        elif stage > 0:
            parameter.set_full_hp_param(value, optimizer_key)
        else:
            _set_unsharded(engine, parameter, value, optimizer_key)


def _set_stage_3_part(parameter: Any, value: torch.Tensor, optimizer_key: str | None) -> None:
    """DeepSpeed's setter of whole parameters does not know that the last rank's part is padded: cut it here."""
    size = parameter.ds_tensor.numel()
    start = size * dist.get_rank()
    part = value.flatten()[start : start + size]
    part = F.pad(part, (0, size - part.numel()))
    parameter._z3_optimizer.set_local_hp_param(part, parameter, optimizer_key)


def _set_unsharded(engine: Any, parameter: nn.Parameter, value: torch.Tensor, optimizer_key: str | None) -> None:
    optimizer = engine.optimizer
    master = parameter
    for low, high in zip(getattr(optimizer, "fp16_groups", []), getattr(optimizer, "fp32_groups", []), strict=True):
        for weight, copy in zip(low, high, strict=True):
            master = copy if weight is parameter else master
    target = master if optimizer_key is None else _inner_optimizer(engine).state[master][optimizer_key]
    target.data.copy_(value.reshape(target.shape))  # from stage 3 it comes flat


def _set_step(engine: Any, step: int) -> None:
    """Give every part a step counter of its own."""
    for state in _inner_optimizer(engine).state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = torch.full_like(state["step"], float(step))


def _refresh_weights(engine: Any) -> None:
    """Make the weights that the model computes with follow the fp32 ones."""
    optimizer, stage = engine.optimizer, engine.zero_optimization_stage()
    if stage == 3:
        for number in range(len(optimizer.fp32_partitioned_groups_flat)):
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
    elif stage > 0:
        optimizer.update_lp_params()
    elif hasattr(optimizer, "fp32_groups"):
        for low, high in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for weight, master in zip(low, high, strict=True):
                weight.data.copy_(master.data)
