"""How the gradient reaches each layer: directly through the read-out, or through the layers above.

In an ACN the loss L depends on a layer's output x_i in two ways (figure 2 of "Auto-Compressing Networks",
arXiv 2506.09714):

    dL/dx_i  =  dL/dy  +  dL/dx_{i+1} dx_{i+1}/dx_i
      full      direct       network-mediated

because y = x_0 + ... + x_L contains x_i itself. The direct part dominates the early layers of an ACN, so they train
first. Read-outs that are x_L alone (residual, feedforward; reversible, whose x_i are both streams) have a direct part
at the last layer only.
"""

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import nn

from .modeling_acn import AcnPreTrainedModel


@dataclass(frozen=True)
class LayerGradient:
    """What one backward pass did to one layer; layer 0 is the embeddings."""

    layer: int
    """i, 0..L."""
    full_norm: float
    """Euclidean norm of dL/dx_i over the batch."""
    direct_norm: float
    """Norm of its direct part, dL/dy where the read-out contains x_i, else 0."""
    parameter_norm: float
    """Norm of the gradient of the layer's own parameters (weights tied to the decoder count at layer 0)."""

    @property
    def direct_share(self) -> float:
        """direct_norm / full_norm; above 1 where the mediated part opposes the direct one."""
        return self.direct_norm / self.full_norm if self.full_norm else math.nan


class AcnGradientProbe:
    """Measures one forward and backward pass of a training loop, without an extra one:

        with AcnGradientProbe(model) as probe:
            loss = model(**batch).loss
            loss.backward()  # or engine.backward(loss)
        for gradient in probe.report():
            log(f"direct_share_{gradient.layer:02d}", gradient.direct_share)

    It listens to the gradients as autograd computes them: `.grad` is neither read nor changed, so accumulation, ZeRO
    and clipping do not matter (a loss scaled before its backward scales the norms, not the shares). Until `report`
    nothing waits for the device. Works with gradient checkpointing and `depth=k`; give it the model before
    `torch.compile`.
    """

    def __init__(self, model: AcnPreTrainedModel):
        self.base = model.base_model
        self._hooks: list[Any] = []
        self._layers = 0
        self._squares: dict[tuple[str, int], torch.Tensor] = {}

    def __enter__(self) -> "AcnGradientProbe":
        self._layers, self._squares = 0, {}
        self._hooks = [
            self.base.embeddings.register_forward_hook(self._on_embeddings),
            # before the hooks of ZeRO 3, which hand the module an alias: the gradient that reaches x_k through the
            # next layer would not pass by it
            self.base.read_out.register_forward_pre_hook(self._on_layer, prepend=True),
            self.base.read_out.register_forward_hook(self._on_read_out),
        ]
        for layer, module in enumerate([self.base.embeddings, *self.base.layers]):
            for parameter in module.parameters():
                if parameter.requires_grad:
                    self._listen(parameter, "parameters", layer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _listen(self, tensor: torch.Tensor, name: str, layer: int) -> None:
        """Add the squared norm of each gradient that arrives at `tensor` to the sum of (name, layer)."""

        def on_gradient(gradient: torch.Tensor) -> None:
            square = gradient.detach().float().square().sum()
            known = self._squares.get((name, layer))
            self._squares[name, layer] = square if known is None else known + square

        self._hooks.append(tensor.register_hook(on_gradient))

    def _on_embeddings(self, module: nn.Module, inputs: Any, x_0: torch.Tensor) -> None:
        if self._layers or self._squares.get(("full", 0)) is not None:
            raise RuntimeError("AcnGradientProbe measures one forward pass: open it anew for the next")
        self._listen(x_0, "full", 0)

    def _on_layer(self, module: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        # x_k is listened to here rather than at the layer, which gradient checkpointing runs twice
        self._layers += 1
        self._listen(inputs[1], "full", self._layers)

    def _on_read_out(self, module: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor], y_k: torch.Tensor) -> None:
        self._listen(y_k, "read-out", self._layers)

    def _norm(self, name: str, layer: int) -> float:
        square = self._squares.get((name, layer))
        return 0.0 if square is None else math.sqrt(square.item())

    def report(self) -> list[LayerGradient]:
        """One entry per layer 0..k that ran, after the backward pass.

        Raises:
            RuntimeError: no backward pass was seen.
        """
        if not self._squares:
            raise RuntimeError("AcnGradientProbe saw no backward pass: run forward and backward inside its `with`")
        last = self._layers
        reads_all = self.base.read_out.sums_layers
        # all of the last layer's gradient is direct; of a sum it is the sum's
        direct = self._norm("read-out" if reads_all and last else "full", last)
        return [
            LayerGradient(
                layer=layer,
                full_norm=self._norm("full", layer),
                direct_norm=direct if reads_all or layer == last else 0.0,
                parameter_norm=self._norm("parameters", layer),
            )
            for layer in range(last + 1)
        ]
