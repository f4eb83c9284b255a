import json
from dataclasses import replace

import pytest

from data_pipeline import DataError
from data_pipeline.tokenizer import continuations, vocabulary_of


def test_pieces_of_a_wordpiece_continue_and_words_do_not(tokenizer, tokenizer_folder):
    vocabulary = vocabulary_of(tokenizer)
    table = continuations(tokenizer_folder, vocabulary)
    assert table.shape == (vocabulary.vocab_size,)
    for piece, number in tokenizer.get_vocab().items():
        assert table[number] == piece.startswith("##")


def _folder(tmp_path, model):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    return tmp_path


def test_byte_level_words_begin_with_their_space_or_with_punctuation(tmp_path, tokenizer):
    pieces = ["[PAD]", "Ġthe", "ing", "9", "(", "-", "Ċ", "Ġ", "Ã©", "©", "Ġ("]
    model = {"type": "BPE", "vocab": {piece: number for number, piece in enumerate(pieces)}}
    vocabulary = replace(vocabulary_of(tokenizer), vocab_size=len(pieces), special_ids=(0,))
    table = continuations(_folder(tmp_path, model), vocabulary)
    assert [piece for piece, goes_on in zip(pieces, table, strict=True) if goes_on] == ["ing", "9", "Ã©", "©"]


def test_other_tokenizers_are_refused_with_the_mend(tmp_path, tokenizer):
    with pytest.raises(DataError, match=r"Unigram.*use masking\.unit=token or span"):
        continuations(_folder(tmp_path, {"type": "Unigram", "vocab": []}), vocabulary_of(tokenizer))
