"""Masked language modelling targets, chosen by counting, not by drawing.

Every block gets exactly the same number of targets, so shapes are static and the mean over ranks of the mean loss
is the global mean. A block's mask is a pure function of (seed, global sample number) - the number runs on over
epochs, so each epoch masks anew - and does not depend on the batch, rank or world size it is made in.

Tokens, whole words or spans are chosen alike: every token carries a random number, that of its word's or span's first
token, and the tokens with the smallest numbers are the targets. In a corpus packed by documents the blocks hold
padding; there the share is taken of what is not padding, so that a nearly empty block is not masked throughout.

Shapes: B blocks, T tokens per block, M masked positions per block.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..tokenizer import Vocabulary
from .config import SPAN_LENGTH, MaskingConfig
from .counter_random import (
    Int64Array,
    Uint64Array,
    column_mask,
    hash_columns,
    hash_integers,
    hash_sequences,
    tagged_hashes,
)

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100
"""The label of a slot without a target; torch's cross_entropy leaves it out by default."""

_CHOICE_KEYS, _REPLACE_KEYS, _RANDOM_TOKEN_KEYS, _SPAN_KEYS = 3, 4, 5, 6  # continues the purposes in order.py
BoolArray = npt.NDArray[np.bool_]


@dataclass
class MaskedBatch:
    """A micro-batch ready for a model that decodes masked positions only; all tensors are int64."""

    input_ids: "torch.Tensor"
    """(B, T) tokens as the model sees them; never padded, so there is no attention mask (but see PackedBatch)."""
    masked_positions: "torch.Tensor"
    """(B, M) positions in the block, ascending."""
    labels: "torch.Tensor"
    """(B, M) true tokens at those positions; -100 where a block had fewer than M ordinary tokens."""
    samples: "torch.Tensor"
    """(B,) global sample numbers (block ids in validation, -1 for rows that only fill a batch)."""


def mask_blocks(
    tokens: npt.NDArray[np.unsignedinteger],
    samples: Int64Array,
    seed: int,
    config: MaskingConfig,
    vocabulary: Vocabulary,
    continues: BoolArray | None = None,
    padded: bool = False,
) -> MaskedBatch:
    """Choose and replace the targets of a batch: tokens (B, T) and sample numbers (B,) -> MaskedBatch.

    Special tokens are never targets and never random replacements. `continues`, (vocab_size,), tells the ids that go
    on with the word before (`words.continuations`); masking.unit=word needs it, ValueError otherwise. With `padded`,
    a block of n ordinary tokens gets the configured share of n as targets and -100 in its other slots.
    """
    import torch  # here, because planning opens streams and never masks

    ordinary = vocabulary.is_ordinary[tokens]
    firsts = _unit_firsts(tokens, ordinary, samples, seed, config, continues)
    positions, is_target = _choose(ordinary, firsts, samples, seed, config, padded)
    input_ids = tokens.astype(np.int64)
    originals = np.take_along_axis(input_ids, positions, axis=1)
    # the tokens of a span share one decision, those of a word do not (as in SpanBERT and whole-word BERT)
    deciding = positions if firsts is None or config.unit == "word" else np.take_along_axis(firsts, positions, axis=1)
    seen = _replace(originals, positions, deciding, samples, seed, config, vocabulary)
    np.put_along_axis(input_ids, positions, np.where(is_target, seen, originals), axis=1)
    return MaskedBatch(
        input_ids=torch.from_numpy(input_ids),
        masked_positions=torch.from_numpy(positions),
        labels=torch.from_numpy(np.where(is_target, originals, IGNORED_LABEL)),
        samples=torch.from_numpy(samples.astype(np.int64)),
    )


def _unit_firsts(
    tokens: npt.NDArray[np.unsignedinteger],
    ordinary: BoolArray,
    samples: Int64Array,
    seed: int,
    config: MaskingConfig,
    continues: BoolArray | None,
) -> Int64Array | None:
    """For each token the column of its word's or span's first token, (B, T); None where tokens are chosen singly."""
    if config.unit == "token":
        return None
    length = tokens.shape[1]
    if config.unit == "word":
        if continues is None:
            raise ValueError("masking.unit=word needs to know which ids continue a word")
        starts = ~continues[tokens]
    else:
        hashes = hash_sequences(hash_integers(_SPAN_KEYS, seed, samples), length)
        starts = (hashes >> np.uint64(11)) * 2.0**-53 < 1 / (config.span_length or SPAN_LENGTH)
    starts |= ~ordinary
    starts[:, 0] = True
    starts[:, 1:] |= ~ordinary[:, :-1]  # nothing goes on over a special token
    return np.maximum.accumulate(np.where(starts, np.arange(length), 0), axis=1)


def _choose(
    ordinary: BoolArray, firsts: Int64Array | None, samples: Int64Array, seed: int, config: MaskingConfig, padded: bool
) -> tuple[Int64Array, BoolArray]:
    """The chosen columns, ascending, and which of them are targets; both (B, M)."""
    length = ordinary.shape[1]
    low = column_mask(length)
    hashes = tagged_hashes(hash_integers(_CHOICE_KEYS, seed, samples), length)
    if firsts is not None:
        hashes = (np.take_along_axis(hashes, firsts, axis=1) & ~low) | np.arange(length, dtype=np.uint64)
    np.bitwise_or(hashes, ~low, out=hashes, where=~ordinary)  # special tokens come last
    count = config.targets(length)
    # the M smallest hashes are one set whatever the algorithm, for no two entries of a row are equal
    smallest = np.partition(hashes, count - 1, axis=1)[:, :count]
    if not padded:
        positions = np.sort((smallest & low).astype(np.int64), axis=1)
        return positions, np.take_along_axis(ordinary, positions, axis=1)
    wanted = np.maximum(1, (config.probability * ordinary.sum(axis=1) + 0.5).astype(np.int64))
    positions = (np.sort(smallest, axis=1) & low).astype(np.int64)
    is_target = np.take_along_axis(ordinary, positions, axis=1) & (np.arange(count) < wanted[:, None])
    ascending = np.argsort(positions, axis=1)
    return np.take_along_axis(positions, ascending, axis=1), np.take_along_axis(is_target, ascending, axis=1)


def _replace(
    originals: Int64Array,
    positions: Int64Array,
    deciding: Int64Array,
    samples: Int64Array,
    seed: int,
    config: MaskingConfig,
    vocabulary: Vocabulary,
) -> Int64Array:
    """What the model sees at the positions: mask token, random ordinary token or the original; all (B, M).

    `deciding` holds the columns whose random number decides between the three.
    """

    def hashes(purpose: int, columns: Int64Array) -> Uint64Array:
        return hash_columns(hash_integers(purpose, seed, samples), columns)

    uniform = (hashes(_REPLACE_KEYS, deciding) >> np.uint64(11)) * 2.0**-53
    choices = vocabulary.ordinary_ids
    random_tokens = choices[hashes(_RANDOM_TOKEN_KEYS, positions) % np.uint64(len(choices))]
    unmasked = np.where(uniform < config.mask_fraction + config.random_fraction, random_tokens, originals)
    return np.where(uniform < config.mask_fraction, vocabulary.mask_token_id, unmasked)
