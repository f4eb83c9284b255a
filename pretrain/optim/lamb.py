"""LAMB, also where ZeRO has cut the weights into flat partitions.

Each tensor's step is scaled by the ratio of two norms over the whole tensor. ZeRO 1 and 2 hand an optimizer one flat
slice of all weights per rank, in which a tensor is a piece that may begin and end on other ranks; a LAMB that takes the
slice for one tensor trains silently wrong. This one is told where the pieces are and adds their squared norms up over
the ranks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Piece:
    """The part of one weight tensor that lies in a flat partition."""

    tensor: int
    """Number of the tensor in its parameter group, the same on every rank."""
    start: int
    """First element in the partition."""
    length: int


@dataclass(frozen=True)
class Layout:
    """What a flat partition holds; elements outside the pieces are padding."""

    tensors: int
    """Tensors of the whole parameter group."""
    pieces: tuple[Piece, ...]


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments (You et al. 2020, arXiv 1904.00962, algorithm 2, with phi the identity).

    Per tensor x: Adam's bias-corrected moments give r = m / (sqrt(v) + eps); the step is lr * (|x| / |u|) * u along
    u = r + weight_decay * x. Groups with `adapt` False (biases and norms, as in the authors' code) have ratio 1, and so
    has a tensor while one of its norms is 0.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": True}
        super().__init__(params, defaults)
        self._layouts: list[Layout] | None = None

    def use_partitions(self, layouts: list[Layout]) -> None:
        """Tell where the tensors are: from now on every group holds one flat partition, laid out as its `Layout` says.

        Steps are collectives from here on.
        """
        assert len(layouts) == len(self.param_groups)
        self._layouts = layouts

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Apply one update. A collective when the weights are partitioned."""
        assert closure is None, "LAMB evaluates nothing itself"
        for number, group in enumerate(self.param_groups):
            layout = self._layouts[number] if self._layouts is not None else None
            for parameter in group["params"]:
                if parameter.grad is None and layout is None:
                    continue
                update = self._direction(parameter, group)
                if group["adapt"]:
                    pieces = layout or Layout(1, (Piece(0, 0, parameter.numel()),))
                    _scale_by_trust(update.view(-1), parameter.view(-1), pieces, across_ranks=layout is not None)
                parameter.add_(update, alpha=-group["lr"])

    def _direction(self, parameter: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """u = r + weight_decay * x, after taking the gradient into the moments."""
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        state = self.state[parameter]
        if not state:  # the names are those of torch's AdamW, which DeepSpeed's checkpoint tools look for
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2) = int(state["step"]), group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        spread = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
        update = (state["exp_avg"] / (1 - beta1**step)).div_(spread)
        return update.add_(parameter, alpha=group["weight_decay"])


def _scale_by_trust(update: torch.Tensor, weights: torch.Tensor, layout: Layout, across_ranks: bool) -> None:
    """Multiply every piece of `update` (N,) by |x| / |u| of the tensor it belongs to."""
    squares = torch.zeros(2, layout.tensors, device=update.device)
    for piece in layout.pieces:
        for row, values in enumerate((weights, update)):
            squares[row, piece.tensor] += values.narrow(0, piece.start, piece.length).square().sum()
    if across_ranks:
        dist.all_reduce(squares)
    weight_norms, update_norms = squares.sqrt()
    ratios = torch.where((weight_norms > 0) & (update_norms > 0), weight_norms / update_norms, 1.0)
    for piece in layout.pieces:
        update.narrow(0, piece.start, piece.length).mul_(ratios[piece.tensor])


def partition_layouts(zero_optimizer: Any) -> list[Layout]:
    """Where DeepSpeed's ZeRO 1 or 2 optimizer keeps the tensors in this rank's flat partitions, group by group."""
    # its bf16 variant of stage 1 has another name for the same list
    groups = getattr(zero_optimizer, "bit16_groups", None) or zero_optimizer.bf16_groups
    layouts = []
    for tensors in groups:
        mappings = [(number, tensor._hp_mapping) for number, tensor in enumerate(tensors)]
        addresses = [(number, held.get_hp_fragment_address()) for number, held in mappings if held is not None]
        pieces = tuple(Piece(number, address.start, address.numel) for number, address in addresses)
        layouts.append(Layout(len(tensors), pieces))
    return layouts
