import json
import shutil
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_pipeline import (
    CorpusConfig,
    DataError,
    PrepareConfig,
    drop_local_fields,
    fingerprint,
    prepare_corpus,
    save_tokenizer,
)
from data_pipeline.corpus.merge import longest_tokens
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer, vocabulary_faults, vocabulary_of

TRAIN = """
import random, sys
from data_pipeline.tokenizer import train_tokenizer
rng = random.Random(0)
letters = "abcdefghijklmnopqrstuvwxyzéß漢字"
texts = [" ".join("".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(40)) for _ in range(200)]
for kind, size in (("wordpiece", 400), ("bpe", 600)):
    train_tokenizer(texts, size, 32, kind).save_pretrained(sys.argv[1] + kind)
"""


def test_training_twice_in_two_processes_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path / name)], check=True)
    for kind, size in (("wordpiece", 400), ("bpe", 600)):
        first, second = (tmp_path / f"{name}{kind}" for name in ("a", "b"))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            assert (first / file).read_bytes() == (second / file).read_bytes()
        assert Tokenizer.from_file(str(first / "tokenizer.json")).get_vocab_size() == size


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
    assert fingerprint(loaded) == fingerprint(tokenizer)
    assert vocabulary_faults(vocabulary_of(loaded), lambda name: (tokenizer_folder / name).read_bytes()) == []
    loaded(["the river", "a"], truncation=True, max_length=4, padding=True)
    assert fingerprint(loaded) == fingerprint(tokenizer)
    assert vocabulary_faults(vocabulary_of(loaded), lambda name: (tokenizer_folder / name).read_bytes()) == []
    loaded.add_tokens(["newword"])
    assert fingerprint(loaded) != fingerprint(tokenizer)


def test_a_tokenizer_with_more_special_tokens_than_ours_fits_its_description(tokenizer, tmp_path):
    names = {"mask_token": "[MASK]", "pad_token": "[PAD]", "cls_token": "<s>", "sep_token": "</s>", "bos_token": "<s>"}
    more = {"unk_token": "[UNK]", "extra_special_tokens": ["<lang>", "<year>"]}
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    PreTrainedTokenizerFast(tokenizer_object=backend, **names, **more).save_pretrained(tmp_path)
    vocabulary = vocabulary_of(load_tokenizer(str(tmp_path)))
    assert len(vocabulary.special_ids) == 7
    assert vocabulary_faults(vocabulary, lambda name: (tmp_path / name).read_bytes()) == []
    (tmp_path / "tokenizer_config.json").unlink()
    assert vocabulary_faults(vocabulary, lambda name: (tmp_path / name).read_bytes()) == []
    (tmp_path / "tokenizer_config.json").write_text("[")
    (fault,) = vocabulary_faults(vocabulary, lambda name: (tmp_path / name).read_bytes())
    assert fault.startswith("tokenizer_config.json cannot be read")


def test_unloadable_tokenizers_are_named(tmp_path):
    with pytest.raises(DataError, match=r"tokenizer=.*nowhere is not there: give a folder, or NAME"):
        load_tokenizer(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=f"{tmp_path}.*cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_tokenizers_without_a_mask_token_are_refused(tokenizer_folder, tmp_path):
    loaded = AutoTokenizer.from_pretrained(tokenizer_folder)
    loaded.mask_token = None
    loaded.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="has no mask_token"):
        load_tokenizer(str(tmp_path))


@pytest.fixture(scope="module")
def bpe(texts):
    return train_tokenizer(texts(300), 600, 16, "bpe")


@given(st.text(st.characters(codec="utf-8")))
def test_byte_level_bpe_spells_any_text_without_an_unknown_token(bpe, text):
    backend = bpe.backend_tokenizer
    backend.encode_special_tokens = True
    ids = backend.encode(text, add_special_tokens=False).ids
    assert backend.decode(ids) == unicodedata.normalize("NFC", text)


def test_byte_level_bpe_keeps_case_and_loads_with_auto_tokenizer(bpe, tmp_path):
    vocabulary = vocabulary_of(bpe)
    assert vocabulary.unk_token_id is None
    assert vocabulary.special_ids == (0, 1, 2, 3)
    bpe.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert fingerprint(loaded) == vocabulary.fingerprint
    assert loaded("The river").input_ids != loaded("the river").input_ids
    pair = loaded("the river", "a stone")
    assert pair.input_ids.count(loaded.sep_token_id) == 2
    assert pair.input_ids[0] == loaded.cls_token_id
    assert loaded.model_max_length == 16


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_longest_tokens_are_those_that_spell_the_most(texts, kind):
    trained = train_tokenizer(texts(300) + ["incomprehensibilities " * 50] * 5, 600, 16, kind)
    longest = longest_tokens(trained.backend_tokenizer, vocabulary_of(trained).special_ids)
    assert longest[0].strip() == "incomprehensibilities"
    assert [len(text) for text in longest] == sorted(map(len, longest), reverse=True)


@pytest.mark.parametrize(("kind", "warned"), [("wordpiece", True), ("bpe", False)])
def test_text_without_spaces_hides_under_few_unknown_tokens_and_is_warned_of(tmp_path, texts, kind, warned):
    """WordPiece makes one unknown token of a "word" above 100 characters, however many it is."""
    long = [text + " " + "\u0e01\u0e02\u0e04" * 50 for text in texts(200)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in long))
    (tmp_path / "short.txt").write_text("\n\n".join(texts(2000, seed=1)))
    corpus = CorpusConfig([f"{tmp_path}/long.jsonl", f"{tmp_path}/short.txt"], validation_fraction=0.2)
    lines: list[str] = []
    options = {"tokenizer_kind": kind, "vocab_size": 600, "seq_length": 16}
    manifest = prepare_corpus(PrepareConfig(corpus, f"{tmp_path}/out", **options), lines.append)
    assert manifest is not None
    hidden = manifest.statistics["tokenizer"]["unknown_character_rates"]["train"][0]
    assert hidden == (pytest.approx(200 * 150 / sum(map(len, long))) if warned else 0)
    assert manifest.statistics["tokenizer"]["unknown_rate"] < 0.01
    warnings = [line for line in lines if line.startswith("warning")]
    assert bool(warnings) == warned
    if warned:
        assert f"{hidden:.1%} of the characters of '{tmp_path}/long.jsonl' are under the unknown token" in warnings[0]
        assert "--tokenizer_kind bpe" in warnings[0]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_report_is_about_the_whole_corpus(tmp_path, texts, kind):
    documents = [f"{text} \u6f22" for text in texts(200)]
    (tmp_path / "a.txt").write_text("\n\n".join(documents))
    corpus = CorpusConfig(f"{tmp_path}/a.txt", validation_fraction=0.2)
    options = {"tokenizer_kind": kind, "vocab_size": 600, "seq_length": 16, "tokenizer_sample_mb": 0.005}
    manifest = prepare_corpus(PrepareConfig(corpus, f"{tmp_path}/out", **options), lambda line: None)
    assert manifest is not None
    report = manifest.statistics["tokenizer"]
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    ids = [loaded(text, add_special_tokens=False).input_ids for text in documents]
    tokens = sum(map(len, ids))
    unknown = sum(part.count(loaded.unk_token_id) for part in ids) if loaded.unk_token_id is not None else 0
    assert report["unknown_rate"] == pytest.approx(unknown / tokens, abs=1e-8)
    # the one unknown character of each document, where there is an unknown token at all
    hidden = len(documents) if unknown else 0
    assert report["unknown_character_rate"] == pytest.approx(hidden / sum(map(len, documents)), abs=1e-8)
    assert report["characters_per_token"] == pytest.approx(sum(map(len, documents)) / tokens, abs=1e-4)
    assert report["sample"]["documents"] < 60, "about 5 kB of 30 kB"
    assert 0.005 <= report["sample"]["megabytes"] < 0.007


def test_a_saved_tokenizer_says_nothing_of_where_it_was(tokenizer_folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tokenizer_folder, old)
    config = json.loads((old / "tokenizer_config.json").read_text())
    local = {"name_or_path": "/home/me/old", "special_tokens_map_file": "/home/me/map.json", "is_local": True}
    (old / "tokenizer_config.json").write_text(json.dumps(config | local))
    for save in (lambda: save_tokenizer(load_tokenizer(str(old)), tmp_path / "new"), lambda: drop_local_fields(old)):
        save()
    for folder in (tmp_path / "new", old):
        written = json.loads((folder / "tokenizer_config.json").read_text())
        assert not written.keys() & {*local, "local_files_only"}
        assert written["mask_token"] == config["mask_token"]
        assert str(tmp_path) not in (folder / "tokenizer_config.json").read_text()
        assert fingerprint(AutoTokenizer.from_pretrained(folder)) == fingerprint(load_tokenizer(str(tokenizer_folder)))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_training_tells_its_stages_and_learns_the_same(texts, kind):
    heard: list[tuple[str, float | None]] = []
    told = train_tokenizer(texts(2500), 600, 16, kind, lambda doing, share: heard.append((doing, share)))
    assert told.get_vocab() == train_tokenizer(texts(2500), 600, 16, kind).get_vocab()
    stages = list(dict.fromkeys(doing for doing, _ in heard))
    before = ["counting characters"] if kind == "wordpiece" else []
    assert stages == [*before, "counting words", "joining pieces to the vocabulary"]
    for stage in stages[:-1]:
        assert [share for doing, share in heard if doing == stage] == [0.0, 0.4, 0.8, 1.0]
    assert heard[-1] == (stages[-1], None)
