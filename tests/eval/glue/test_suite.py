"""Suites: several seeds together, resuming, several ranks, grids, other data, and GLUE's average."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from eval import (
    GLUE_TASKS,
    TASKS,
    EvalError,
    FinetuneConfig,
    TaskResults,
    TrialResults,
    compute_metrics,
    load_task,
    read_results,
    read_trial,
    run_suite,
)
from eval.errors import Diverged
from eval.glue.aggregate import aggregate_seeds, glue_average, standard_error
from eval.glue.suite import check_suite
from eval.tasks.hyperparameters import GridConfig
from eval.tasks.own_data import DatasetConfig
from modeling import AcnConfig, AcnForMaskedLM, DepthSupervision

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def config(config: FinetuneConfig) -> FinetuneConfig:
    return replace(config, epochs=1, max_train_samples=64, speed=False)


@pytest.fixture(scope="module")
def three_seeds(config: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory, make_tracker: type) -> tuple:
    """A suite of two tasks and three seeds: its folder, its results, its tracker and those of its cells."""
    output, tracker, children = tmp_path_factory.mktemp("suite") / "glue", make_tracker(), {}

    @contextmanager
    def child(name: str) -> Any:
        children[name] = make_tracker()
        yield children[name]

    asked = replace(config, tasks="sst2,docpair", seeds="1,2,3", output=str(output), speed=True, max_eval_samples=40)
    return output, run_suite(asked, tracker.open, child), tracker, children


def test_the_seeds_of_a_task_stand_together_in_its_results(three_seeds: tuple) -> None:
    output, (sst2, _), _, _ = three_seeds
    cells = [read_results(output / "sst2" / f"seed-{seed}") for seed in (1, 2, 3)]
    together = sst2.aggregate
    assert sst2.seeds == [1, 2, 3]
    for depth in range(4):
        scores = [cell.depth_scores[depth] for cell in cells]
        assert together.depth_mean[depth] == pytest.approx(statistics.mean(scores))
        assert together.depth_std[depth] == pytest.approx(statistics.stdev(scores))
    assert all(cell.metrics["validation"]["accuracy"] == cell.depth_scores for cell in cells)
    assert len({json.dumps(cell.depth_scores) for cell in cells}) > 1


def test_the_task_folder_is_the_model_of_the_best_seed_and_the_only_weights(three_seeds: tuple) -> None:
    output, results, _, _ = three_seeds
    for task in results:
        folder = output / task.task
        scores = {seed: read_results(folder / f"seed-{seed}").full_score for seed in (1, 2, 3)}
        assert task.full_score == max(scores.values()) == scores[task.seed]
        assert "the best of 3 by validation score" in task.selection
        assert [path.parent for path in folder.rglob("model.safetensors")] == [folder]
        assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_hidden_layers == 3


def test_speed_is_measured_for_the_whole_and_the_cut_model(three_seeds: tuple) -> None:
    sst2 = three_seeds[1][0]
    assert {"3", str(sst2.cut_depth)} <= set(sst2.speed.depths)
    assert all(value > 0 for by_depth in sst2.speed.depths.values() for value in vars(by_depth).values())
    assert sst2.speed.threads >= 1


def test_each_cell_has_its_own_record_and_the_suite_the_means_and_figures(three_seeds: tuple) -> None:
    output, (sst2, _), tracker, children = three_seeds
    assert list(children) == [f"{task}/seed-{seed}" for task in ("sst2", "docpair") for seed in (1, 2, 3)]
    assert children["sst2/seed-2"].series("sst2/loss")
    assert list(tracker.series("sst2/depth_score").values()) == sst2.aggregate.depth_mean
    for name in ("full_score", "cut_depth", "majority_score"):
        assert tracker.series(f"sst2/{name}").keys() == children["sst2/seed-2"].series(f"sst2/{name}").keys()
    assert tracker.figures == [output / name / "depth.png" for name in ("sst2", "docpair")]
    assert not tracker.series("sst2/loss")


def test_records_have_the_hyperparameters_that_were_used(three_seeds: tuple) -> None:
    _, _, tracker, children = three_seeds
    used = {"learning_rate": 3e-3, "batch_size": 16, "epochs": 1, "connectivity": "acn"}
    assert tracker.settings.items() >= used.items()
    assert children["docpair/seed-3"].settings.items() >= (used | {"seed": 3}).items()


def test_the_average_is_over_glues_tasks_only_and_says_what_is_missing(three_seeds: tuple) -> None:
    output, (sst2, _), _, _ = three_seeds
    average = json.loads((output / "glue.json").read_text())
    scores = sst2.aggregate.glue_scores
    assert average["average"] == pytest.approx({"mean": statistics.mean(scores), "std": statistics.stdev(scores)})
    assert average["missing"] == [name for name in GLUE_TASKS if name != "sst2"]


def _trial(
    task: str,
    metrics: dict[str, dict[str, list[float]]],
    seed: int,
    scores: list[float] | None = None,
    error: float = 0,
) -> TrialResults:
    scores = scores or [0.5, 0.6]
    return TrialResults(
        task=task, metric="accuracy", seed=seed, model="", connectivity="acn", full_score=scores[-1],
        depth_scores=scores, cut_depth=0, tolerance=0.0, params_by_depth=[], flops_by_depth=[], train={},
        metrics=metrics, standard_error=error,
    )  # fmt: skip


def test_glues_average_takes_the_mean_of_a_tasks_metrics_and_of_mnlis_splits_first() -> None:
    table = {
        "mrpc": {"validation": {"accuracy": [0, 0.8], "f1": [0, 0.6]}},
        "mnli": {"validation_matched": {"accuracy": [0, 0.5]}, "validation_mismatched": {"accuracy": [0, 0.7]}},
        "wnli": {"validation": {"accuracy": [0, 0.1]}},
    }
    tasks = {}
    for name, metrics in table.items():
        trials = [_trial(name, metrics, seed) for seed in (1, 2)]
        tasks[name] = TaskResults(**vars(trials[0]), seeds=[1, 2], aggregate=aggregate_seeds(trials, 0.0))
    average = glue_average(tasks)
    assert average is not None
    assert average["average"] == {"mean": pytest.approx((0.7 + 0.6 + 0.1) / 3), "std": pytest.approx(0)}
    assert average["average_without_wnli"]["mean"] == pytest.approx(0.65)


def test_the_one_standard_error_depth_uses_examples_and_seeds() -> None:
    trials = [
        _trial("sst2", {"validation": {"accuracy": scores}}, seed, scores, error=0.03)
        for seed, scores in ((1, [0.5, 0.84, 0.90]), (2, [0.5, 0.86, 0.94]))
    ]
    together = aggregate_seeds(trials, 0.005)
    assert together.standard_error == pytest.approx(math.hypot(0.03, 0.02))
    assert together.cut_depth_tolerance == 2
    assert together.cut_depth_one_standard_error == 2
    wide = aggregate_seeds([replace(trial, standard_error=0.07) for trial in trials], 0.005)
    assert wide.cut_depth_one_standard_error == 1


def test_standard_errors_are_binomial_for_accuracy_and_near_theory_for_correlations() -> None:
    rng = np.random.default_rng(0)
    right = np.arange(100) < 80
    assert standard_error(TASKS["sst2"], right.astype(int), np.ones(100, int)) == pytest.approx(0.04)
    x = rng.normal(size=2000)
    y = x + rng.normal(size=2000)
    r = compute_metrics(TASKS["stsb"], y, x)["pearson"]
    assert standard_error(TASKS["stsb"], y, x) == pytest.approx((1 - r**2) / math.sqrt(2000), rel=0.25)


def test_the_same_call_again_does_nothing_and_other_settings_are_refused(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(config, output=str(tmp_path / "glue"))
    run_suite(asked, tracker.open)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "glue").rglob("*")}
    run_suite(asked, tracker.open)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "glue").rglob("*")} == before
    assert "sst2: done before" in capsys.readouterr().out
    with pytest.raises(EvalError, match=r"made with other settings \(learning_rate was 0.003, now 0.001\)"):
        run_suite(replace(asked, learning_rate=1e-3), tracker.open)
    with pytest.raises(EvalError, match="max_train_samples was 64, now 32"):
        run_suite(replace(asked, max_train_samples=32), tracker.open)


def test_more_seeds_join_those_that_are_there(config: FinetuneConfig, tmp_path: Path, tracker: Any) -> None:
    asked = replace(config, output=str(tmp_path / "glue"), seeds="5")
    (first,) = run_suite(asked, tracker.open)
    before = (tmp_path / "glue" / "sst2" / "seed-5" / "results.json").read_bytes()
    (both,) = run_suite(replace(asked, seeds="5,6"), tracker.open)
    assert both.seeds == [5, 6]
    assert both.aggregate.by_seed["5"] == first.depth_scores
    assert (tmp_path / "glue" / "sst2" / "seed-5" / "results.json").read_bytes() == before
    assert [path.parent.name for path in (tmp_path / "glue").rglob("model.safetensors")] == ["sst2"]


def _command(config: FinetuneConfig, output: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "launch.cli", "glue", "--model", config.model, "--tasks", "sst2,docpair", "--glue_dir",
        str(config.glue_dir), "--seeds", "1,2", "--epochs", "1", "--learning_rate", "3e-3", "--batch_size", "16",
        "--max_length", "16", "--max_train_samples", "64", "--speed", "false", "--tracking.mlflow", "null",
        "--output", str(output), *more,
    ]  # fmt: skip


def _start(command: list[str], cwd: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment.pop("WORLD_SIZE", None)
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _numbers(output: Path) -> dict[str, list[float]]:
    return {
        str(path.parent.relative_to(output)): json.loads(path.read_text())["depth_scores"]
        for path in sorted(output.rglob("results.json"))
    }


@pytest.mark.slow
def test_a_killed_suite_goes_on_with_the_cells_that_are_missing(config: FinetuneConfig, tmp_path: Path) -> None:
    output = tmp_path / "glue"
    process = _start(_command(config, output), tmp_path)
    first = output / "sst2" / "seed-1" / "results.json"
    while not first.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert first.exists()
    assert not (output / "docpair" / "results.json").exists(), "it was killed before the end"
    before = first.stat().st_mtime_ns
    again = _start(_command(config, output), tmp_path)
    out = again.communicate()[0].decode()
    assert again.returncode == 0, out
    assert "seed 1 was done before" in out
    assert first.stat().st_mtime_ns == before
    assert not list(output.rglob(".*")), "nothing half-written is left"
    straight = _start(_command(config, tmp_path / "straight"), tmp_path)
    straight.communicate()
    assert _numbers(output) == _numbers(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "layerdrop"])  # the latter has layers without gradients
def test_two_ranks_train_together_and_score_every_example_once(
    config: FinetuneConfig, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / "glue"
    more = (
        "--tasks",
        "sst2",
        "--seeds",
        "1",
        "--epochs",
        "3",
        "--max_train_samples",
        "320",
        "--supervision.kind",
        kind,
    )
    process = _start(_command(config, output, "--nproc_per_node", "2", *more), tmp_path)
    out = process.communicate()[0].decode()
    assert process.returncode == 0, out
    assert out.count("results: ") == 1, "one rank speaks"
    results = read_results(output / "sst2")
    assert results.train["ranks"] == 2
    assert results.train["steps"] == 3 * 320 // 16
    assert results.full_score > 0.9
    model = AutoModelForSequenceClassification.from_pretrained(output / "sst2").eval()
    tokenizer = AutoTokenizer.from_pretrained(output / "sst2")
    rows = load_task(TASKS["sst2"], config.glue_dir)["validation"]
    for depth, score in enumerate(results.depth_scores):  # the whole split, in one process
        with torch.no_grad():
            logits = model(**tokenizer(rows["sentence"][:], return_tensors="pt", padding=True), depth=depth).logits
        assert (logits.argmax(-1).numpy() == np.array(rows["label"])).mean() == score


@pytest.fixture
def reversible(config: FinetuneConfig, tmp_path: Path) -> FinetuneConfig:
    """A fine-tuning of a model whose activations are computed again."""
    folder = tmp_path / "reversible"
    torch.manual_seed(0)
    AcnForMaskedLM(AcnConfig.from_pretrained(config.model, connectivity="reversible")).save_pretrained(folder)
    AutoTokenizer.from_pretrained(config.model).save_pretrained(folder)
    return replace(config, model=str(folder))


@pytest.mark.slow
def test_two_ranks_train_a_reversible_model_as_one_does(reversible: FinetuneConfig, tmp_path: Path) -> None:
    scores = []
    for ranks in ("1", "2"):
        output = tmp_path / ranks
        more = ("--tasks", "sst2", "--seeds", "1", "--precision", "fp32", "--supervision.kind", "deep")
        process = _start(_command(reversible, output, "--nproc_per_node", ranks, *more), tmp_path)
        out = process.communicate()[0].decode()
        assert process.returncode == 0, out
        results = read_results(output / "sst2")
        assert (results.connectivity, results.train.get("ranks", 1)) == ("reversible", int(ranks))
        scores.append(results.train["mean_loss"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_layers_of_a_reversible_model_are_not_left_out_on_several_ranks(reversible: FinetuneConfig) -> None:
    dropped = replace(reversible, output="absent", supervision=DepthSupervision("layerdrop"))
    check_suite(dropped, 1)
    with pytest.raises(EvalError, match=r"kind=layerdrop leaves layers out, which a reversible model cannot"):
        check_suite(dropped, 2)


def test_a_batch_that_does_not_divide_by_the_ranks_is_an_error(config: FinetuneConfig, tmp_path: Path) -> None:
    process = _start(_command(config, tmp_path / "glue", "--nproc_per_node", "2", "--batch_size", "15"), tmp_path)
    out = process.communicate()[0].decode()
    assert process.returncode == 2
    assert out.count("batch_size=15 of sst2 does not divide by 2 ranks") == 1
    assert "Traceback" not in out


def test_a_grid_is_tried_with_the_first_seed_and_the_best_point_serves_all(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    asked = replace(config, learning_rate=None, seeds="1,2", output=str(tmp_path), epochs=2)
    asked.grid.learning_rate = "1e-6,3e-3"
    (results,) = run_suite(asked, tracker.open)
    asked.grid.learning_rate = None  # the fixture is shared
    scores = {one["point"]["learning_rate"]: one["score"] for one in results.grid}
    assert set(scores) == {1e-6, 3e-3}
    best = max(scores, key=lambda rate: scores[rate])
    for seed in (1, 2):
        assert read_results(tmp_path / "sst2" / f"seed-{seed}").train["learning_rate"] == best
    assert "hyperparameters by validation score" in results.selection
    assert [path.parent.name for path in tmp_path.rglob("model.safetensors")] == ["sst2"]


def test_a_grid_may_be_judged_on_held_out_training_examples(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    """Each class in proportion, not trained on meanwhile; a rate that diverges is passed over; the rest is as ever."""
    grid = GridConfig(learning_rate="1e30,3e-3", held_out=0.25)
    asked = replace(config, learning_rate=None, output=str(tmp_path), grid=grid, max_train_samples=None, epochs=1)
    (results,) = run_suite(asked, tracker.open)
    assert [(one["point"]["learning_rate"], one["score"] is None) for one in results.grid] == [
        (1e30, True),
        (3e-3, False),
    ]
    tried = read_trial(tmp_path / "sst2" / "grid" / "learning_rate=0.003")
    assert (tried.scored_on.split, tried.scored_on.examples, tried.scored_on.of) == ("train", 80, 320)
    assert tried.train["samples"] == 240
    assert (results.train["samples"], results.scored_on.split, results.scored_on.examples) == (320, "validation", 80)
    assert "hyperparameters by the score of held out training examples" in results.selection
    with pytest.raises(EvalError, match=r"grid_held_out was 0\.25, now 0\.5"):
        run_suite(replace(asked, grid=replace(grid, held_out=0.5)), tracker.open)


def test_what_cannot_be_held_out_is_refused(config: FinetuneConfig, tmp_path: Path, tracker: Any) -> None:
    asked = replace(config, learning_rate=None, output=str(tmp_path / "out"))
    for grid, message in (
        (GridConfig(held_out=0.2), r"grid\.held_out=0\.2 is of an empty grid: give it something to try"),
        (GridConfig(learning_rate="1e-3", held_out=1.0), r"grid\.held_out=1\.0: give 0 or more and less than 1"),
        (GridConfig(learning_rate="1e-3", held_out=1e-4), r"grid\.held_out=0\.0001 of the 320 .* of sst2 is none"),
    ):
        with pytest.raises(EvalError, match=message):
            run_suite(replace(asked, grid=grid), tracker.open)
    assert not tracker.opened


def test_a_grid_of_which_all_diverges_is_said_to(config: FinetuneConfig, tmp_path: Path, tracker: Any) -> None:
    asked = replace(config, learning_rate=None, output=str(tmp_path), grid=GridConfig(learning_rate="1e30"))
    with pytest.raises(Diverged, match="diverged at every point of the grid"):
        run_suite(asked, tracker.open)


def test_the_best_epoch_is_kept_and_declared(config: FinetuneConfig, tmp_path: Path, tracker: Any) -> None:
    (results,) = run_suite(replace(config, output=str(tmp_path), epochs=4, best_epoch=True), tracker.open)
    scores = results.train["epoch_scores"]
    assert len(scores) == 4
    assert results.full_score == max(scores) == scores[results.train["best_epoch"] - 1]
    assert "the best epoch by validation score" in results.selection


def test_recuts_and_probes_are_scored_beside_the_sweep(config: FinetuneConfig, tmp_path: Path, tracker: Any) -> None:
    asked = replace(config, output=str(tmp_path), epochs=3, cut_then_finetune=1.0, probes=True, max_train_samples=None)
    (results,) = run_suite(asked, tracker.open)
    (recut,) = results.recut
    assert recut["depth"] == 1
    assert recut["score_before"] == results.depth_scores[1]
    assert recut["score"] > 0.9
    assert {name: len(scores) for name, scores in results.probes.items()} == {"pretrained": 4, "finetuned": 4}
    # the mean of the word embeddings holds the one word that matters
    assert min(results.probes["pretrained"][:1] + results.probes["finetuned"]) > 0.9


SaveSplit = Callable[[Path, str, str, dict[str, list]], None]


def test_any_other_data_set_by_naming_its_columns(
    config: FinetuneConfig, tmp_path: Path, save_split: SaveSplit, tracker: Any
) -> None:
    rows = ["text\tkind", *(["good film\tpraise", 'bad "film\tblame'] * 20)]
    (tmp_path / "reviews").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "reviews" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    dataset = DatasetConfig(str(tmp_path / "reviews"), None, "text", "kind", "train", "dev")
    asked = replace(config, tasks="mine", dataset=dataset, glue_dir=None, epochs=6, output=str(tmp_path / "out"))
    (results,) = run_suite(asked, tracker.open)
    assert results.full_score == 1.0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "mine")
    assert model.config.id2label == {0: "blame", 1: "praise"}


@pytest.mark.parametrize(
    ("change", "rows", "message"),
    [
        ({"label_column": "sort"}, ["a\tx", "b\ty"], "no column sort; it has text, kind"),
        ({}, ["a\tx", "b\tz"], r"split dev: kind z is unknown \(dev\.tsv, line 3\): the training split has x, y"),
        ({}, [], "it is empty|no label|cannot be read"),
        ({"text_columns": "a,b,c"}, ["a\tx"], "name one column, or two"),
        ({"label_column": "text"}, ["a\tx"], "is a text column too"),
        ({"regression": True}, ["a\tx", "b\ty"], r"train\.tsv, line 2: kind is 'x': give numbers"),
        ({"path": "absent"}, ["a\tx"], "absent cannot be loaded from the Hub"),
    ],
)
def test_mistakes_about_a_data_set_are_named(
    config: FinetuneConfig,
    tmp_path: Path,
    tracker: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    rows: list[str],
    message: str,
) -> None:
    for module in (datasets.config, huggingface_hub.constants):  # or the Hub is tried again and again
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "train.tsv").write_text("text\tkind\na\tx\nb\ty\n")
    (tmp_path / "reviews" / "dev.tsv").write_text("\n".join(["text\tkind", *rows]) + "\n")
    values = {"path": str(tmp_path / "reviews"), "text_columns": "text", "label_column": "kind"} | change
    dataset = DatasetConfig(**values, validation_split="dev")
    asked = replace(config, tasks="mine", dataset=dataset, glue_dir=None, output=str(tmp_path / "out"))
    with pytest.raises(EvalError, match=message):
        run_suite(asked, tracker.open)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": "1,x"}, "seeds=1,x: give whole numbers"),
        ({"seeds": "1,1"}, "names a seed twice"),
        ({"seeds": "-1"}, "seeds=-1"),
        ({"max_eval_samples": 0}, "max_eval_samples=0"),
        ({"cut_then_finetune": 0.0}, "cut_then_finetune=0.0"),
        ({"hyperparameters": "absent.yaml"}, r"absent\.yaml cannot be read"),
    ],
)
def test_wrong_options_of_a_suite_are_named(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvalError, match=message):
        run_suite(replace(config, **{"output": str(tmp_path / "out")} | change), tracker.open)
    assert not (tmp_path / "out").exists()
