"""Cutting a fine-tuned model: the same predictions as the source at that depth, and every refusal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from eval import CompressConfig, EvalError, compress, flops_by_depth
from modeling import AcnForSequenceClassification, parameters_by_depth

SCORES = [0.5, 0.88, 0.896, 0.9]


@pytest.fixture
def source(tmp_path: Path, classifier: Callable[..., AcnForSequenceClassification], tokenizer: Any) -> Path:
    """A fine-tuned folder with made-up scores."""
    folder, model = tmp_path / "glue" / "sst2", classifier()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    results = {
        "task": "sst2",
        "metric": "accuracy",
        "seed": 1,
        "model": "run/model",
        "connectivity": "acn",
        "full_score": SCORES[-1],
        "depth_scores": SCORES,
        "cut_depth": 2,
        "tolerance": 0.005,
        "params_by_depth": parameters_by_depth(model),
        "flops_by_depth": flops_by_depth(model, 16),
        "seq_length": 16,
        "train": {},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.mark.parametrize(
    ("options", "depth"),
    [({}, 2), ({"tolerance": 0.0}, 3), ({"tolerance": 0.02}, 1), ({"tolerance": 1.0}, 0), ({"depth": 1}, 1)],
)
def test_the_small_model_predicts_bit_for_bit_what_the_source_does_at_that_depth(
    source: Path, tmp_path: Path, options: dict[str, Any], depth: int
) -> None:
    summary = compress(CompressConfig(model=str(source), output=str(tmp_path / "small"), **options))
    small = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    full = AutoModelForSequenceClassification.from_pretrained(source).eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "small")(
        ["a very good film", "the long book was awful and poor"], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        assert torch.equal(small(**batch).logits, full(**batch, depth=depth).logits)
    assert (summary.depth, summary.layers, small.config.num_hidden_layers) == (depth, 3, depth)
    assert summary.params == sum(p.numel() for p in small.parameters())
    assert (summary.score, summary.full_score) == (SCORES[depth], 0.9)


def test_the_small_model_carries_its_own_numbers_and_where_it_comes_from(source: Path, tmp_path: Path) -> None:
    summary = compress(CompressConfig(model=str(source), output=str(tmp_path / "small")))
    written = json.loads((tmp_path / "small" / "results.json").read_text())
    wanted = {"source": str(source), "depth": 2, "score": 0.896, "full_score": 0.9, "params": summary.params}
    assert written.items() >= (wanted | {"flops": summary.flops, "seed": 1, "tolerance": 0.005}).items()
    assert summary.flops < summary.full_flops
    text = "\n".join(summary.lines())
    assert "3 -> 2 layers" in text
    assert "0.9000 -> 0.8960" in text
    assert str(tmp_path / "small") in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 4}, r"depth=4 is outside 0\.\.3"),
        ({"depth": -1}, "depth=-1"),
        ({"tolerance": -0.1}, "tolerance=-0.1"),
        ({"model": "absent"}, r"absent has no results\.json"),
    ],
)
def test_wrong_values_are_errors_and_nothing_is_written(
    source: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvalError, match=message):
        compress(CompressConfig(**{"model": str(source), "output": str(tmp_path / "small")} | options))
    assert not (tmp_path / "small").exists()


def test_an_existing_output_is_an_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(EvalError, match="exists already"):
        compress(CompressConfig(model=str(source), output=str(tmp_path / "small")))
    assert list((tmp_path / "small").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth_scores": None}, "depth_scores of the wrong type"),
        ({"depth_scores": [0.5, 0.9]}, "not one number per depth"),
        ({"cut_depth": 9}, "cut_depth=9 is outside"),
    ],
)
def test_results_that_do_not_follow_the_contract_are_errors(
    source: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = source / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EvalError, match=message):
        compress(CompressConfig(model=str(source), output=str(tmp_path / "small")))


def test_a_small_model_cannot_be_cut_again_without_a_sweep(source: Path, tmp_path: Path) -> None:
    compress(CompressConfig(model=str(source), output=str(tmp_path / "small")))
    with pytest.raises(EvalError, match="is not a result of fine-tuning"):
        compress(CompressConfig(model=str(tmp_path / "small"), output=str(tmp_path / "smaller")))


def test_results_of_another_model_are_noticed(source: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(source, num_hidden_layers=2).save_pretrained(source)
    with pytest.raises(EvalError, match="speaks of 3 layers"):
        compress(CompressConfig(model=str(source), output=str(tmp_path / "small")))
