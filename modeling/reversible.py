# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""The backward pass of a reversible stack: activations are computed again from what the last layer left.

"The Reversible Residual Network" (arXiv 1707.04585), for transformers as in "Reformer" (arXiv 2001.04451). A layer has
two streams s1 and s2, and two branches F (attention) and G (feed-forward), each of one stream alone:

    forward   s1' = s1 + F(s2)      s2' = s2 + G(s1')
    back      s2 = s2' - G(s1')     s1 = s1' - F(s2)

With the gradients g1 and g2 of s1' and s2', and G'(v) for the product of v with G's Jacobian,

    dL/ds1 = g1 + G'(g2)            dL/ds2 = g2 + F'(dL/ds1)

so that one more evaluation of each branch gives its input, its weights' gradients and what the layer below needs. Of a
pass over any number of layers one pair of streams is kept, and where there is dropout the random state of each branch.

A layer here is a module of (B, T, 2H), the streams side by side, whose branches are `layer(s2, part="attention", ...)`
and `layer(s1, part="mlp", ...)`. Remote code of the Hub: nothing of the project is imported.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


def _random_state(device: torch.device) -> torch.Tensor:
    """Of the generator that dropout on the device draws from."""
    return torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)


def _set_random_state(state: torch.Tensor, device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)


@contextmanager
def _as_drawn(state: torch.Tensor | None, device: torch.device) -> Iterator[None]:
    """Within the block dropout draws as it did after `state`; None: nothing is drawn."""
    if state is None:
        yield
        return
    now = _random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(now, device)


def _arithmetic(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The autocast of now, to be entered again. Its cache of cast weights stays out of it: it would hand copies made
    without gradient to the backward pass."""
    kind = device.type
    return partial(
        torch.autocast,
        kind,
        dtype=torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=False,
    )


class _Layer:
    """One evaluation of a layer, as it can be repeated."""

    def __init__(self, layer: Any, inputs: dict[str, Any], device: torch.device) -> None:
        """`inputs`: what the layer takes beside the streams."""
        self.layer, self.inputs, self.device = layer, inputs, device
        self.arithmetic = _arithmetic(device)
        dropouts = [module.p for module in layer.modules() if isinstance(module, nn.Dropout)]
        self.draws = max(*dropouts, layer.config.attention_probs_dropout_prob) > 0
        self.states: dict[str, torch.Tensor | None] = {"attention": None, "mlp": None}

    def _branch(self, part: str, stream: torch.Tensor, again: bool = True) -> torch.Tensor:
        if self.draws and not again:
            self.states[part] = _random_state(self.device)
        with self.arithmetic(), _as_drawn(self.states[part] if again else None, self.device):
            return self.layer(stream, part=part, **self.inputs)

    def forward(self, streams: torch.Tensor, again: bool = False) -> torch.Tensor:
        """(B, T, 2H) -> (B, T, 2H), without gradient; `again` with the same dropout as before.

        A compiled layer computes in the mode of the backward pass, whose graph is thrown away: another graph may drop
        other elements.
        """
        first, second = streams.chunk(2, dim=-1)
        with torch.set_grad_enabled(self.layer._compiled_call_impl is not None):
            first = first + self._branch("attention", second, again).detach()
            second = second + self._branch("mlp", first, again).detach()
        return torch.cat((first, second), dim=-1)

    @torch.no_grad()
    def undo(self, streams: torch.Tensor) -> torch.Tensor:
        """The streams that `forward` made these of."""
        first, second = streams.chunk(2, dim=-1)
        second = second - self._branch("mlp", first)
        return torch.cat((first - self._branch("attention", second), second), dim=-1)

    def _pull_back(self, part: str, stream: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A branch of `stream`, and the gradient there of one at its output; its weights' gradients are accumulated."""
        given = stream.detach().requires_grad_()
        with torch.enable_grad():
            branch = self._branch(part, given)
        torch.autograd.backward(branch, gradient.to(branch.dtype))
        assert given.grad is not None, "a branch is a function of its stream"
        return branch.detach(), given.grad

    def backward(self, streams: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The streams below and the gradient there, from those above."""
        (first, second), (to_first, to_second) = streams.chunk(2, dim=-1), gradient.chunk(2, dim=-1)
        branch, slope = self._pull_back("mlp", first, to_second)
        second, to_first = second - branch, to_first + slope
        branch, slope = self._pull_back("attention", second, to_first)
        first, to_second = first - branch, to_second + slope
        return torch.cat((first, second), dim=-1), torch.cat((to_first, to_second), dim=-1)


class Rebuilding:
    """Runs the layers of one forward pass one after the other and keeps the streams after the last of them alone.

    Autograd sees a node for each layer, so that read-outs of any depth may have a loss of their own; the gradient of
    weights arrives in `.grad` by a backward pass within the node's.
    """

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self.streams: torch.Tensor | None = None
        """(B, T, 2H) that are kept."""
        self._depth = 0  # of those, in layers of this pass

    def __call__(self, layer: nn.Module, streams: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """The streams (B, T, 2H) after one more layer; `streams` are those after the one before."""
        self._layers.append(_Layer(layer, inputs, streams.device))
        if not streams.requires_grad:  # where the embeddings are frozen
            streams = streams.detach().requires_grad_()
        return _Step.apply(streams, self, len(self._layers) - 1)

    def go_up(self, index: int, streams: torch.Tensor) -> torch.Tensor:
        """Run layer `index` of this pass."""
        result = self._layers[index].forward(streams)
        self.streams, self._depth = result.detach(), index + 1  # the result itself would be a circle with its node
        return result

    def come_down(self, index: int, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient below layer `index`, from that above it."""
        assert self.streams is not None, "a backward pass follows a forward pass"
        while self._depth > index + 1:  # no loss came through the layers above
            self._depth -= 1
            self.streams = self._layers[self._depth].undo(self.streams)
        while self._depth < index + 1:  # a second backward pass over the same graph
            with torch.no_grad():
                self.streams = self._layers[self._depth].forward(self.streams, again=True)
            self._depth += 1
        self.streams, gradient = self._layers[index].backward(self.streams, gradient)
        self._depth = index
        return gradient


class _Step(torch.autograd.Function):
    """One layer, whose input is not kept."""

    @staticmethod
    def forward(ctx: Any, streams: torch.Tensor, rebuilding: Rebuilding, index: int) -> torch.Tensor:
        ctx.rebuilding, ctx.index = rebuilding, index
        return rebuilding.go_up(index, streams)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        if not torch.autograd._is_checkpoint_valid():
            raise RuntimeError(
                "torch.autograd.grad, and backward(inputs=...), do not go with the rebuilt activations of a reversible "
                "model in training: use backward() alone, or model.eval(), which keeps activations"
            )
        return ctx.rebuilding.come_down(ctx.index, gradient), None, None
