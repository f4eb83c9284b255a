"""What is optimized how: the options."""

from dataclasses import dataclass
from typing import Any, Literal

from data_pipeline import Problem


@dataclass
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019) by default, with the values of the ACN paper's BERT."""

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
    name: Literal["adamw", "lamb", "muon"] = "adamw"
    """adamw; lamb for very large batches (arXiv 1904.00962), up to zero_stage 2; muon for the matrices of the hidden
    layers and the head (kellerjordan.github.io/posts/muon) with AdamW for embeddings and vectors. Muon's steps are
    scaled to the size of AdamW's (arXiv 2502.16982), so lr and weight_decay mean the same for both."""
    momentum: float | None = None
    """muon: momentum of the matrices; 0.95 if not given."""
    fused: bool | None = None
    """adamw: update all weights in one pass; null for where torch has such a kernel, on CPUs and CUDA."""

    def problems(self) -> list[Problem]:
        found = []
        if not self.lr > 0:
            found.append(Problem("optim.lr", self.lr, "must be above 0"))
        if not all(0 <= beta < 1 for beta in self.betas):
            found.append(Problem("optim.betas", self.betas, "must both be in [0, 1)"))
        for name in ("eps", "weight_decay", "grad_clip"):
            if not getattr(self, name) >= 0:
                found.append(Problem(f"optim.{name}", getattr(self, name), "must not be negative"))
        if self.momentum is not None:
            if self.name != "muon":
                found.append(
                    Problem("optim.momentum", wrong=f"is for optim.name muon, not {self.name}", fix="leave it out")
                )
            if not 0 <= self.momentum < 1:
                found.append(Problem("optim.momentum", self.momentum, "must be in [0, 1)"))
        if self.fused is not None and self.name != "adamw":
            found.append(Problem("optim.fused", wrong=f"is for optim.name adamw, not {self.name}", fix="leave it out"))
        return found

    def sharding_problems(self, zero_stage: int, offloaded: bool, precision: str) -> list[Problem]:
        """Why this optimizer would not compute what it promises under these settings, each with its fix.

        LAMB and Muon look at whole tensors, which ZeRO's flat partitions hide. Those cases are refused in which the
        result was not seen to equal an independent computation.
        """
        if self.name == "adamw":
            return []
        found = []
        if offloaded:
            found.append(Problem("optim.name", self.name, "does not go with offload.optimizer", "use none, or adamw"))
        if self.name == "lamb" and zero_stage == 3:
            found.append(
                Problem(
                    "optim.name",
                    "lamb",
                    "needs whole tensors' norms, which zero_stage=3 does not give",
                    "use 0, 1 or 2",
                )
            )
        if self.name == "muon" and zero_stage and self.grad_clip:
            found.append(
                Problem(
                    "optim.grad_clip",
                    self.grad_clip,
                    f"with optim.name=muon and zero_stage={zero_stage}",
                    "DeepSpeed would clip Muon's finished steps instead of gradients; set optim.grad_clip 0 or "
                    "zero_stage 0",
                )
            )
        if self.name == "muon" and precision == "fp16":
            found.append(Problem("optim.name", "muon", "does not go with precision=fp16", "use bf16 or fp32"))
        return found

    def deepspeed_settings(self, zero_stage: int) -> dict[str, Any]:
        """Entries that this optimizer needs in DeepSpeed's configuration."""
        settings: dict[str, Any] = {"zero_allow_untested_optimizer": True} if self.name != "adamw" else {}
        if self.name == "muon" and zero_stage == 3:  # it wants whole gradients
            settings["zero_optimization"] = {"reduce_scatter": False}
        return settings


@dataclass
class EmaConfig:
    """A running average of the weights; while the rate is high it often scores better than the weights themselves."""

    decay: float = 0.0
    """Weight of the past per step, 0.999 for instance; 0 keeps no average. Early on it is (1 + step) / (10 + step), so
    that the initial weights are soon forgotten."""
    every: int = 10
    """Steps between two updates, each with the decay of as many steps. ZeRO gathers all weights for one."""

    def problems(self) -> list[Problem]:
        found = []
        if not 0 <= self.decay < 1:
            found.append(Problem("ema.decay", self.decay, "must be in [0, 1)"))
        if self.every < 1:
            found.append(Problem("ema.every", self.every, "must be at least 1"))
        return found
