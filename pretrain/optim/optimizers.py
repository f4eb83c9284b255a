"""The optimizers, and which of them are sound under which ZeRO stage."""

import math
from typing import Any

import torch
from torch import nn

from .config import OptimConfig
from .lamb import Lamb, partition_layouts

CONVERTIBLE = ("adamw", "lamb")
"""Optimizers whose states are Adam's two moments. DeepSpeed's universal checkpoints know no others: a sharded run of
another optimizer cannot go on with another number of ranks, ZeRO stage or precision."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices and embeddings with decay; vectors and scalars (biases, norms) without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer for `model`, whose weights must still be whole (before DeepSpeed shards them)."""
    if config.name == "muon":
        return _muon(model, config)
    groups = parameter_groups(model, config.weight_decay)
    if config.name == "lamb":
        groups[1]["adapt"] = False
        return Lamb(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    fused = _device(model) in ("cpu", "cuda") if config.fused is None else config.fused
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def adapt_to_engine(engine: Any) -> None:
    """Make the optimizer and a new engine fit: once, before training or loading a checkpoint."""
    if engine.zero_optimization_stage() == 0:
        _undo_first_step(engine)
    elif isinstance(engine.basic_optimizer, Lamb):
        engine.basic_optimizer.use_partitions(partition_layouts(engine.optimizer))


def _undo_first_step(engine: Any) -> None:
    """Without ZeRO, DeepSpeed allocates the states of a bf16 or fp16 run by a step with zero gradients, which decays
    the weights and advances Adam's step counter (0.19.8, `FP16_UnfusedOptimizer.initialize_optimizer_states`)."""
    for parameter, copy in master_copies(engine):
        copy.data.copy_(parameter.data)
    engine.basic_optimizer.state.clear()


def master_copies(engine: Any) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Without ZeRO: each bf16 or fp16 parameter and the fp32 copy that the optimizer steps; empty in fp32."""
    low, full = (getattr(engine.optimizer, name, []) for name in ("fp16_groups", "fp32_groups"))
    groups = zip(low, full, strict=True)
    return [pair for halves, copies in groups for pair in zip(halves, copies, strict=True)]


def set_learning_rate(engine: Any, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate * group.get("rate_scale", 1.0)


def muon_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that map token states to token states: all but embeddings and decoder."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decoder = getattr(model, "get_output_embeddings", lambda: None)()
    if decoder is not None:
        tables.add(id(decoder.weight))
    return [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in tables]


def _muon(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """DeepSpeed's Muon, which orthogonalizes whole gradients at every ZeRO stage, with torch's AdamW beside it."""
    on_cuda = _device(model) == "cuda"
    if not on_cuda:  # DeepSpeed compiles Muon's kernels, which takes longer than it saves on a CPU
        torch.compiler.set_stance("force_eager")
    from .muon import Muon  # imports DeepSpeed

    matrices = {id(p): p for p in muon_matrices(model)}
    for parameter in model.parameters():
        parameter.use_muon = id(parameter) in matrices  # type: ignore[attr-defined]  # ZeRO looks at it
    adam = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    groups = []
    for group in parameter_groups(model, config.weight_decay):
        others = [p for p in group["params"] if id(p) not in matrices]
        groups.append({**group, **adam, "params": others, "use_muon": False})
    for rows, columns in sorted({tuple(p.shape) for p in matrices.values()}):
        # DeepSpeed's update of a matrix has the entries' root mean square sqrt(max(1, rows/columns)) / sqrt(max(rows,
        # columns)); this makes it 0.2, as AdamW's is
        scale = 0.2 * math.sqrt(max(rows, columns)) / math.sqrt(max(1.0, rows / columns))
        groups.append(
            {
                "params": [p for p in matrices.values() if tuple(p.shape) == (rows, columns)],
                "use_muon": True,
                "lr": config.lr * scale,
                "rate_scale": scale,
                "weight_decay": config.weight_decay / scale,  # it is multiplied by lr
                "momentum": 0.95 if config.momentum is None else config.momentum,
                "ns_method": "standard",
            }
        )
    return Muon(groups, adam_optimizer=torch.optim.AdamW, adam_optimizer_kwargs=adam | {"fused": on_cuda})


def _device(model: nn.Module) -> str:
    return next(model.parameters()).device.type
