"""The short residuals of an ACN in training, at a scale that goes down to nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from modeling import AcnForMaskedLM

from .config import AnnealConfig


class AnnealedShortcut(nn.Module):
    """What stands in a layer's `shortcut` while a run anneals: the input of a sub-layer times a number that all share.

    It has no parameters and no buffers, so that checkpoints know nothing of it. The number is a tensor, which compiled
    layers take as an input: as a Python number each of its values would be compiled for.
    """

    scale: torch.Tensor | None

    def __init__(self, scale: torch.Tensor) -> None:
        """`scale`: 0-dimensional, fp32, on the model's device; a scalar leaves the sum in the layer's precision."""
        super().__init__()
        self.scale = scale

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """Both (B, T, H). Without a scale, exactly what an ACN computes."""
        return branch if self.scale is None else branch + self.scale * shortcut


class Annealing:
    """Puts shortcuts into every layer of some ACNs, if the run has any, and sets their scale.

    Args:
        models: which DeepSpeed has not seen yet.
        device: where they will be.
        say: tells the user something.
    """

    def __init__(
        self,
        config: AnnealConfig,
        models: Sequence[AcnForMaskedLM],
        device: torch.device,
        say: Callable[[str], None] = print,
    ) -> None:
        self._say = say
        self._saved: float | None = None
        self._scale = torch.zeros((), device=device)
        self._layers: list[Any] = [layer for model in models for layer in model.acn.layers] if config.share else []
        self._is_there = True
        for layer in self._layers:
            layer.shortcut = AnnealedShortcut(self._scale)

    def go_on_at(self, scale: float) -> None:
        """Have the scale that a checkpoint was trained at, until the next step sets its own."""
        self.set(scale)
        self._saved = scale

    def set(self, scale: float) -> None:
        """Let every shortcut have this scale from now on; at 0 there is none."""
        saved, self._saved = self._saved, None
        if saved is not None and scale > saved:  # another budget, or another annealing
            self._say(
                f"WARNING: the shortcuts are back at scale {scale:.3g}; the checkpoint was trained at {saved:.3g}"
            )
        self._scale.fill_(scale)
        if self._is_there == (scale > 0):
            return
        self._is_there = scale > 0
        for layer in self._layers:
            layer.shortcut.scale = self._scale if self._is_there else None
        if any(layer._compiled_call_impl is not None for layer in self._layers):
            torch.compiler.reset()  # else the versions of before would count towards torch's limit of recompilations
