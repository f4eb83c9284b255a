import json
import sys
import types
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import CleaningConfig, CorpusConfig, DataError, Source, parse_record
from data_pipeline.corpus.selection import find_duplicates, used_documents
from data_pipeline.corpus.units import Unit, plan_units

NONE = np.empty(0, dtype=np.int64)


@pytest.fixture
def write(tmp_path):
    def write(name: str, documents: list[str]) -> str:
        file = tmp_path / name
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
        return str(file)

    return write


def _used(corpus: CorpusConfig, unit_bytes: int = 0) -> list[tuple[str, str]]:
    return [
        kept
        for unit in plan_units(corpus, unit_bytes)
        for batch, _ in used_documents(corpus, unit, NONE, Counter())
        for kept in batch
    ]


@pytest.mark.parametrize("unit_bytes", [0, 500, 2000])
def test_units_of_any_size_hold_the_same_documents_in_the_same_order(write, texts, unit_bytes):
    corpus = CorpusConfig([write("a.jsonl", texts(100)), write("b.jsonl", texts(50, seed=1))], validation_fraction=0.1)
    units = plan_units(corpus, unit_bytes)
    assert _used(corpus, unit_bytes) == list(corpus.documents())
    assert [unit.number for unit in units] == list(range(len(units)))
    assert len(units) >= {0: 2, 500: 50, 2000: 12}[unit_bytes]
    assert [parse_record(Unit, json.loads(json.dumps(asdict(unit)))) for unit in units] == units


def test_small_files_share_a_unit_but_sources_do_not(write, tmp_path, texts):
    for number in range(10):
        write(f"{number}.jsonl", texts(5, seed=number))
    corpus = CorpusConfig(f"{tmp_path}/*.jsonl", validation=write("v.json", texts(5)))
    assert [(unit.field, len(unit.slices)) for unit in plan_units(corpus, 0)] == [("train", 10), ("validation", 1)]


def test_weights_say_how_often_a_document_is_used(write):
    documents = [f"document {number}" for number in range(4000)]
    path = write("a.jsonl", documents)
    for weight, low, high in ((0.3, 1100, 1300), (1.0, 4000, 4000), (2.0, 8000, 8000), (2.5, 9900, 10100)):
        corpus = CorpusConfig(Source(path, weight=weight), validation=write("v.jsonl", ["x"]))
        counts = Counter(text for split, text in _used(corpus) if split == "train")
        assert low <= counts.total() <= high
        assert set(counts.values()) <= {int(weight), int(np.ceil(weight))}
    reversed_corpus = CorpusConfig(Source(write("r.jsonl", documents[::-1]), weight=2.5), validation=corpus.validation)
    assert Counter(_used(reversed_corpus)) == Counter(_used(corpus)), "the text decides, not its place"


def test_copies_of_a_document_stand_a_whole_pass_apart(write):
    documents = [f"document {number}" for number in range(100)]
    corpus = CorpusConfig(Source(write("a.jsonl", documents), weight=2), validation=write("v.jsonl", ["x"]))
    assert [text for split, text in _used(corpus, 300) if split == "train"] == documents * 2


def test_held_out_documents_are_never_repeated_and_never_in_both_splits(write, texts):
    documents = [f"{number} {text}" for number, text in enumerate(texts(1000))]
    corpus = CorpusConfig(Source(write("a.jsonl", documents), weight=3), validation_fraction=0.1)
    used = Counter(_used(corpus))
    held_out = {text for split, text in used if split == "validation"}
    assert 50 < len(held_out) < 150
    assert all(count == (1 if split == "validation" else 3) for (split, _), count in used.items())
    assert not held_out & {text for split, text in used if split == "train"}


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_weights_must_be_positive_and_are_for_training(write, weight):
    path = write("a.jsonl", ["a"])
    assert "set it above 0" in str(CorpusConfig(Source(path, weight=weight)).problems()[0])
    assert "weights are for training" in str(CorpusConfig(path, validation=Source(path, weight=2)).problems()[0])


def shout(text: str) -> str | None:
    """A cleaning hook."""
    return None if "drop" in text else text.upper()


def test_cleaning_comes_first_and_is_tallied(write, monkeypatch):
    path = write("a.jsonl", ["cafe\u0301 au lait", "no", "please drop this", "  ", ""])
    cleaning = CleaningConfig(hook="tests_hooks:shout", unicode_form="NFC", min_characters=3)
    module = types.ModuleType("tests_hooks")
    module.shout = shout
    monkeypatch.setitem(sys.modules, "tests_hooks", module)
    corpus = CorpusConfig(path, validation_fraction=1e-12, cleaning=cleaning)
    assert corpus.problems() == []
    tally: Counter[str] = Counter()
    (unit,) = plan_units(corpus, 0)
    kept = [text for batch, _ in used_documents(corpus, unit, NONE, tally) for _, text in batch]
    assert kept == ["CAF\u00c9 AU LAIT"]
    assert tally == {"blank": 2, "cleaned_away": 2}
    assert list(corpus.documents()) == [("train", "CAF\u00c9 AU LAIT")]


@pytest.mark.parametrize("hook", ["nowhere:clean", "json:nothing", "json"])
def test_hooks_that_cannot_be_imported_are_named(write, hook):
    corpus = CorpusConfig(write("a.jsonl", ["a"]), cleaning=CleaningConfig(hook=hook, min_characters=0))
    text = "\n".join(map(str, corpus.problems()))
    assert f"corpus.cleaning.hook={hook!r} cannot be imported" in text
    assert "min_characters=0 must be at least 1" in text


def test_a_hook_that_returns_no_text_is_an_error():
    with pytest.raises(DataError, match="returned int"):
        CleaningConfig(hook="builtins:len").function()("text")


@given(st.lists(st.lists(st.integers(0, 20), max_size=20), max_size=6))
def test_duplicates_are_all_but_the_first_occurrence_over_all_units(units):
    hashes = [np.array([(value, value + 1) for value in unit], dtype=np.uint64).reshape(-1, 2) for unit in units]
    seen: set[int] = set()
    expected = []
    for unit in units:
        again = []
        for index, value in enumerate(unit):
            if value in seen:
                again.append(index)
            seen.add(value)
        expected.append(again)
    assert [found.tolist() for found in find_duplicates(hashes)] == expected
