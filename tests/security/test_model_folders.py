"""A model folder of somebody else's is weights and settings: nothing in it runs."""

import json
from pathlib import Path

import pytest
import torch

from data_pipeline import DataError
from data_pipeline.tokenizer import load_tokenizer as load_any_tokenizer
from eval import EvalError, load_tokenizer, read_model_config
from eval.models import load_for_task
from eval.tasks import TASKS
from modeling import AcnConfig, AcnForMaskedLM
from tests.security.tampering import Bomb


@pytest.fixture
def model(prepared, tmp_path) -> Path:
    """A model folder without tokenizer."""
    folder = tmp_path / "model"
    AcnForMaskedLM(
        AcnConfig(vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    ).save_pretrained(folder)
    return folder


def test_weights_in_a_pickle_do_not_run(model, tmp_path):
    sentinel = tmp_path / "code-has-run"
    (model / "model.safetensors").unlink()
    torch.save({"more": Bomb(sentinel)}, model / "pytorch_model.bin")
    with pytest.raises(EvalError, match="its weights cannot be loaded"):
        load_for_task(str(model), TASKS["sst2"])
    assert not sentinel.exists()


def test_a_tokenizer_brings_no_code_along(model, tmp_path, monkeypatch):
    """Nor does it ask, which transformers would at a terminal."""
    sentinel = tmp_path / "code-has-run"
    (model / "foreign.py").write_text(f"import pathlib\npathlib.Path({str(sentinel)!r}).mkdir()\nclass Own: pass\n")
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["foreign.Own", "foreign.Own"]}}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    config = read_model_config(str(model))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(EvalError, match="no usable tokenizer"):
        load_tokenizer(str(model), config)
    with pytest.raises(DataError, match="cannot be loaded"):
        load_any_tokenizer(str(model))
    assert not sentinel.exists()
