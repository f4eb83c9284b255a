"""What a prepared split holds, in numbers: how often each id occurs, and how long the documents are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..shards import Manifest, TokenArray
from ..tokenizer import Vocabulary
from .blocks import BlockReader
from .counter_random import Int64Array
from .documents import PACKED_BY_DOCUMENTS, find_documents
from .remote import RemoteConfig
from .shard_files import PreparedFolder


@dataclass(frozen=True)
class SplitSummary:
    """Counts over the blocks read of one split."""

    vocabulary: Vocabulary
    blocks: int
    """Blocks of the split."""
    blocks_read: int
    """Blocks these counts are of: all, or row groups spread evenly over the split."""
    counts: Int64Array
    """(vocab_size,) occurrences of each id."""
    document_lengths: Int64Array
    """(documents,) tokens of each document without special ones; where only a part of the split was read, only of
    documents that lie in one row group as a whole."""
    unknown_character_rate: float | None = None
    """Share of the whole corpus's characters under the unknown token, where the manifest tells: shards hold none."""

    def numbers(self) -> dict[str, Any]:
        """The figures worth a line each, as JSON values."""
        ordinary = np.sort(self.counts[self.vocabulary.is_ordinary])[::-1]
        total, unknown = int(ordinary.sum()), self._occurrences(self.vocabulary.unk_token_id)
        covered = np.cumsum(ordinary)
        lengths, characters = self.document_lengths, self.unknown_character_rate
        percentiles = np.percentile(lengths, (50, 95)) if len(lengths) else (0, 0)
        return {
            "blocks": self.blocks,
            "blocks_read": self.blocks_read,
            "token_positions": int(self.counts.sum()),
            "ordinary_tokens": total,
            "padding_share": self._occurrences(self.vocabulary.pad_token_id) / max(int(self.counts.sum()), 1),
            "unknown_rate": unknown / max(total + unknown, 1),
            **({} if characters is None else {"unknown_character_rate_of_corpus": characters}),
            "vocabulary": len(ordinary),
            "vocabulary_unused": int((ordinary == 0).sum()),
            **{
                f"ids_for_{percent}_percent_of_tokens": int(np.searchsorted(covered, percent / 100 * total)) + 1
                for percent in (50, 90, 99)
            },
            "documents": len(lengths),
            "document_length_mean": float(lengths.mean()) if len(lengths) else 0.0,
            "document_length_median": float(percentiles[0]),
            "document_length_95_percent": float(percentiles[1]),
            "document_length_longest": int(lengths.max(initial=0)),
        }

    def _occurrences(self, token_id: int | None) -> int:
        return 0 if token_id is None else int(self.counts[token_id])


def summarize(location: str | Path, split: str, max_blocks: int, remote: RemoteConfig | None = None) -> SplitSummary:
    """Count at most about `max_blocks` blocks of a split of a prepared folder or URL, in constant memory per block.

    Raises DataError for a folder, split or shard that cannot be read.
    """
    if max_blocks < 1:
        raise DataError(f"blocks={max_blocks} must be at least 1")
    prepared = PreparedFolder(location, remote or RemoteConfig())
    manifest = Manifest.load(prepared.path)
    reader = BlockReader(prepared.path, split, manifest, files=prepared.files())
    cell = manifest.row_group_blocks
    groups = -(-reader.blocks // cell)
    read = max(1, min(groups, max_blocks // cell))
    chosen = np.arange(read) * groups // read
    packed = manifest.packing == PACKED_BY_DOCUMENTS
    counts = np.zeros(manifest.tokenizer.vocab_size, dtype=np.int64)
    lengths, blocks, rest = [], 0, np.zeros(0, dtype=manifest.dtype)
    try:
        for number, tokens in _row_groups(reader, chosen, cell):
            counts += np.bincount(tokens.reshape(-1), minlength=len(counts))
            blocks += len(tokens)
            if packed:
                lengths.append(_packed_lengths(tokens, manifest.tokenizer))
                continue
            inner = np.concatenate([rest, tokens[:, 1:-1].reshape(-1)])
            ends = np.flatnonzero(inner == manifest.tokenizer.sep_token_id)
            # a document that began in a row group that was not read has an unknown length
            begun = -1 if read == groups or number == 0 else int(ends[0]) if len(ends) else len(inner)
            lengths.append(np.diff(ends[ends > begun], prepend=begun) - 1)
            rest = inner[ends[-1] + 1 :] if len(ends) else inner
            if read < groups:
                rest = rest[:0]
        if not packed and read == groups:
            lengths.append(np.array([len(rest)]))
    finally:
        reader.close()
    found = np.concatenate(lengths)
    characters = manifest.statistics.get("tokenizer", {}).get("unknown_character_rate")
    return SplitSummary(manifest.tokenizer, reader.blocks, blocks, counts, found[found > 0], characters)


def _row_groups(reader: BlockReader, chosen: Int64Array, cell: int) -> Iterator[tuple[int, TokenArray]]:
    for place, number in enumerate(chosen.tolist()):
        if place % 16 == 0:
            reader.announce(chosen[place : place + 16] * cell)
        yield number, reader.read(np.arange(number * cell, min((number + 1) * cell, reader.blocks)))


def _packed_lengths(tokens: TokenArray, vocabulary: Vocabulary) -> Int64Array:
    """Lengths of the documents of packed blocks, [CLS] and [SEP] not counted."""
    documents, _ = find_documents(tokens, vocabulary)
    most = int(documents.max())
    keys = documents + (most + 1) * np.arange(len(tokens))[:, None]
    sizes = np.bincount(keys.reshape(-1), minlength=(most + 1) * len(tokens)).reshape(len(tokens), -1)[:, 1:]
    return sizes[sizes > 0] - 2
