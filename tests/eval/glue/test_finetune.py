"""Fine-tuning end to end on a tiny task, what it leaves behind, and what it refuses."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerControl, TrainerState

from data_pipeline import UserError
from eval import EvalError, FinetuneConfig, TaskResults, find_task, load_task, read_results, run_suite
from eval.glue.encoding import encode
from eval.progress import ProgressCallback
from modeling import parameters_by_depth
from tests.eval.test_memory import LARGE, glibc, mapped_blocks


@pytest.fixture(scope="module")
def tuned(
    config: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory, make_tracker: type
) -> tuple[Path, TaskResults, Any]:
    """One fine-tuning on sst2: its folder, what it returned and what the tracker heard."""
    output, tracker = tmp_path_factory.mktemp("out") / "glue", make_tracker()
    (results,) = run_suite(replace(config, output=str(output)), tracker.open)
    return output / "sst2", results, tracker


def test_fine_tuning_learns_the_task(tuned: tuple[Path, TaskResults, Any]) -> None:
    results = tuned[1]
    assert results.full_score > 0.9 > 0.65 > results.majority_score


def test_the_folder_holds_a_loadable_model_its_tokenizer_results_and_a_picture(
    tuned: tuple[Path, TaskResults, Any],
) -> None:
    folder, results, _ = tuned
    assert {path.name for path in folder.parent.iterdir()} == {"sst2"}
    assert {"config.json", "model.safetensors", "tokenizer.json", "results.json", "depth.png"} <= {
        path.name for path in folder.iterdir()
    }
    assert (folder / "depth.png").read_bytes().startswith(b"\x89PNG")
    assert read_results(folder) == results
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    batch = AutoTokenizer.from_pretrained(folder)(
        ["a very good film", "the awful plot"], return_tensors="pt", padding=True
    )
    assert model(**batch).logits.argmax(-1).tolist() == [1, 0]


@glibc
def test_a_process_that_has_trained_keeps_what_it_frees(tuned: tuple[Path, TaskResults, Any]) -> None:
    mapped = mapped_blocks()
    block = torch.empty(LARGE, dtype=torch.uint8)
    assert mapped_blocks() == mapped, f"{len(block)} bytes were mapped by themselves"


def test_results_follow_the_contract(tuned: tuple[Path, TaskResults, Any], config: FinetuneConfig) -> None:
    folder, results, _ = tuned
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert results.task == "sst2"
    assert results.metric == "accuracy"
    assert results.seed == 42
    assert results.model == config.model
    assert results.connectivity == "acn"
    assert results.full_score == results.depth_scores[-1]
    assert results.params_by_depth == parameters_by_depth(model.config, model.config.num_labels)
    assert len(results.depth_scores) == len(results.flops_by_depth) == 4
    assert results.depth_scores[results.cut_depth] >= results.full_score - results.tolerance
    assert results.metrics["validation"]["accuracy"] == results.depth_scores
    assert results.train["learning_rate"] == 3e-3
    assert (results.train["samples"], results.train["steps"]) == (320, 60)


def test_the_written_model_scores_what_the_results_say(tuned: tuple[Path, TaskResults, Any], glue_dir: Path) -> None:
    folder, results, _ = tuned
    rows = load_task(find_task("sst2", str(glue_dir)), str(glue_dir))["validation"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for depth, score in enumerate(results.depth_scores):
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_hidden_layers=depth).eval()
        with torch.no_grad():
            logits = model(**tokenizer(list(rows["sentence"]), return_tensors="pt", padding=True)).logits
        assert (logits.argmax(-1).numpy() == np.array(rows["label"])).mean() == score


def test_the_tracker_hears_losses_depth_scores_parameters_and_the_figure(
    tuned: tuple[Path, TaskResults, Any],
) -> None:
    folder, results, tracker = tuned
    assert list(tracker.series("sst2/depth_score").values()) == results.depth_scores
    assert list(tracker.series("sst2/depth_score")) == [0, 1, 2, 3]
    losses = tracker.series("sst2/loss")
    assert losses[60] < losses[1]
    assert tracker.series("sst2/full_score") == {60: results.full_score}
    assert tracker.opened == 1
    assert tracker.figures == [folder / "depth.png"]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    config: FinetuneConfig, tmp_path: Path, make_tracker: type
) -> None:
    short = replace(config, epochs=1, max_train_samples=100)
    trackers = [make_tracker() for _ in range(3)]
    seeds, weights = (7, 7, 8), []
    for i, (seed, tracker) in enumerate(zip(seeds, trackers, strict=True)):
        run_suite(replace(short, seed=seed, output=str(tmp_path / str(i))), tracker.open)
        weights.append((tmp_path / str(i) / "sst2" / "model.safetensors").read_bytes())
    losses = [tracker.series("sst2/loss") for tracker in trackers]
    assert losses[0] == losses[1] != losses[2]
    assert weights[0] == weights[1] != weights[2]


def test_several_tasks_with_pairs_and_regression_run_in_one_call(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    several = replace(config, tasks=["docpair", "stsb"], epochs=0.5, max_train_samples=32, output=str(tmp_path))
    pair, regression = run_suite(several, tracker.open)
    assert (pair.task, pair.metric) == ("docpair", "accuracy")
    assert set(regression.metrics["validation"]) == {"pearson", "spearman"}
    assert regression.depth_scores[0] == 0.0
    assert regression.train["samples"] == 32
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "stsb").config.problem_type == "regression"


def test_a_left_out_learning_rate_is_the_papers_scaled_to_the_width(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    short = replace(config, learning_rate=None, epochs=0.1, max_train_samples=32, output=str(tmp_path))
    (results,) = run_suite(short, tracker.open)
    assert results.train["learning_rate"] == pytest.approx(2e-5 * 768 / 32)


def test_a_max_length_beyond_the_models_positions_is_a_mistake_and_the_tables_is_lowered(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    short = replace(config, epochs=0.1, max_train_samples=32, output=str(tmp_path))
    with pytest.raises(EvalError, match=r"max_length=512 is more than the 24 positions.*max_position_embeddings.*24"):
        run_suite(replace(short, max_length=512), tracker.open)
    (results,) = run_suite(replace(short, max_length=None), tracker.open)
    assert results.seq_length == 24
    assert "using 24" in capsys.readouterr().out


def test_encoding_truncates_pairs_and_keeps_order(glue_dir: Path, tokenizer: Any) -> None:
    task = find_task("docpair", str(glue_dir))
    rows = load_task(task, str(glue_dir))["validation"]
    encoded = encode(task, rows, tokenizer, max_length=9)
    assert max(map(len, encoded["input_ids"])) == 9
    assert encoded["labels"][:] == rows["label"][:]
    assert (
        encoded[5]["input_ids"]
        == tokenizer(rows[5]["sentence1"], rows[5]["sentence2"], truncation=True, max_length=9).input_ids
    )
    assert set(encoded[5]["token_type_ids"]) == {0, 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ""}, "tasks is empty"),
        ({"tasks": "sst2, sst2"}, "names a task twice"),
        ({"tasks": "sst2,sst9"}, "'sst9' is unknown"),
        ({"tasks": "sst2,cola"}, r"train\.parquet is missing"),
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_length": 2}, "max_length=2"),
        ({"max_train_samples": 0}, "max_train_samples=0"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
        ({"warmup_fraction": 1.0}, "warmup_fraction=1.0.*less than 1"),
        ({"tolerance": -0.1}, "tolerance=-0.1"),
        ({"seed": -1}, "seed=-1"),
        ({"model": "./absent/model"}, "model=./absent/model is not there: give a folder, or NAME"),
        ({"model": str(Path(__file__).parent)}, "not a model folder"),
        ({"glue_dir": "absent"}, "glue_dir=absent is not a folder"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_written(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_suite(replace(config, **{"output": str(tmp_path / "out")} | change), tracker.open)
    assert not (tmp_path / "out").exists()
    assert not tracker.opened


def test_all_problems_are_reported_together(config: FinetuneConfig) -> None:
    problems = replace(config, epochs=-1, batch_size=0, tolerance=-1).problems()
    assert [problem.field for problem in problems] == ["epochs", "batch_size", "tolerance"]


def test_an_existing_output_of_any_task_stops_before_the_first_one(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    (tmp_path / "docpair").mkdir()
    with pytest.raises(EvalError, match=r"docpair exists already: choose another --output, or remove it"):
        run_suite(replace(config, tasks="sst2,docpair", output=str(tmp_path)), tracker.open)
    assert [path.name for path in tmp_path.iterdir()] == ["docpair"]


def _break_family(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


def _break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _break_value(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"connectivity": "dense"}))


def _drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _other_shape(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"intermediate_size": 48}))


def _smaller_vocabulary(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"vocab_size": 11}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break_family, "model_type 'gpt2'"),
        (_break_config, "cannot be read as JSON"),
        (_break_value, "is not valid"),
        (_drop_tokenizer, "no usable tokenizer"),
        (_drop_weights, "weights cannot be loaded"),
        (_other_shape, "weights are missing or misshapen"),
        (_smaller_vocabulary, r"has 21 ids, the model embeds 11"),
    ],
)
def test_a_damaged_model_folder_is_an_error_and_nothing_is_written(
    config: FinetuneConfig, pretrained: Path, tmp_path: Path, tracker: Any, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pretrained, folder)
    damage(folder)
    with pytest.raises(EvalError, match=message):
        run_suite(replace(config, model=str(folder), output=str(tmp_path / "out")), tracker.open)
    assert not (tmp_path / "out").exists()


def test_training_that_diverges_is_an_error_and_leaves_nothing(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    with pytest.raises(EvalError, match="lower learning_rate"):
        run_suite(replace(config, learning_rate=1e15, output=str(tmp_path / "out")), tracker.open)
    assert not (tmp_path / "out").exists()


def test_progress_lines_come_at_the_interval_with_the_time_left(
    tracker: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 10.0, 15.0, 21.0])
    monkeypatch.setattr("eval.progress.time.monotonic", lambda: next(clock))
    callback, state = ProgressCallback("rte", tracker), TrainerState(max_steps=100)
    callback.on_train_begin(None, state, TrainerControl())
    callback.on_log(None, state, TrainerControl(), logs={"loss": 0.5, "learning_rate": 1e-4})
    for step in (10, 20, 30, 40):
        state.global_step = step
        callback.on_step_end(None, state, TrainerControl())
    assert capsys.readouterr().out.splitlines() == [
        "rte: step 20/100, loss 0.500, 40s left",
        "rte: step 40/100, loss 0.500, 32s left",
    ]
