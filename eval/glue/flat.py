"""Fine-tuning without padding: the texts of a batch lie one after the other in one row; attention knows their lengths.

What padding costs is most of a step where lengths differ. Flash attention takes lengths; the other implementations
compute the same by a mask of the whole row, which is slower than padding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available

from modeling import AcnForSequenceClassification


def pads_nothing(asked: bool | str, precision: str) -> bool:
    """Whether to train so: as asked for, or, for auto, where flash attention can.

    Args:
        precision: resolved.
    """
    return asked if isinstance(asked, bool) else flash_works(precision)


def flash_works(precision: str) -> bool:
    """Whether flash-attn is installed, and there is a GPU and a precision for it."""
    return precision in ("bf16", "fp16") and is_flash_attn_2_available()


class FlatCollator:
    """Makes one row of tokenized texts: what a classifier takes, with a label for each text, in their order."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        names = [name for name in ("input_ids", "token_type_ids") if name in rows[0]]
        batch: dict[str, Any] = {name: torch.tensor([[i for row in rows for i in row[name]]]) for name in names}
        return batch | {
            "position_ids": torch.tensor([[place for length in lengths for place in range(length)]]),
            "labels": torch.tensor([row["labels"] for row in rows]),
            **dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), bounds),
            **dict.fromkeys(("max_length_q", "max_length_k"), max(lengths)),
        }


@contextmanager
def flash_attention(model: AcnForSequenceClassification, precision: str) -> Iterator[None]:
    """Within the block the model attends by flash attention, where that works."""
    before = model.config._attn_implementation
    if flash_works(precision):
        model.set_attn_implementation("flash_attention_2")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
