"""Noise: its definition, its determinism, and nothing at strength 0."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval import TASKS
from eval.studies.base import Context
from eval.studies.noise import (
    EDITS,
    NEIGHBOURS,
    NoiseOptions,
    noisy_embeddings,
    noisy_text,
    noisy_texts,
    replaced_tokens,
    run,
)
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]
TEXT = "a gripping film about two sisters , and quite long"
words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=12)
draws = st.floats(0, 1, exclude_max=True)


def _noisy(kind: str, strength: float, seed: int = 0, text: str = TEXT) -> str:
    return noisy_text(text, kind, strength, np.random.default_rng(seed))


@given(st.sampled_from(sorted(EDITS)), st.text(max_size=40), st.integers(0, 99))
def test_strength_0_leaves_every_text_as_it_is(kind: str, text: str, seed: int) -> None:
    assert _noisy(kind, 0.0, seed, text) == text


@given(words, draws, draws)
def test_every_edit_is_one_error(word: str, at: float, which: float) -> None:
    swapped = EDITS["char_swap"](word, at, which)
    assert sorted(swapped) == sorted(word)
    differing = [i for i, (a, b) in enumerate(zip(swapped, word, strict=True)) if a != b]
    assert differing == [] or differing == [differing[0], differing[0] + 1]
    dropped = EDITS["char_drop"](word, at, which)
    assert any(word[:i] + word[i + 1 :] == dropped for i in range(len(word)))
    inserted = EDITS["char_insert"](word, at, which)
    assert any(inserted[:i] + inserted[i + 1 :] == word for i in range(len(inserted)))
    assert EDITS["word_drop"](word, at, which) == ""
    typo = EDITS["typo"](word, at, which)
    changed = [(a, b) for a, b in zip(word, typo, strict=True) if a != b]
    assert all(b.lower() in NEIGHBOURS[a.lower()] and a.isupper() == b.isupper() for a, b in changed)
    assert len(changed) == (1 if any(letter.lower() in NEIGHBOURS for letter in word) else 0)


def test_keys_are_neighbours_of_each_other() -> None:
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert set(NEIGHBOURS["p"]) == set("ol")
    assert all(key in NEIGHBOURS[other] for key, others in NEIGHBOURS.items() for other in others)


@given(st.sampled_from(["char_insert", "word_drop"]), st.integers(0, 999), draws, draws)
def test_what_is_hit_is_hit_at_every_larger_strength(kind: str, seed: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    text = " ".join(f"{letter}{letter}" for letter in "abcdefghij")
    kept = {strength: set(_noisy(kind, strength, seed, text).split()) & set(text.split()) for strength in (low, high)}
    kept[high].discard("aa")  # stays where all words would go
    assert kept[high] <= kept[low] | {"aa"}


def test_the_strength_is_the_share_of_words_hit() -> None:
    text = "word " * 4000
    hit = sum(word != "word" for word in _noisy("char_insert", 0.3, 1, text).split())
    assert hit / 4000 == pytest.approx(0.3, abs=0.03)
    assert _noisy("word_drop", 1.0, text="only these words") == "only", "a text never becomes empty"


def test_noise_depends_on_seed_kind_and_example_only() -> None:
    task = TASKS["mrpc"]
    data = datasets.Dataset.from_dict({"sentence1": [TEXT] * 3, "sentence2": [TEXT] * 3, "label": [0, 1, 0]})
    noisy = noisy_texts(task, data, "typo", 0.5, seed=1)
    again = noisy_texts(task, data.select([0, 1]), "typo", 0.5, seed=1)
    assert noisy["sentence1"][:2] == again["sentence1"][:2]
    assert noisy["label"] == [0, 1, 0]
    assert len({*noisy["sentence1"], *noisy["sentence2"]}) == 6, "every text has its own draws"
    assert noisy["sentence1"] != noisy_texts(task, data, "typo", 0.5, seed=2)["sentence1"]


def test_replaced_tokens_spare_the_special_ones(tokenizer: Any) -> None:
    ids = [tokenizer.cls_token_id, *range(5, 20), tokenizer.sep_token_id]
    data = datasets.Dataset.from_dict({"input_ids": [ids], "labels": [1]})
    assert replaced_tokens(data, tokenizer, 0.0, seed=0)["input_ids"] == [ids]
    replaced = replaced_tokens(data, tokenizer, 1.0, seed=0)["input_ids"][0]
    assert (replaced[0], replaced[-1]) == (ids[0], ids[-1])
    assert not set(replaced[1:-1]) & set(tokenizer.all_special_ids)
    assert replaced != ids


@torch.no_grad()
def test_noise_on_embeddings_has_the_strength_asked_for_and_goes_away(classifier: MakeClassifier) -> None:
    model, ids = classifier(), torch.randint(5, 20, (16, 20))
    clean, logits = model.acn.embeddings(ids, None, torch.arange(20)[None]), model(ids).logits
    with noisy_embeddings(model, 0.5, seed=3):
        noise = model.acn.embeddings(ids, None, torch.arange(20)[None]) - clean
    assert noise.std() / clean.square().mean().sqrt() == pytest.approx(0.5, rel=0.03)
    with noisy_embeddings(model, 0.0, seed=3):
        assert torch.equal(model(ids).logits, logits)
    with noisy_embeddings(model, 0.5, seed=3):
        first = model(ids).logits
    with noisy_embeddings(model, 0.5, seed=3):
        assert torch.equal(model(ids).logits, first)
    assert not torch.equal(first, logits)
    assert torch.equal(model(ids).logits, logits)


def test_noise_makes_the_fine_tuned_model_worse_and_the_same_command_gives_the_same(
    make_context: Callable[..., Context],
) -> None:
    options = NoiseOptions(kinds="char_insert,token_replace,embedding", strengths="0.9")
    study, again = (run(make_context(max_eval_samples=80), options) for _ in range(2))
    for curve in study.curves[:2]:
        clean, noisy = curve.points
        assert clean.values == [curve.reference]
        assert max(noisy.values) < clean.values[0] - 0.1
    assert [curve.as_json() for curve in study.curves] == [curve.as_json() for curve in again.curves]
