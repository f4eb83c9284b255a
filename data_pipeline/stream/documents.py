"""Blocks that hold several documents: where each begins, for attention that does not cross from one to another.

A corpus packed by documents (`packing: documents` in its manifest) keeps documents whole: a block is one or more
sequences `[CLS] ids [SEP]`, then [PAD] to the end. So a [CLS] always starts a document, and nothing more has to be
stored.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..folder import TOKENIZER_FOLDER
from ..shards import Manifest
from ..tokenizer import Vocabulary, continuations
from .counter_random import Int64Array
from .masking import MaskedBatch, MaskingConfig, mask_blocks

if TYPE_CHECKING:
    import torch

PACKED_BY_DOCUMENTS = "documents"
"""The manifest's `packing` of a corpus whose blocks hold whole documents."""


@dataclass
class PackedBatch(MaskedBatch):
    """A micro-batch of blocks that hold several documents; tensors are int64 where nothing else is said."""

    position_ids: "torch.Tensor"
    """(B, T) positions that begin at 0 in every document; 0 on padding."""
    document_ids: "torch.Tensor"
    """(B, T) 1, 2, ... by document of the block, 0 on padding: a token attends to those with its own number."""

    cu_seqlens: "torch.Tensor"
    """int32, (segments + 1,): cumulative lengths for variable-length attention over the flattened (B * T) tokens, from
    0 to B * T, as FlashAttention wants them. The padding of a block is a segment of its own; empty ones at the end make
    their number a power of two, so that few shapes occur."""


def cumulative_lengths(documents: Int64Array) -> npt.NDArray[np.int32]:
    """`PackedBatch.cu_seqlens` of document numbers (B, T)."""
    starts = np.ones(documents.shape, dtype=np.bool_)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    found = np.flatnonzero(starts)
    bounds = np.full((1 << (len(found) - 1).bit_length()) + 1, documents.size, dtype=np.int32)
    bounds[: len(found)] = found
    return bounds


def find_documents(tokens: npt.NDArray[np.unsignedinteger], vocabulary: Vocabulary) -> tuple[Int64Array, Int64Array]:
    """Document numbers (1, 2, ..., 0 on padding) and positions inside the documents: (B, T) -> two of (B, T).

    Raises ValueError for a block that does not begin with [CLS].
    """
    starts = tokens == vocabulary.cls_token_id
    if not starts[:, 0].all():
        raise ValueError("a block of a corpus packed by documents does not begin with [CLS]")
    padding = tokens == vocabulary.pad_token_id
    columns = np.arange(tokens.shape[1])
    documents = np.cumsum(starts, axis=1)
    positions = columns - np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    documents[padding] = 0
    positions[padding] = 0
    return documents, positions


class Masker:
    """Turns the blocks of one prepared folder into masked batches."""

    def __init__(self, folder: Path, manifest: Manifest, config: MaskingConfig, seed: int) -> None:
        """Raises DataError when masking.unit=word does not fit the tokenizer."""
        self._vocabulary, self._config, self._seed = manifest.tokenizer, config, seed
        self._packed = manifest.packing == PACKED_BY_DOCUMENTS
        words = config.unit == "word"
        self._continues = continuations(folder / TOKENIZER_FOLDER, self._vocabulary) if words else None

    def __call__(self, tokens: npt.NDArray[np.unsignedinteger], samples: Int64Array) -> MaskedBatch:
        """Mask blocks (B, T) with sample numbers (B,); a PackedBatch where the corpus was packed by documents."""
        batch = mask_blocks(
            tokens, samples, self._seed, self._config, self._vocabulary, self._continues, padded=self._packed
        )
        if not self._packed:
            return batch
        import torch  # here, because planning opens streams and never masks

        documents, positions = find_documents(tokens, self._vocabulary)
        fields: dict[str, Any] = vars(batch)
        return PackedBatch(
            **fields,
            position_ids=torch.from_numpy(positions),
            document_ids=torch.from_numpy(documents),
            cu_seqlens=torch.from_numpy(cumulative_lengths(documents)),
        )
