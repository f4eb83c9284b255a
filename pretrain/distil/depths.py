"""The model of a run with depth supervision, and what it shares with the one that has a teacher."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.modeling_outputs import MaskedLMOutput

from data_pipeline.stream import IGNORED_LABEL
from modeling import AcnConfig, AcnForMaskedLM, DepthWeights, kl_divergence, supervised_loss
from modeling.modeling_acn import gather_positions


@dataclass
class LossParts(MaskedLMOutput):
    """What a model gives of a micro-batch whose loss is made of several."""

    match: torch.Tensor | None = None
    """The normalised squared error of the whole model, detached; None without a teacher."""
    mlm_loss: torch.Tensor | None = None
    """The masked-language-model loss of the whole model, detached; None where it is not part of the loss."""


def predict_masked(
    model: AcnForMaskedLM,
    read_out: torch.Tensor,
    masked_positions: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, M, V) of a read-out (B, T, H) at the masked positions (B, M), and their loss.

    Args:
        labels: (B, M).
        num_items_in_batch: what the sum over the targets is divided by; None: by how many there are.
    """
    logits = model.head_logits(gather_positions(read_out, masked_positions))
    loss = model.loss_function(
        logits, labels, vocab_size=model.config.vocab_size, num_items_in_batch=num_items_in_batch
    )
    return logits, loss


def mean_divergence(
    logits: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor | None, num_items_in_batch: torch.Tensor | None
) -> torch.Tensor:
    """The divergence of logits from the wanted ones, both (B, M, V), in the mean over the targets as their loss is."""
    assert labels is not None, "the configuration asks for predictions to compare"
    targets = labels != IGNORED_LABEL
    share = targets.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return (kl_divergence(logits, wanted) * targets).sum() / share


class SupervisedForMaskedLM(AcnForMaskedLM):
    """An ACN for masked tokens of which a step trains several depths, or leaves layers out."""

    def __init__(self, config: AcnConfig) -> None:
        super().__init__(config)
        self.loss_type = "ForMaskedLM"  # which transformers would look for in the name of the class

    def forward(
        self,
        masked_positions: torch.Tensor,
        labels: torch.Tensor,
        depths: DepthWeights,
        num_items_in_batch: torch.Tensor | None = None,
        **inputs: Any,
    ) -> LossParts:
        """The loss of a micro-batch.

        Args:
            masked_positions, labels: (B, M).
            depths: what the step trains.
            num_items_in_batch: see `predict_masked`.
            inputs: `input_ids` (B, T), and of packed rows `seq_idx` and `position_ids`.
        """

        def answer(read_out: torch.Tensor) -> LossParts:
            logits, loss = predict_masked(self, read_out, masked_positions, labels, num_items_in_batch)
            return LossParts(loss=loss, logits=logits, mlm_loss=loss.detach())

        divergence = partial(mean_divergence, labels=labels, num_items_in_batch=num_items_in_batch)
        return supervised_loss(depths, self.acn.read_outs(left_out=depths.left_out, **inputs), answer, divergence)
