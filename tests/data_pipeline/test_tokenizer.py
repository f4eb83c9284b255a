import subprocess
import sys

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from data_pipeline import DataError, fingerprint
from data_pipeline.tokenizer import fingerprint_of_folder, load_tokenizer, train_tokenizer, vocabulary_of

TRAIN = """
import random, sys
from data_pipeline.tokenizer import train_tokenizer
rng = random.Random(0)
letters = "abcdefghijklmnopqrstuvwxyzéß漢字"
texts = [" ".join("".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(40)) for _ in range(200)]
train_tokenizer(texts, 400, 32).save_pretrained(sys.argv[1])
"""


def test_training_twice_in_two_processes_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path / name)], check=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json")).get_vocab_size() == 400


def test_saved_tokenizer_loads_with_auto_tokenizer_and_frames_pairs(tokenizer_folder):
    loaded = AutoTokenizer.from_pretrained(tokenizer_folder)
    first, second = (loaded(text, add_special_tokens=False).input_ids for text in ("the river", "a stone"))
    pair = loaded("the river", "a stone")
    cls, sep = loaded.cls_token_id, loaded.sep_token_id
    assert pair.input_ids == [cls, *first, sep, *second, sep]
    assert pair.token_type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert loaded.model_max_length == 16
    assert loaded.mask_token == "[MASK]"


def test_text_is_lower_cased_and_stripped_of_accents(tokenizer):
    assert tokenizer.tokenize("CAFÉ Naïve") == tokenizer.tokenize("cafe naive")


def test_only_the_five_special_tokens_are_special_and_ids_have_no_gaps(tokenizer):
    vocabulary = vocabulary_of(tokenizer)
    assert vocabulary.special_ids == (0, 1, 2, 3, 4)
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocabulary.vocab_size))
    assert len(vocabulary.ordinary_ids) == vocabulary.vocab_size - 5


def test_a_small_corpus_gives_a_small_vocabulary():
    assert len(train_tokenizer(["one two three"] * 5, 30000, 16)) < 60


def test_rare_characters_do_not_crowd_out_the_vocabulary():
    exotic = "".join(chr(0x4E00 + number) for number in range(500))
    trained = train_tokenizer(["the quick brown fox " * 50] * 200 + [exotic], 200, 16)
    assert len(trained) <= 200
    assert trained.tokenize("quick") == ["quick"]
    assert trained.tokenize(exotic[-1]) == ["[UNK]"]


def test_fingerprint_survives_saving_and_use_but_not_another_vocabulary(tokenizer, tokenizer_folder):
    loaded = AutoTokenizer.from_pretrained(tokenizer_folder)
    assert fingerprint(loaded) == fingerprint(tokenizer) == fingerprint_of_folder(tokenizer_folder)
    loaded(["the river", "a"], truncation=True, max_length=4, padding=True)
    assert fingerprint(loaded) == fingerprint(tokenizer)
    loaded.add_tokens(["newword"])
    assert fingerprint(loaded) != fingerprint(tokenizer)


def test_unloadable_tokenizers_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*cannot be loaded"):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_tokenizers_without_a_mask_token_are_refused(tokenizer_folder, tmp_path):
    loaded = AutoTokenizer.from_pretrained(tokenizer_folder)
    loaded.mask_token = None
    loaded.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="has no mask_token"):
        load_tokenizer(str(tmp_path))
