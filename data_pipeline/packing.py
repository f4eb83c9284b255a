"""Packing: the ids of many documents as one sequence, cut into whole blocks."""

from collections.abc import Sequence

import numpy as np

from data_pipeline.shards import ShardWriter, Split, TokenArray
from data_pipeline.tokenizer import Vocabulary


class BlockPacker:
    """Joins a split's documents by [SEP] and writes them as blocks `[CLS] ids [SEP]` of seq_length, never padded."""

    def __init__(
        self, writer: ShardWriter, vocabulary: Vocabulary, seq_length: int, row_group_blocks: int, dtype: str
    ) -> None:
        self._writer = writer
        self._vocabulary = vocabulary
        self._inner = seq_length - 2
        self._row_group_blocks = row_group_blocks
        self._dtype = dtype
        self._pending: list[TokenArray] = []
        self._pending_ids = 0
        self.documents = 0
        self.blocks = 0
        self.ids = 0

    def add(self, documents: Sequence[Sequence[int]]) -> None:
        """Append documents, each the ids of its text; those without ids do not count."""
        separator = np.array([self._vocabulary.sep_token_id], dtype=self._dtype)
        for ids in documents:
            if not ids:
                continue
            if self.documents:
                self._pending.append(separator)
                self._pending_ids += 1
            self._pending.append(np.array(ids, dtype=self._dtype))
            self._pending_ids += len(ids)
            self.ids += len(ids)
            self.documents += 1
        if self._pending_ids >= self._inner * self._row_group_blocks:
            self._write(last=False)

    def finish(self) -> Split:
        """Write what is left, dropping the incomplete last block, and describe the split."""
        self._write(last=True)
        self._writer.close()
        return Split(
            shards=self._writer.shards,
            blocks=self.blocks,
            tokens=self.blocks * (self._inner + 2),
            documents=self.documents,
            tokens_dropped=self._pending_ids,
        )

    def _write(self, last: bool) -> None:
        """Write all full row groups; with `last`, the short one too."""
        ids = np.concatenate(self._pending) if self._pending else np.empty(0, dtype=self._dtype)
        group_ids = self._inner * self._row_group_blocks
        usable = len(ids) // (self._inner if last else group_ids) * (self._inner if last else group_ids)
        for start in range(0, usable, group_ids):
            self._writer.write_row_group(self._frame(ids[start : min(start + group_ids, usable)]))
        self.blocks += usable // self._inner
        self._pending, self._pending_ids = [ids[usable:]], len(ids) - usable

    def _frame(self, ids: TokenArray) -> TokenArray:
        inner = ids.reshape(-1, self._inner)
        blocks = np.empty((len(inner), self._inner + 2), dtype=self._dtype)
        blocks[:, 0], blocks[:, -1] = self._vocabulary.cls_token_id, self._vocabulary.sep_token_id
        blocks[:, 1:-1] = inner
        return blocks
