"""The model of a run with a teacher: the one that is exported, and beside it a projection that is not."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from modeling import AcnConfig, AcnForMaskedLM, DepthWeights, supervised_loss

from .config import TeacherConfig
from .depths import LossParts, mean_divergence, predict_masked

RIDGE = 0.01
"""Added to the diagonal of the read-outs' covariance, as a share of its mean: of few tokens not everything is taken."""


@dataclass(frozen=True)
class Statistics:
    """What is known of a teacher's last hidden states before a run."""

    variance: float
    """Mean over the tokens of the squared distance to the mean state: what the match is divided by."""
    norm_weight: torch.Tensor
    """(H,) of a LayerNorm whose output looks like the states."""
    norm_bias: torch.Tensor
    """(H,) of the same."""


class Projection(nn.Module):
    """From the student's read-out to the teacher's last hidden states, both (B, T, H): a linear map and a LayerNorm."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)

    @torch.no_grad()
    def start(self, statistics: Statistics) -> None:
        """Begin as the identity, followed by the LayerNorm that gives the teacher's states their mean and spread."""
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.norm.weight.copy_(statistics.norm_weight)
        self.norm.bias.copy_(statistics.norm_bias)

    @torch.no_grad()
    def fit(self, samples: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Begin as the linear map that least squares find from read-outs to what the norm has to be given, both (N, H),
        in float64.

        A student that begins as its teacher has its knowledge spread
        over a sum: from the identity it would first learn, at the cost of its layers, how to read that sum.
        """
        width = self.dense.in_features
        sums = torch.zeros(2, width, dtype=torch.float64)
        products = torch.zeros(2, width, width, dtype=torch.float64)
        tokens = 0
        for read_out, normalized in samples:
            given, wanted = read_out.double().cpu(), normalized.double().cpu()
            sums += torch.stack([given.sum(0), wanted.sum(0)])
            products += torch.stack([given.T @ given, given.T @ wanted])
            tokens += len(given)
        mean, wanted_mean = sums / tokens
        covariance, shared = products / tokens - mean[:, None] * torch.stack([mean, wanted_mean])[:, None]
        ridge = RIDGE * covariance.diagonal().mean() * torch.eye(width, dtype=torch.float64)
        fitted = torch.linalg.solve(covariance + ridge, shared)
        self.dense.weight.copy_(fitted.T)
        self.dense.bias.copy_(wanted_mean - mean @ fitted)

    def forward(self, read_out: torch.Tensor) -> torch.Tensor:
        return self.norm(self.dense(read_out))


class Student(AcnForMaskedLM):
    """An ACN for masked tokens with a projection beside its head.

    The projection is part of this module, so that the engine trains, shards and saves it; all other weights have the
    names that they have in a run without a teacher, and `is_projection` tells the projection's.
    """

    def __init__(self, config: AcnConfig, teaching: TeacherConfig, statistics: Statistics) -> None:
        super().__init__(config)
        self.loss_type = "ForMaskedLM"  # which transformers would look for in the name of the class
        self.teaching = teaching
        self.variance = statistics.variance
        self.projection = Projection(config.hidden_size, config.layer_norm_eps)
        self.projection.start(statistics)

    def errors(self, read_out: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """The normalised squared error of every token, in fp32 or better: two of (B, T, H) -> (B, T)."""
        guess = self.projection(read_out.to(self.projection.dense.weight.dtype))
        precise = torch.promote_types(guess.dtype, torch.float32)
        return (guess.to(precise) - states.to(precise)).square().sum(-1) / self.variance

    def forward(
        self,
        states: torch.Tensor,
        real: torch.Tensor | None = None,
        masked_positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
        num_tokens_in_batch: torch.Tensor | None = None,
        depths: DepthWeights | None = None,
        **inputs: Any,
    ) -> LossParts:
        """The losses of a micro-batch.

        Args:
            states: (B, T, H) the teacher's, of the same tokens.
            real: (B, T) tokens that are no padding; None: all.
            masked_positions, labels: (B, M); without them only the match is computed.
            num_items_in_batch, num_tokens_in_batch: what the sums over targets and over real tokens are divided by;
                not given: there are as many in every micro-batch.
            depths: what the step trains; None: the whole model alone.
            inputs: `input_ids` (B, T), and of packed rows `seq_idx` and `position_ids`.
        """

        def answer(read_out: torch.Tensor) -> LossParts:
            errors = self.errors(read_out, states)
            errors = errors if real is None else errors * real
            match = errors.mean() if num_tokens_in_batch is None else errors.sum() / num_tokens_in_batch
            loss, logits, mlm_loss = self.teaching.weight * match, None, None
            if labels is not None:
                assert masked_positions is not None, "labels are those of the masked positions"
                logits, mlm_loss = predict_masked(self, read_out, masked_positions, labels, num_items_in_batch)
                loss = loss + self.teaching.mlm_weight * mlm_loss
                mlm_loss = mlm_loss.detach()
            return LossParts(loss=loss, logits=logits, match=match.detach(), mlm_loss=mlm_loss)

        if depths is None:
            return answer(self.acn(**inputs).last_hidden_state)
        divergence = partial(mean_divergence, labels=labels, num_items_in_batch=num_items_in_batch)
        return supervised_loss(depths, self.acn.read_outs(left_out=depths.left_out, **inputs), answer, divergence)


def is_projection(name: str) -> bool:
    """Whether the weight of that name is one of a projection, and not of the model that a run leaves."""
    return name.startswith("projection.")
