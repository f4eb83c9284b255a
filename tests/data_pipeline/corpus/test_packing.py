from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.corpus.packing import BlockPacker, DocumentPacker, best_fit
from data_pipeline.shards import ShardWriter
from data_pipeline.stream.documents import find_documents
from data_pipeline.tokenizer import Vocabulary

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
WORDS = Vocabulary("", 100, MASK, PAD, CLS, SEP, UNKNOWN, (PAD, UNKNOWN, CLS, SEP, MASK))
LENGTH, CELL = 10, 4
DOCUMENTS = st.lists(st.lists(st.integers(5, 99), max_size=30), max_size=60)


class Collected(ShardWriter):
    """Keeps the row groups instead of writing them."""

    def __init__(self) -> None:
        self.shards, self.groups = [], []

    def write_row_group(self, blocks) -> None:
        self.groups.append(blocks.copy())

    def close(self) -> None:
        pass

    @property
    def blocks(self):
        return np.concatenate([*self.groups, np.empty((0, LENGTH), dtype=np.uint16)])


def _pack(kind, units):
    """The blocks of all units' full row groups and of the packer of their tails, as `prepare` makes them."""
    tails = kind(Collected(), WORDS, LENGTH, CELL, "uint16")
    groups = []
    for documents in units:
        packer = kind(Collected(), WORDS, LENGTH, CELL, "uint16")
        packer.add(documents)
        tails.add_tail(packer.take_tail())
        groups += packer._writer.groups
    split = tails.finish()
    groups += tails._writer.groups
    assert all(len(group) == CELL for group in groups[:-1]), "only the last row group is short"
    return np.concatenate([*groups, np.empty((0, LENGTH), dtype=np.uint16)]), split


def _documents(blocks) -> list[tuple[int, ...]]:
    """The documents in blocks packed by documents, taken apart token by token."""
    found = []
    for block in blocks.tolist():
        while block and block[0] != PAD:
            assert block[0] == CLS
            end = block.index(SEP)
            found.append(tuple(block[1:end]))
            block = block[end + 1 :]
        assert set(block) <= {PAD}
    return found


@given(DOCUMENTS)
def test_joined_blocks_hold_all_ids_but_the_dropped_ones_in_order(documents):
    blocks, split = _pack(BlockPacker, [documents])
    joined: list[int] = []
    for ids in filter(None, documents):
        joined += [SEP] * bool(joined) + ids
    inner = blocks[:, 1:-1].reshape(-1).tolist()
    assert inner == joined[: len(inner)]
    assert split.tokens_dropped == len(joined) - len(inner) < LENGTH - 2
    assert (blocks[:, 0] == CLS).all()
    assert (blocks[:, -1] == SEP).all()


@given(st.lists(DOCUMENTS, max_size=5))
def test_tails_of_several_units_lose_nothing_and_keep_documents_apart(units):
    blocks, split = _pack(BlockPacker, units)
    ids = Counter(token for token in blocks[:, 1:-1].reshape(-1).tolist() if token != SEP)
    given_ids = Counter(token for documents in units for document in documents for token in document)
    assert (given_ids - ids).total() <= split.tokens_dropped < LENGTH - 2
    assert not ids - given_ids
    # no separator twice in a row inside a block: that would be an empty document (between two blocks it may be, where
    # one packer's row groups end after a separator and the tails begin with one)
    inner = blocks[:, 1:-1]
    assert not ((inner[:, 1:] == SEP) & (inner[:, :-1] == SEP)).any()


@given(st.lists(DOCUMENTS, max_size=5))
def test_document_packing_keeps_whole_documents_that_fit_and_pieces_of_those_that_do_not(units):
    blocks, split = _pack(DocumentPacker, units)
    pieces = [
        tuple(ids[start : start + LENGTH - 2])
        for documents in units
        for ids in documents
        for start in range(0, len(ids), LENGTH - 2)
    ]
    assert sorted(_documents(blocks)) == sorted(pieces)
    assert split.tokens_dropped == 0


@pytest.mark.parametrize("kind", [BlockPacker, DocumentPacker])
@given(st.lists(st.lists(st.integers(UNKNOWN, 99).filter(lambda i: i not in (CLS, SEP, MASK)), max_size=30)))
def test_the_block_with_the_fewest_ordinary_tokens_is_noted(kind, documents):
    """Unknown tokens and what stands between documents are none."""
    packer = kind(Collected(), WORDS, LENGTH, CELL, "uint16")
    packer.add(documents)
    split = packer.finish()
    ordinary = WORDS.is_ordinary[packer._writer.blocks].sum(axis=1)
    assert split.fewest_ordinary == (int(ordinary.min()) if len(ordinary) else None)


@given(st.lists(st.integers(5, 99), min_size=1, max_size=8), st.integers(1, 300))
def test_padding_is_counted(ids, count):
    packer = DocumentPacker(Collected(), WORDS, LENGTH, CELL, "uint16")
    for _ in range(count):
        packer.add([ids])
    split = packer.finish()
    assert split.padding == int((packer._writer.blocks == PAD).sum())
    assert split.documents == count


@given(st.lists(st.integers(1, 50)), st.integers(50, 80))
def test_best_fit_fills_every_bin_within_its_capacity_and_uses_every_item_once(sizes, capacity):
    bins = best_fit(sizes, capacity)
    assert sorted(index for members in bins for index in members) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in members) <= capacity for members in bins)


@given(st.lists(st.integers(1, 50)), st.integers(50, 80))
def test_best_fit_is_best_fit_decreasing(sizes, capacity):
    room: list[int] = []
    for size in sorted(sizes, reverse=True):  # the textbook's quadratic version
        fitting = [number for number, free in enumerate(room) if free >= size]
        if fitting:
            room[min(fitting, key=lambda number: room[number])] -= size
        else:
            room.append(capacity - size)
    filled = sorted(capacity - sum(sizes[index] for index in members) for members in best_fit(sizes, capacity))
    assert filled == sorted(room)


def test_an_item_larger_than_a_bin_is_refused():
    with pytest.raises(ValueError, match="does not fit a bin"):
        best_fit([3, 11], 10)


def test_short_documents_leave_little_padding():
    lengths = np.random.default_rng(0).integers(1, 60, 20000)
    packer = DocumentPacker(Collected(), WORDS, 128, 64, "uint16")
    packer.add([[5] * int(length) for length in lengths])
    split = packer.finish()
    assert split.padding / split.tokens < 0.01


@given(DOCUMENTS)
def test_documents_and_padding_can_be_told_apart(documents):
    blocks, _ = _pack(DocumentPacker, [documents])
    for block, numbers in zip(blocks.tolist(), find_documents(blocks, WORDS)[0].tolist(), strict=True):
        expected, current = [], 0
        for token in block:
            current += token == CLS
            expected.append(0 if token == PAD else current)
        assert numbers == expected
