"""Small models and inputs for the tests of the model family."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from modeling import (
    AcnConfig,
    AcnForMaskedLM,
    AcnForMultipleChoice,
    AcnForQuestionAnswering,
    AcnForSequenceClassification,
    AcnForTokenClassification,
)

HEADS = (
    AcnForMaskedLM,
    AcnForSequenceClassification,
    AcnForTokenClassification,
    AcnForQuestionAnswering,
    AcnForMultipleChoice,
)


def inputs_of(head: type, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch as `head` takes it: for multiple choice its rows are the choices of one example."""
    return {name: value.unsqueeze(0) for name, value in batch.items()} if head is AcnForMultipleChoice else batch


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits of any head, a span's two ends side by side."""
    if "start_logits" in outputs:
        return torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
    return outputs.logits


@pytest.fixture
def tiny_config() -> Callable[..., AcnConfig]:
    """A configuration small enough to check by hand; keyword arguments override it."""

    def build(**overrides: Any) -> AcnConfig:
        fields: dict[str, Any] = {
            "vocab_size": 53,
            "hidden_size": 12,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "intermediate_size": 20,
            "max_position_embeddings": 16,
            "initializer_range": 0.3,  # large enough for every term to matter
        }
        return AcnConfig(**(fields | overrides))

    return build


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three sequences of nine tokens, two of them padded, with token types."""
    generator = torch.Generator().manual_seed(1)
    attention_mask = torch.ones(3, 9, dtype=torch.long)
    attention_mask[1, 6:] = 0
    attention_mask[2, 3:] = 0
    return {
        "input_ids": torch.randint(5, 53, (3, 9), generator=generator),
        "attention_mask": attention_mask,
        "token_type_ids": torch.randint(0, 2, (3, 9), generator=generator),
    }


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
