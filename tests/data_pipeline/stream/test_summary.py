from collections import Counter

import numpy as np
import pytest

from data_pipeline import BlockReader, CorpusConfig, DataError, PrepareConfig, prepare_corpus, summarize
from data_pipeline.stream.summary import _packed_lengths


@pytest.fixture(scope="module")
def prepared(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    for name, count in (("train", 300), ("validation", 40)):
        (folder / f"{name}.txt").write_text("\n\n".join(texts(count, seed=count)))
    corpus = CorpusConfig(train=str(folder / "train.txt"), validation=str(folder / "validation.txt"))
    prepare_corpus(
        PrepareConfig(corpus, str(folder / "out"), vocab_size=120, seq_length=16, row_group_blocks=8),
        say=lambda line: None,
    )
    return folder / "out"


def _documents(folder) -> list[int]:
    """Document lengths token by token."""
    reader = BlockReader(folder, "train")
    separator, lengths, length = reader.manifest.tokenizer.sep_token_id, [], 0
    for block in reader.read(np.arange(reader.blocks)).tolist():
        for token in block[1:-1]:
            if token == separator:
                lengths.append(length)
                length = 0
            else:
                length += 1
    return [*lengths, length]


def test_counts_and_document_lengths_are_those_of_a_walk_over_all_tokens(prepared):
    summary = summarize(prepared, "train", 10**6)
    reader = BlockReader(prepared, "train")
    tokens = Counter(reader.read(np.arange(reader.blocks)).reshape(-1).tolist())
    assert {number: count for number, count in enumerate(summary.counts.tolist()) if count} == dict(tokens)
    expected = [length for length in _documents(prepared) if length]
    assert summary.document_lengths.tolist() == expected
    numbers = summary.numbers()
    assert numbers["blocks"] == numbers["blocks_read"] == reader.blocks
    assert numbers["documents"] == len(expected)
    assert numbers["document_length_longest"] == max(expected)
    assert numbers["padding_share"] == 0
    ranked = sorted((tokens[i] for i in range(len(summary.counts)) if summary.vocabulary.is_ordinary[i]), reverse=True)
    for percent in (50, 90, 99):
        needed = next(n for n in range(1, len(ranked) + 1) if sum(ranked[:n]) >= percent / 100 * sum(ranked))
        assert numbers[f"ids_for_{percent}_percent_of_tokens"] == needed


def test_a_part_is_spread_over_the_split_and_counts_whole_documents_only(prepared):
    everything, part = summarize(prepared, "train", 10**6), summarize(prepared, "train", 80)
    assert part.blocks_read == 80
    assert part.blocks == everything.blocks
    missing = Counter(part.document_lengths.tolist()) - Counter(everything.document_lengths.tolist())
    assert not missing
    assert len(part.document_lengths) > 0


def test_lengths_of_packed_documents_leave_out_their_frames(prepared):
    vocabulary = summarize(prepared, "validation", 8).vocabulary
    cls, sep, pad = vocabulary.cls_token_id, vocabulary.sep_token_id, vocabulary.pad_token_id
    tokens = np.array([[cls, 9, 9, 9, sep, cls, 9, sep], [cls, 9, 9, sep, pad, pad, pad, pad]], dtype=np.uint16)
    assert _packed_lengths(tokens, vocabulary).tolist() == [3, 1, 2]


def test_what_cannot_be_counted_is_refused(prepared):
    with pytest.raises(DataError, match="no split 'test'"):
        summarize(prepared, "test", 10)
    with pytest.raises(DataError, match="blocks=0"):
        summarize(prepared, "train", 0)
