"""Masked language modelling targets, chosen by counting, not by drawing.

Every block gets exactly the same number of targets, so shapes are static and the mean over ranks of the mean loss
is the global mean. A block's mask is a pure function of (seed, global sample number) - the number runs on over
epochs, so each epoch masks anew - and does not depend on the batch, rank or world size it is made in.

Shapes: B blocks, T tokens per block, M masked positions per block.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from data_pipeline.hashing import Int64Array, column_mask, hash_integers, hash_sequences, tagged_hashes
from data_pipeline.tokenizer import Vocabulary

IGNORED_LABEL = -100
"""The label of a slot without a target; torch's cross_entropy leaves it out by default."""

_CHOICE_KEYS, _REPLACE_KEYS, _RANDOM_TOKEN_KEYS = 3, 4, 5  # continues the purposes in order.py


@dataclass
class MaskingConfig:
    """Which tokens a model has to predict, and what it sees in their place (BERT's 15 % and 80/10/10)."""

    probability: float = 0.15
    """Share of a block's tokens to predict; every block gets exactly the same number of targets."""
    mask_fraction: float = 0.8
    """Share of the targets that the model sees as the mask token."""
    random_fraction: float = 0.1
    """Share of the targets that the model sees as a random token; the rest stay as they are."""

    def problems(self) -> list[str]:
        """Every problem of these settings, each naming the field and the mend."""
        found = []
        if not 0 < self.probability < 1:
            found.append(f"masking.probability={self.probability} must lie between 0 and 1")
        found += [
            f"masking.{name}={getattr(self, name)} must lie from 0 to 1"
            for name in ("mask_fraction", "random_fraction")
            if not 0 <= getattr(self, name) <= 1
        ]
        if self.mask_fraction + self.random_fraction > 1 + 1e-9:
            found.append("masking.mask_fraction and masking.random_fraction add up to more than 1: lower one of them")
        return found

    def targets(self, seq_length: int) -> int:
        """Targets per block, M, from the seq_length - 2 places between [CLS] and [SEP]."""
        return max(1, int(self.probability * (seq_length - 2) + 0.5))


@dataclass
class MaskedBatch:
    """A micro-batch ready for a model that decodes masked positions only; all tensors are int64."""

    input_ids: torch.Tensor
    """(B, T) tokens as the model sees them; never padded, so there is no attention mask."""
    masked_positions: torch.Tensor
    """(B, M) positions in the block, ascending."""
    labels: torch.Tensor
    """(B, M) true tokens at those positions; -100 where a block had fewer than M ordinary tokens."""
    samples: torch.Tensor
    """(B,) global sample numbers (block ids in validation, -1 for rows that only fill a batch)."""


def mask_blocks(
    tokens: npt.NDArray[np.unsignedinteger],
    samples: Int64Array,
    seed: int,
    config: MaskingConfig,
    vocabulary: Vocabulary,
) -> MaskedBatch:
    """Choose and replace the targets of a batch: tokens (B, T) and sample numbers (B,) -> MaskedBatch.

    Special tokens are never targets and never random replacements.
    """
    length = tokens.shape[1]
    ordinary = vocabulary.is_ordinary[tokens]
    low = column_mask(length)
    hashes = tagged_hashes(hash_integers(_CHOICE_KEYS, seed, samples), length)
    np.bitwise_or(hashes, ~low, out=hashes, where=~ordinary)  # special tokens come last
    count = config.targets(length)
    # the M smallest hashes are one set whatever the algorithm, for no two entries of a row are equal
    positions = np.sort((np.partition(hashes, count - 1, axis=1)[:, :count] & low).astype(np.int64), axis=1)

    input_ids = tokens.astype(np.int64)
    originals = np.take_along_axis(input_ids, positions, axis=1)
    is_target = np.take_along_axis(ordinary, positions, axis=1)
    seen = _replace(originals, positions, samples, seed, config, vocabulary, length)
    np.put_along_axis(input_ids, positions, np.where(is_target, seen, originals), axis=1)
    return MaskedBatch(
        input_ids=torch.from_numpy(input_ids),
        masked_positions=torch.from_numpy(positions),
        labels=torch.from_numpy(np.where(is_target, originals, IGNORED_LABEL)),
        samples=torch.from_numpy(samples.astype(np.int64)),
    )


def _replace(
    originals: Int64Array,
    positions: Int64Array,
    samples: Int64Array,
    seed: int,
    config: MaskingConfig,
    vocabulary: Vocabulary,
    length: int,
) -> Int64Array:
    """What the model sees at the positions: mask token, random ordinary token or the original; all (B, M)."""

    def hashes(purpose: int) -> npt.NDArray[np.uint64]:
        rows = hash_sequences(hash_integers(purpose, seed, samples), length)
        return np.take_along_axis(rows, positions, axis=1)

    uniform = (hashes(_REPLACE_KEYS) >> np.uint64(11)) * 2.0**-53
    choices = vocabulary.ordinary_ids
    random_tokens = choices[hashes(_RANDOM_TOKEN_KEYS) % np.uint64(len(choices))]
    unmasked = np.where(uniform < config.mask_fraction + config.random_fraction, random_tokens, originals)
    return np.where(uniform < config.mask_fraction, vocabulary.mask_token_id, unmasked)
