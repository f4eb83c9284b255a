"""Packing: the ids of many documents cut into, or fitted into, blocks of seq_length.

Two ways. `BlockPacker` is the paper's: the documents joined by [SEP] are one long sequence, cut every seq_length - 2
ids and framed, `[CLS] ids [SEP]`, never padded. `DocumentPacker` keeps documents whole wherever they fit: a block is
`[CLS] ids [SEP] [CLS] ids [SEP] ... [PAD]`, every document framed by itself, so that attention can be confined to one
document (block-diagonal) and position ids can restart. Where a document ends follows from the tokens alone:
`find_documents` in documents.py tells.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..shards import Shard, ShardWriter, Split, TokenArray
from ..tokenizer import Vocabulary

_FITTED_ROW_GROUPS = 4  # documents are fitted among the text of so many row groups


class Packer(ABC):
    """What both ways share: counting, and full row groups first, the rest at the end or as a tail."""

    def __init__(
        self, writer: ShardWriter, vocabulary: Vocabulary, seq_length: int, row_group_blocks: int, dtype: str
    ) -> None:
        self._writer = writer
        self._vocabulary = vocabulary
        self._seq_length = seq_length
        self._inner = seq_length - 2
        self._row_group_blocks = row_group_blocks
        self._dtype = dtype
        self._pending: list[TokenArray] = []
        self.documents = 0
        self.blocks = 0
        self.padding = 0
        self.fewest_ordinary: int | None = None

    @property
    def shards(self) -> list[Shard]:
        """The finished shards."""
        return self._writer.shards

    def add(self, documents: Sequence[Sequence[int] | TokenArray]) -> None:
        """Append documents, each the ids of its text; those without ids do not count."""
        for ids in documents:
            if len(ids):
                self._append(np.asarray(ids, dtype=self._dtype))
                self.documents += 1
        self._write_full()

    def add_tail(self, pieces: Sequence[TokenArray]) -> None:
        """Append what another packer of the same kind left over, see `take_tail`; its documents count there."""
        for piece in pieces:
            self._append(piece)
        self._write_full()

    def take_tail(self) -> list[TokenArray]:
        """Close the last shard and hand over the ids that fill no row group, for another packer's `add_tail`."""
        self._writer.close()
        tail, self._pending = self._pending, []
        return tail

    def finish(self) -> Split:
        """Write what is left as the short last row group, and describe the split."""
        dropped = self._write_rest()
        self._writer.close()
        return Split(
            shards=self._writer.shards,
            blocks=self.blocks,
            tokens=self.blocks * self._seq_length,
            documents=self.documents,
            tokens_dropped=dropped,
            padding=self.padding,
            fewest_ordinary=self.fewest_ordinary,
        )

    @abstractmethod
    def _append(self, ids: TokenArray) -> None:
        """Take the ids of a document, or of a piece of a tail."""

    @abstractmethod
    def _write_full(self) -> None:
        """Write what fills whole row groups."""

    @abstractmethod
    def _write_rest(self) -> int:
        """Write everything that fills a block; returns the number of ids dropped."""

    def _write(self, blocks: TokenArray) -> None:
        for start in range(0, len(blocks), self._row_group_blocks):
            row_group = blocks[start : start + self._row_group_blocks]
            self._writer.write_row_group(row_group)
            fewest = int(self._vocabulary.is_ordinary[row_group].sum(axis=1).min())
            self.fewest_ordinary = fewest if self.fewest_ordinary is None else min(fewest, self.fewest_ordinary)
        self.blocks += len(blocks)


class BlockPacker(Packer):
    """Joins a split's documents by [SEP] and writes them as blocks `[CLS] ids [SEP]` of seq_length, never padded."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pending_ids = 0
        self._begun = False

    def take_tail(self) -> list[TokenArray]:
        """The ids left over, as one piece or none."""
        tail = np.concatenate(super().take_tail() or [np.empty(0, dtype=self._dtype)])
        self._pending_ids = 0
        return [tail] if len(tail) else []

    def _append(self, ids: TokenArray) -> None:
        separator = self._vocabulary.sep_token_id
        if self._begun and ids[0] != separator:  # a tail that was cut between two documents brings its own
            self._pending.append(np.array([separator], dtype=self._dtype))
            self._pending_ids += 1
        self._pending.append(ids)
        self._pending_ids += len(ids)
        self._begun = True

    def _write_full(self) -> None:
        if self._pending_ids >= self._inner * self._row_group_blocks:
            self._cut(self._inner * self._row_group_blocks)

    def _write_rest(self) -> int:
        self._cut(self._inner)
        return self._pending_ids

    def _cut(self, multiple: int) -> None:
        """Write as many ids as a multiple of `multiple` allows."""
        ids = np.concatenate(self._pending) if self._pending else np.empty(0, dtype=self._dtype)
        usable = len(ids) // multiple * multiple
        self._write(self._frame(ids[:usable]))
        self._pending, self._pending_ids = [ids[usable:]] if usable < len(ids) else [], len(ids) - usable

    def _frame(self, ids: TokenArray) -> TokenArray:
        inner = ids.reshape(-1, self._inner)
        blocks = np.empty((len(inner), self._seq_length), dtype=self._dtype)
        blocks[:, 0], blocks[:, -1] = self._vocabulary.cls_token_id, self._vocabulary.sep_token_id
        blocks[:, 1:-1] = inner
        return blocks


class DocumentPacker(Packer):
    """Fits whole documents into blocks, best fit first; only documents longer than a block are cut.

    The method of Ding et al., "Fewer Truncations Improve Language Modeling" (ICML 2024): cut what is longer than a
    block, then best-fit decreasing. It runs over a buffer of a few row groups of text, so memory stays constant;
    blocks that are not well filled when the buffer is full wait for the next one.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pending_ids = 0

    def take_tail(self) -> list[TokenArray]:
        """The pieces left over."""
        self._pending_ids = 0
        return super().take_tail()

    def _append(self, ids: TokenArray) -> None:
        self._pending += [ids[start : start + self._inner] for start in range(0, len(ids), self._inner)]
        self._pending_ids += len(ids)

    def _write_full(self) -> None:
        if self._pending_ids >= _FITTED_ROW_GROUPS * self._row_group_blocks * self._inner:
            self._fit(all_of_it=False)

    def _write_rest(self) -> int:
        self._fit(all_of_it=True)
        return 0

    def _fit(self, all_of_it: bool) -> None:
        """Write the fitted blocks, or so many of the fullest as fill row groups and keep the rest pending."""
        bins = best_fit([len(piece) + 2 for piece in self._pending], self._seq_length)
        kept: list[int] = []
        if not all_of_it:
            filled = [sum(len(self._pending[index]) + 2 for index in members) for members in bins]
            fullest = sorted(range(len(bins)), key=lambda number: (-filled[number], number))
            count = len(bins) // self._row_group_blocks * self._row_group_blocks
            kept = sorted(index for number in fullest[count:] for index in bins[number])
            bins = [bins[number] for number in sorted(fullest[:count])]
        self._write(self._frame(bins))
        self._pending = [self._pending[index] for index in kept]
        self._pending_ids = sum(map(len, self._pending))

    def _frame(self, bins: list[list[int]]) -> TokenArray:
        words = self._vocabulary
        blocks = np.full((len(bins), self._seq_length), words.pad_token_id, dtype=self._dtype)
        for block, members in zip(blocks, bins, strict=True):
            end = 0
            for index in members:
                piece = self._pending[index]
                start, end = end, end + len(piece) + 2
                block[start], block[start + 1 : end - 1], block[end - 1] = words.cls_token_id, piece, words.sep_token_id
            self.padding += self._seq_length - end
        return blocks


PACKERS: dict[str, type[Packer]] = {"blocks": BlockPacker, "documents": DocumentPacker}


def best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into bins by best-fit decreasing: the largest first, each into the fullest bin that has room.

    Returns the indices per bin; bins, and the items in them, in the order of the items. Raises ValueError for an item
    larger than `capacity`. Time grows with items * log(items) plus a few machine words per item.
    """
    if max(sizes, default=0) > capacity:
        raise ValueError(f"an item of {max(sizes)} does not fit a bin of {capacity}")
    bins: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # free room -> bins
    rooms = 0  # bit r is set where some bin has room r: the lowest set bit from r on is the best fit
    for index in sorted(range(len(sizes)), key=lambda item: (-sizes[item], item)):
        size = sizes[index]
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            number = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, number = capacity, len(bins)
            bins.append([])
        bins[number].append(index)
        with_room[room - size].append(number)
        rooms |= 1 << (room - size)
    return sorted(sorted(members) for members in bins)
