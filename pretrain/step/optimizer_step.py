"""One optimizer step of the engine: all gradients clipped by their norm, and a step that is not finite left out.

`HostSteps` lets DeepSpeed read the norm back to decide. `DeviceSteps` never asks the device: the norm stays there, and
the fused AdamW kernel itself passes over a step whose norm is not finite. The weights are the same.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from modeling import resolve_precision

from ..config import PretrainConfig
from ..engine import clips_outside
from ..optim import master_copies
from .late import Reading


def runs_ahead(config: PretrainConfig) -> bool:
    """Whether the host runs ahead of the device: where it is asked to, or can, and there is a device to keep busy."""
    if config.run_ahead != "auto":
        return config.run_ahead
    return torch.cuda.is_available() and not what_waits(config)


def what_waits(config: PretrainConfig) -> list[str]:
    """The options with which the host has to wait for the device in every step."""
    precision = resolve_precision(config.precision)
    found = {
        f"optim.name={config.optim.name}": config.optim.name != "adamw",
        "optim.fused=false": config.optim.fused is False,
        "zero_stage=3": config.zero_stage == 3,
        f"precision={precision}": precision == "fp16",
        "offload": config.offload.optimizer != "none",
        "health.spike": config.health.spike is not None,
    }
    return [option for option, waits in found.items() if waits]


def engine_steps(engine: Any, config: PretrainConfig, ahead: bool) -> "HostSteps":
    """What makes the steps of `engine`.

    Args:
        ahead: without waiting for the device.
    """
    if ahead:
        return DeviceSteps(engine, config.optim.grad_clip)
    return HostSteps(engine, config.optim.grad_clip if clips_outside(config) else None, config.supervision.drops)


def fill_gradients(model: nn.Module) -> None:
    """A gradient of 0 for parameters that the step did not use, as ZeRO gives them one: layers that were left out.

    An optimizer would pass over them, and what a run gives depend on its stage.
    """
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def forget_gradients(engine: Any) -> None:
    """Have stage 3 and offloaded states give parameters that the next step does not use a gradient of 0, too.

    DeepSpeed 0.19.8 writes each gradient over that of the step before, and of a layer that is left out it would apply
    the last one again (stage3.py, `partition_grads`, and stage_1_and_2.py, `copy_grads_in_partition`).
    """
    zero = engine.optimizer
    flat = getattr(zero, "fp32_partitioned_groups_flat", getattr(zero, "single_partition_of_fp32_groups", []))
    for gradient in (*(part.grad for part in flat), getattr(zero, "grad_partitions_flat_buffer", None)):
        if gradient is not None:
            gradient.zero_()


class HostSteps:
    """Steps for which the host waits, with any optimizer and precision.

    Args:
        clip: the norm to clip at where DeepSpeed does not do it (`clips_outside`), else None.
        drops: layers are left out of steps.
    """

    def __init__(self, engine: Any, clip: float | None, drops: bool = False):
        self.engine, self._clip, self._drops = engine, clip, drops

    def __call__(self) -> Reading | None:
        """`engine.step()`; at the end of an accumulation whether the weights moved (1 or 0), else None.

        All ranks get the same answer, because it hangs on the norm of the global gradient: when that is not finite,
        DeepSpeed drops the gradient and leaves weights and optimizer states as they are. So does this function in plain
        fp32 without ZeRO, where DeepSpeed has no such check.
        """
        last = self.engine.is_gradient_accumulation_boundary()
        finite = True
        if last and self._clip is not None:
            fill_gradients(self.engine.module)
            norm = nn.utils.clip_grad_norm_(self.engine.module.parameters(), self._clip or math.inf)
            self.engine._global_grad_norm = norm.item()
            finite = math.isfinite(self.engine._global_grad_norm)
            if not finite:
                self.engine.zero_grad()  # our optimizers pass over parameters without a gradient
        self.engine.step()
        if last and self._drops:
            forget_gradients(self.engine)
        return Reading(torch.tensor(float(finite and self.engine.was_step_applied()))) if last else None

    def metrics(self) -> dict[str, float]:
        """Of the last step: its gradient's global norm before clipping, if that is finite, and fp16's loss scale."""
        norm = self.gradient_norm()
        found = {} if norm is None or not math.isfinite(norm) else {"train/gradient_norm": float(norm)}
        return found | ({"train/loss_scale": float(self.engine.loss_scale())} if self.engine.fp16_enabled() else {})

    def gradient_norm(self) -> float | torch.Tensor | None:
        """The norm as it is known here; reading it may wait for the device."""
        return self.engine.get_global_grad_norm()


class DeviceSteps(HostSteps):
    """Steps for which nobody waits, with fused AdamW in fp32 and bf16 and ZeRO up to stage 2.

    DeepSpeed's optimizers read the norm several times a step (0.19.8: `is_invalid_grad_norm` and `has_overflow` in
    stage_1_and_2.py, bf16_optimizer.py and unfused_optimizer.py), and no option of theirs keeps the check without the
    reading. Each has the part that does so replaced here, by the same arithmetic on the device.
    """

    def __init__(self, engine: Any, clip: float):
        super().__init__(engine, None)
        self._most, self._adamw = clip, engine.basic_optimizer
        self._norm = torch.zeros(())
        inner = engine.optimizer
        self._plain = inner is self._adamw
        if hasattr(inner, "fp32_groups_gradient_flat_partition"):  # stage 1 in bf16
            inner.step = self._step_partitions
        elif hasattr(inner, "averaged_gradients"):  # stage 1 in fp32, stage 2
            inner.check_grad_overflow = False
            inner.scaled_global_norm = self._norm_of_partitions
            inner.unscale_and_clip_grads = lambda gradients, _: self._scale_down(gradients)
        elif not self._plain:  # bf16 without ZeRO
            inner.step = self._step_copies

    def __call__(self) -> Reading | None:
        last = self.engine.is_gradient_accumulation_boundary()
        if last and self._plain:
            fill_gradients(self.engine.module)
            parameters = list(self.engine.module.parameters())
            self._judge(nn.utils.clip_grad_norm_(parameters, self._most or math.inf))
        self.engine.step()
        return Reading(1 - self._adamw.found_inf) if last else None

    def gradient_norm(self) -> float | torch.Tensor | None:
        return self._norm

    def _judge(self, norm: torch.Tensor) -> None:
        """Tell AdamW's kernel to pass over the step if `norm` () is not finite."""
        self._norm = norm
        self._adamw.found_inf = (~norm.isfinite()).float()

    def _scale_down(self, gradients: Sequence[torch.Tensor]) -> None:
        """Clip by the norm of the step, as DeepSpeed's ZeRO does."""
        if self._most:
            factor = 1.0 / torch.clamp((self._norm + 1e-6) / self._most, min=1.0)
            torch._foreach_mul_(list(gradients), factor)

    def _norm_of_partitions(self, norm_type: int = 2) -> float:
        """Take the norm over all ranks' partitions; DeepSpeed is told of a finite one."""
        inner, groups = self.engine.optimizer, []
        for gradients in inner.averaged_gradients.values():
            own = [g for g in gradients or () if not getattr(g, "_zero_padding", False)]
            norms = torch._foreach_norm(own, 2, torch.double) if own else [torch.zeros((), device=inner.device)]
            groups.append(torch.stack(norms).square().sum().float())
        squares = torch.stack(groups)
        dist.all_reduce(squares, group=inner.dp_process_group)
        self._judge(torch.linalg.vector_norm(squares.sqrt()))
        return 1.0

    def _step_partitions(self, closure: Any = None) -> None:
        """`BF16_Optimizer.step`, whose ranks have all gradients whole and step their partitions of the weights."""
        inner = self.engine.optimizer
        gradients, _ = inner.get_grads_for_norm()
        self._judge(torch.stack(torch._foreach_norm(gradients)).square().sum().sqrt())
        if self._most:
            factor = torch.clamp(self._most / (self._norm + 1e-6), max=1.0)
            torch._foreach_mul_(inner.get_grads_for_norm(for_clipping=True), factor)
        for part, gradient in zip(
            inner.fp32_groups_flat_partition, inner.fp32_groups_gradient_flat_partition, strict=True
        ):
            part.grad = gradient
        self._adamw.step()
        inner._lazy_init_hp_params_optimizer_state()
        inner.update_lp_params()
        inner.clear_hp_grads()

    def _step_copies(self, closure: Any = None) -> None:
        """`FP16_UnfusedOptimizer.step`: half-precision gradients, and weights that are copies of fp32 ones."""
        pairs = master_copies(self.engine)
        gradients = [
            torch.zeros_like(copy) if parameter.grad is None else parameter.grad.to(copy.dtype)
            for parameter, copy in pairs
        ]
        self._judge(torch.stack(torch._foreach_norm(gradients)).square().sum().sqrt())
        self._scale_down(gradients)
        for (_, copy), gradient in zip(pairs, gradients, strict=True):
            copy.grad = gradient
        self._adamw.step()
        for parameter, copy in pairs:
            copy.grad = None
            parameter.data.copy_(copy.data)
