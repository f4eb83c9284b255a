import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import Manifest, MaskingConfig, PackedBatch, mask_blocks
from data_pipeline.stream.documents import Masker, find_documents

PAD, CLS, SEP = 0, 2, 3


@st.composite
def packed_blocks(draw) -> tuple[np.ndarray, list[list[int]]]:
    """Blocks of 24 tokens with documents of random lengths, and those lengths."""
    lengths = draw(st.lists(st.lists(st.integers(3, 12), min_size=1, max_size=2), min_size=1, max_size=6))
    blocks = np.full((len(lengths), 24), PAD, dtype=np.uint16)
    for block, documents in zip(blocks, lengths, strict=True):
        start = 0
        for number, length in enumerate(documents):
            block[start : start + length] = [CLS, *range(10 + number, 8 + number + length), SEP]
            start += length
    return blocks, lengths


@pytest.fixture(scope="module")
def manifest(make_prepared) -> Manifest:
    manifest = Manifest.load(make_prepared(20))
    manifest.packing = "documents"
    return manifest


@given(packed_blocks())
def test_documents_and_positions_are_found_again(manifest, packed):
    blocks, lengths = packed
    documents, positions = find_documents(blocks, manifest.tokenizer)
    for row, sizes in enumerate(lengths):
        padding = [0] * (24 - sum(sizes))
        assert documents[row].tolist() == [n for n, size in enumerate(sizes, 1) for _ in range(size)] + padding
        assert positions[row].tolist() == [place for size in sizes for place in range(size)] + padding


@given(packed_blocks(), st.integers(0, 2**40))
def test_packed_batches_carry_the_boundaries_and_the_masks_of_plain_blocks(manifest, packed, first):
    blocks, lengths = packed
    samples = first + np.arange(len(blocks))
    batch = Masker(None, manifest, MaskingConfig(), 3)(blocks, samples)
    assert isinstance(batch, PackedBatch)
    plain = mask_blocks(blocks, samples, 3, MaskingConfig(), manifest.tokenizer, padded=True)
    assert all(torch.equal(tensor, vars(batch)[name]) for name, tensor in vars(plain).items())
    assert {name for name, tensor in vars(batch).items() if tensor.dtype != torch.int64} == {"cu_seqlens"}
    assert torch.equal(batch.document_ids == 0, torch.from_numpy(blocks == PAD))
    bounds = batch.cu_seqlens
    expected = [size for sizes in lengths for size in [*sizes, *[24 - sum(sizes)] * (sum(sizes) < 24)]]
    assert bounds.dtype == torch.int32
    assert bounds.diff().tolist() == expected + [0] * (len(bounds) - 1 - len(expected))
    assert (len(bounds) - 1).bit_count() == 1, "a power of two"
    assert len(bounds) - 1 < 2 * len(expected)


def test_a_corpus_of_plain_blocks_gives_plain_batches(make_prepared):
    manifest = Manifest.load(make_prepared(20))
    blocks = np.full((2, 16), 9, dtype=np.uint16)
    assert not isinstance(Masker(None, manifest, MaskingConfig(), 0)(blocks, np.arange(2)), PackedBatch)


def test_a_block_that_does_not_begin_a_document_is_refused(manifest):
    with pytest.raises(ValueError, match="does not begin"):
        find_documents(np.full((1, 8), 9, dtype=np.uint16), manifest.tokenizer)
