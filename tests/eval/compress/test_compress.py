"""Cutting a fine-tuned model: the same predictions as the source at that depth, and every refusal."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data_pipeline import UserError
from eval import CompressConfig, EvalError, FinetuneConfig, compress_model, flops_by_depth, read_results, run_suite
from eval.compress.onnx_model import INPUTS, open_session
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
        "params_by_depth": parameters_by_depth(model.config, model.config.num_labels),
        "flops_by_depth": flops_by_depth(model, 16),
        "seq_length": 16,
        "scored_on": {
            "split": "validation",
            "examples": 872,
            "of": 872,
            "hub_dataset": "nyu-mll/glue",
            "hub_config": "sst2",
        },
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
    summary = compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small"), **options))
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
    summary = compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small")))
    written = json.loads((tmp_path / "small" / "cut.json").read_text())
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
        ({"model": "./absent"}, r"model=\./absent is not there"),
        ({"model": str(Path(__file__).parent)}, r"tests/eval/compress has no results\.json"),
    ],
)
def test_wrong_values_are_errors_and_nothing_is_written(
    source: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compress_model(CompressConfig(**{"model": str(source), "output": str(tmp_path / "small")} | options))
    assert not (tmp_path / "small").exists()


def test_an_existing_output_is_an_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(EvalError, match="exists already"):
        compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small")))
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
        compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small")))


def test_a_small_model_cannot_be_cut_again_without_a_sweep(source: Path, tmp_path: Path) -> None:
    compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small")))
    with pytest.raises(EvalError, match="is not a result of fine-tuning"):
        compress_model(CompressConfig(model=str(tmp_path / "small"), output=str(tmp_path / "smaller")))


def test_results_of_another_model_are_noticed(source: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(source, num_hidden_layers=2).save_pretrained(source)
    with pytest.raises(EvalError, match="speaks of 3 layers"):
        compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small")))


def test_the_card_has_the_hubs_metadata_and_the_numbers(source: Path, tmp_path: Path) -> None:
    compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small")))
    card = ModelCard.load(tmp_path / "small" / "README.md")
    assert card.data.datasets == ["nyu-mll/glue"]
    assert card.data.pipeline_tag == "text-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_config) == ("accuracy", 0.896, "sst2")
    assert "| accuracy, validation | 0.9000 | 0.8960 |" in card.text
    assert "loses at most 0.005" in card.text


@pytest.mark.parametrize(
    ("options", "depth", "rule"),
    [
        ({"one_standard_error": True}, 1, "one standard error"),
        ({"max_gflops": 1e-3}, 1, "within 0.001 GFLOPs"),
        ({"max_params": 1e9, "max_gflops": 1.0}, 3, "within 1e[+]09 parameters, 1 GFLOPs"),
        ({"max_latency_ms": 1e6}, 3, "ms"),
    ],
)
def test_other_rules_pick_the_depth(
    source: Path, tmp_path: Path, options: dict[str, Any], depth: int, rule: str
) -> None:
    _change_results(source, standard_error=0.03, flops_by_depth=[10**5, 10**6, 2 * 10**6, 3 * 10**6])
    summary = compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small"), **options))
    assert summary.depth == depth
    assert re.search(rule, summary.rule)


def _change_results(source: Path, **changes: Any) -> None:
    path = source / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_params": 10}, r"max_params=10: no depth is that small \(depth 0 has .* parameters\)"),
        ({"max_mb": -1}, "max_mb=-1"),
        ({"depth": 1, "max_mb": 5}, "depth, max_mb exclude each other"),
        ({"one_standard_error": True}, "states no standard error"),
    ],
)
def test_rules_that_cannot_be_kept_are_errors(
    source: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvalError, match=message):
        compress_model(CompressConfig(model=str(source), output=str(tmp_path / "small"), **options))
    assert not (tmp_path / "small").exists()


@pytest.fixture(scope="module")
def tuned(pretrained: Path, glue_dir: Path, tmp_path_factory: pytest.TempPathFactory, make_tracker: type) -> Path:
    """A really fine-tuned folder."""
    output = tmp_path_factory.mktemp("tuned")
    config = FinetuneConfig(
        str(pretrained),
        "sst2",
        str(output),
        str(glue_dir),
        epochs=2,
        learning_rate=3e-3,
        max_length=16,
        speed=False,
        precision="fp32",  # as ONNX files compute
    )
    run_suite(config, make_tracker().open)
    return output / "sst2"


def test_the_written_model_is_scored_again(tuned: Path, tmp_path: Path) -> None:
    summary = compress_model(CompressConfig(model=str(tuned), output=str(tmp_path / "small"), depth=1))
    assert summary.checked_score == summary.score == read_results(tuned).depth_scores[1]
    assert "run again on the validation split" in "\n".join(summary.lines())


def test_a_model_that_does_not_score_what_the_sweep_said_is_refused(tuned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sst2"
    shutil.copytree(tuned, folder)
    scores = read_results(folder).depth_scores
    _change_results(folder, depth_scores=[scores[0], scores[1] - 0.1, *scores[2:]])
    with pytest.raises(EvalError, match=r"the cut model scores 0\.\d+, results.json says"):
        compress_model(CompressConfig(model=str(folder), output=str(tmp_path / "small"), depth=1))
    assert not (tmp_path / "small").exists()
    unchecked = compress_model(CompressConfig(model=str(folder), output=str(tmp_path / "small"), depth=1, check=False))
    assert unchecked.checked_score is None


@pytest.mark.slow
def test_onnx_files_answer_as_the_model_does_for_any_shape(tuned: Path, tmp_path: Path) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    summary = compress_model(CompressConfig(model=str(tuned), output=str(tmp_path / "small"), depth=2, int8=True))
    variants = summary.variants or {}
    assert set(variants) == {"model.onnx", "model_int8.onnx"}
    assert variants["model.onnx"]["score"] == summary.score
    assert variants["model_int8.onnx"]["score"] == pytest.approx(summary.score, abs=0.05)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    session = open_session(tmp_path / "small" / "model.onnx")
    for texts in (["a good film"], ["a very good film", "poor", "the long and awful plot"]):
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.no_grad():
            wanted = model(**batch).logits.numpy()
        (got,) = session.run(None, {name: batch[name].numpy() for name in INPUTS})
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert "model_int8.onnx" in (tmp_path / "small" / "README.md").read_text()
