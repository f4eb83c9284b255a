"""How the gradient reaches every layer while a run goes on: norms and direct shares, from its own backward passes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from modeling import AcnForMaskedLM, AcnGradientProbe


class GradientProbe:
    """Measures one micro-batch of a training step, without a backward pass of its own:

        with probe.listen():
            loss = engine(...).loss
            probe.watch(loss)
            engine.backward(loss)
        metrics = probe.metrics()

    The norms are those of the micro-batch's mean loss: what multiplies the loss before its backward pass (a loss
    scale, one over the accumulation steps) is seen as the gradient that arrives at the loss, and divided out. Nothing
    waits for the device before `metrics`. Works at every ZeRO stage: autograd is listened to, not `.grad`.
    """

    def __init__(self, model: AcnForMaskedLM):
        self._probe = AcnGradientProbe(model)
        self._scale: torch.Tensor | None = None
        self.watching = False
        """Whether `watch` was called in this `listen`."""

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Measure the one forward and backward pass inside."""
        self._scale, self.watching = None, False
        with self._probe:
            yield

    def watch(self, loss: torch.Tensor) -> None:
        """Learn from the backward pass of `loss` how it was scaled."""
        self.watching = True

        def on_gradient(gradient: torch.Tensor) -> None:
            self._scale = gradient.detach().float()

        loss.register_hook(on_gradient)

    def metrics(self) -> dict[str, float]:
        """Per layer 0..L (0 is the embeddings), of the mean over the ranks. Collective.

        `probe/gradient_norm_layer_XX`: Euclidean norm of dL/dx_i over a rank's micro-batch;
        `probe/direct_share_layer_XX`: norm of the part that comes through the read-out alone, over that norm;
        `probe/parameter_gradient_norm_layer_XX`: norm over the layer's own weights. NaN where fp16 overflowed.
        """
        assert self._scale is not None, "watch() the loss inside listen()"
        report = self._probe.report()
        norms = torch.tensor(
            [[layer.full_norm, layer.direct_norm, layer.parameter_norm] for layer in report],
            dtype=torch.float64,
            device=self._scale.device,
        )
        norms /= self._scale.abs()
        dist.all_reduce(norms)
        norms /= dist.get_world_size()
        metrics = {}
        for layer, (full, direct, parameters) in enumerate(norms.tolist()):
            metrics[f"probe/gradient_norm_layer_{layer:02d}"] = full
            metrics[f"probe/direct_share_layer_{layer:02d}"] = direct / full if full else math.nan
            metrics[f"probe/parameter_gradient_norm_layer_{layer:02d}"] = parameters
        return metrics
