"""AdamW with decay on matrices only."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019); the defaults are those of the ACN paper's BERT."""

    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the running mean and variance of the gradient."""
    eps: float = 1e-9
    """Added to the denominator."""
    weight_decay: float = 0.01
    """Decoupled weight decay on matrices and embeddings; biases and norms have none."""
    grad_clip: float = 0.5
    """Global gradient norm above which gradients are scaled down; 0 switches clipping off."""

    def problems(self) -> list[str]:
        """Every bad value, each with its mend."""
        found = []
        if self.lr <= 0:
            found.append(f"optim.lr={self.lr} must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            found.append(f"optim.betas={self.betas} must both be in [0, 1)")
        for name in ("eps", "weight_decay", "grad_clip"):
            if getattr(self, name) < 0:
                found.append(f"optim.{name}={getattr(self, name)} must not be negative")
        return found


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices and embeddings with decay; vectors and scalars (biases, norms) without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """torch's AdamW over `parameter_groups` (fused on CUDA, where it is faster)."""
    on_cuda = next(model.parameters()).is_cuda
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=config.lr, betas=config.betas, eps=config.eps, fused=on_cuda
    )
