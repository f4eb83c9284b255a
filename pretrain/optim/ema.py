"""An exponential moving average of the weights, evaluated and exported beside the raw ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from .config import EmaConfig
from .optimizers import master_copies

EMA_FILE = "ema.pt"
Model = TypeVar("Model", bound=nn.Module)


class Ema(Generic[Model]):
    """The average, as a model of its own in fp32 on every rank: one more copy of the weights, at any ZeRO stage."""

    def __init__(self, config: EmaConfig, model: Model, device: torch.device) -> None:
        """`model`: of the trained architecture, with weights of no importance; `start` or `load` gives it others."""
        self.config = config
        self.model: Model = model.to(device=device, dtype=torch.float32).eval().requires_grad_(False)

    @torch.no_grad()
    def start(self, engine: Any) -> None:
        """Begin with the engine's weights. A collective."""
        self._blend(engine, past=0.0)

    def update(self, engine: Any, step: int) -> None:
        """Take the weights after `step` optimizer steps into the average, when due. A collective."""
        if step % self.config.every == 0:
            decay = min(self.config.decay, (1 + step) / (10 + step))
            self._blend(engine, past=decay**self.config.every)

    @torch.no_grad()
    def _blend(self, engine: Any, past: float) -> None:
        average = dict(self.model.named_parameters())
        for name, weight in full_fp32_weights(engine):
            if name not in average:  # the projection of a run with a teacher
                continue
            average[name].lerp_(weight.to(average[name].device), 1 - past)

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        """What one rank adds to a checkpoint, by file name."""
        return {EMA_FILE: self.model.state_dict()}

    def load(self, checkpoint: Path) -> bool:
        """Take up the average in a checkpoint's folder, which is checked and being loaded; False if it has none."""
        file = checkpoint / EMA_FILE
        if not file.exists():
            return False
        self.model.load_state_dict(torch.load(file, map_location="cpu"))
        return True


def full_fp32_weights(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole fp32 weights (the optimizer's own) of every parameter, at any ZeRO stage and precision.

    A collective at stages 1 to 3: every rank must take all of them.
    """
    from ..lean_deepspeed import deepspeed

    sharded = engine.zero_optimization_stage() > 0
    copies = {} if sharded else {id(parameter): copy for parameter, copy in master_copies(engine)}
    for name, parameter in engine.module.named_parameters():
        if sharded:
            yield name, deepspeed.utils.safe_get_full_fp32_param(parameter)
        else:
            yield name, copies.get(id(parameter), parameter).detach()
