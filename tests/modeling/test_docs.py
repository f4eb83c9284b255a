"""docs/model.md says what is so: its table is complete and its recipes run."""

import dataclasses
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from modeling import AcnConfig, AcnForMaskedLM

DOCS = Path(__file__).parents[2] / "docs" / "model.md"
WORDS = ["the", "cat", "dog", "bird", "sat", "ran", "on", "under", "red", "log", "tree"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_the_table_has_every_field_with_its_default():
    own = {f.name: f.default for f in dataclasses.fields(AcnConfig)}
    inherited = {f.name for f in dataclasses.fields(PreTrainedConfig)}
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", DOCS.read_text(), re.M))
    expected = {name for name in own if name not in inherited} | {"tie_word_embeddings", "pad_token_id"}
    assert expected - {"model_type"} <= rows.keys()
    for name in expected & rows.keys():
        written = rows[name].strip()
        default = own[name]
        if isinstance(default, float):
            assert float(written) == default, name
        elif default is None or isinstance(default, bool):
            assert written == str(default).lower(), name
        else:
            assert written == str(default), name


@pytest.fixture
def model_folder(tmp_path, monkeypatch):
    """RUN/model, with a tokenizer of a few words."""
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    folder = tmp_path / "RUN" / "model"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = AcnConfig(vocab_size=len(vocabulary), hidden_size=32, num_attention_heads=2, intermediate_size=64,
                       num_hidden_layers=4, max_position_embeddings=32)  # fmt: skip
    AcnForMaskedLM(config).save_pretrained(folder)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("model_folder")
def test_the_recipes_run_one_after_another():
    recipes = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.M | re.S)
    assert len(recipes) >= 7
    names: dict = {}
    for recipe in recipes:
        if "from peft" in recipe:
            try:
                import peft  # noqa: F401
            except ImportError:
                continue
        exec(compile(recipe, str(DOCS), "exec"), names)
    assert names["small"].config.num_hidden_layers == 3
    assert names["packed"].last_hidden_state.shape[0] == 1
    assert names["shares"][2] == pytest.approx(1.0)
