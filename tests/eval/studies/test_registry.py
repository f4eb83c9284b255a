"""Running studies: the contract of study.json, what is kept, and what is said to mistakes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import Problem
from eval import TASKS, EvalError
from eval.progress import Progress
from eval.studies import KINDS, StudyConfig, run_studies
from eval.studies.base import Point, draw_samples
from eval.studies.config import list_problems, numbers


def _config(model: Path, output: Path, glue_dir: Path, studies: str, **overrides: Any) -> StudyConfig:
    values: dict[str, Any] = {"max_train_samples": 32, "max_eval_samples": 20, "epochs": 1.0, "batch_size": 16}
    return StudyConfig(studies, str(model), str(output), glue_dir=str(glue_dir), **values | overrides)


def _check_contract(content: dict[str, Any], name: str, folder: Path) -> None:
    assert content["study"] == name
    assert content["connectivity"] == "acn"
    assert (folder / f"{name}.png").stat().st_size > 5000
    assert content == json.loads((folder / "study.json").read_text())
    assert content["curves"]
    for curve in content["curves"]:
        assert curve["label"]
        assert curve["x_label"]
        assert curve["y_label"]
        for point in curve["points"]:
            assert point["mean"] == pytest.approx(np.mean(point["values"]))
            if len(point["values"]) > 1:
                assert point["std"] == pytest.approx(np.std(point["values"], ddof=1))
            else:
                assert point["std"] is None
    columns = len(content["table"]["columns"])
    assert all(len(row) == columns for row in content["table"]["rows"])
    assert content["table"]["rows"]
    assert content["notes"]
    assert {task: cut["texts"] for task, cut in content["truncation"].items()} == content["examples"]


def test_every_study_of_a_fine_tuned_model_keeps_the_contract(
    finetuned: Path, glue_dir: Path, tmp_path: Path, tracker: Any
) -> None:
    names = [name for name, kind in KINDS.items() if kind.model != "pretrained"]
    config = _config(finetuned, tmp_path, glue_dir, ",".join(names))
    config.early_exit.train = True
    config.early_exit.thresholds, config.early_exit.latency_samples = "0.2,1", 4
    config.noise.strengths, config.pruning.sparsities, config.geometry.samples = "0.5", "0.5", 1
    contents = run_studies(config, tracker.open)
    assert [content["task"] for content in contents] == ["sst2"] * len(names)
    for name, content in zip(names, contents, strict=True):
        _check_contract(content, name, tmp_path / name)
        assert any(metric.startswith(f"{name}/") for _, values in tracker.metrics for metric in values)
    assert sorted(path.stem for path in tracker.figures) == sorted(names)
    assert tracker.opened == 1
    exits = contents[0]
    labels = {curve["label"] for curve in exits["curves"]}
    assert {"as fine-tuned, entropy", "loss at every depth, entropy", "ordinary loss, confidence"} <= labels
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"


def test_every_study_of_a_pretrained_model_keeps_the_contract(
    pretrained: Path, glue_dir: Path, tmp_path: Path, tracker: Any
) -> None:
    names = [
        name for name, kind in KINDS.items() if kind.model != "fine-tuned" and name != "shallow"
    ]  # it is of one task
    config = _config(pretrained, tmp_path, glue_dir, ",".join(names), tasks="sst2,docpair,stsb")
    config.seeds, config.forgetting.ewc_samples, config.geometry.samples = "1", 4, 1
    config.low_data.sizes, config.low_data.min_steps = "8,16", 1
    for name, content in zip(names, run_studies(config, tracker.open), strict=True):
        assert content["task"] == "sst2,docpair,stsb"
        _check_contract(content, name, tmp_path / name)
    low_data = json.loads((tmp_path / "low_data" / "study.json").read_text())
    assert [[p["x"] for p in curve["points"]] for curve in low_data["curves"]] == [[8, 16, 32]] * 3
    forgetting = json.loads((tmp_path / "forgetting" / "study.json").read_text())
    assert [row[0] for row in forgetting["table"]["rows"]] == ["naive", "si", "ewc"]


def test_a_finished_study_is_kept_and_the_others_run(
    finetuned: Path, glue_dir: Path, tmp_path: Path, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_studies(_config(finetuned, tmp_path, glue_dir, "lesion"), tracker.open)
    written = (tmp_path / "lesion" / "study.json").stat().st_mtime_ns
    both = run_studies(_config(finetuned, tmp_path, glue_dir, "lesion,similarity"), tracker.open)
    assert both[0] == first[0]
    assert (tmp_path / "lesion" / "study.json").stat().st_mtime_ns == written
    assert (tmp_path / "similarity" / "study.json").is_file()
    assert "lesion: finished already, kept" in capsys.readouterr().out


def test_a_study_of_other_settings_is_not_overwritten(
    finetuned: Path, glue_dir: Path, tmp_path: Path, tracker: Any
) -> None:
    run_studies(_config(finetuned, tmp_path, glue_dir, "lesion"), tracker.open)
    before = (tmp_path / "lesion" / "study.json").read_bytes()
    with pytest.raises(EvalError, match=r"lesion exists and is of other settings: choose another --output"):
        run_studies(_config(finetuned, tmp_path, glue_dir, "lesion", max_eval_samples=21), tracker.open)
    (tmp_path / "noise").mkdir()
    with pytest.raises(EvalError, match="noise exists and is not a finished study"):
        run_studies(_config(finetuned, tmp_path, glue_dir, "noise"), tracker.open)
    assert (tmp_path / "lesion" / "study.json").read_bytes() == before
    assert tracker.opened == 1


@pytest.mark.parametrize(
    ("studies", "overrides", "message"),
    [
        ("noise,tickle", {}, "studies=noise,tickle: give each of early_exit, pruning"),
        ("noise,noise", {}, "at most once"),
        ("", {}, "at least one"),
        ("low_data", {}, "is fine-tuned on sst2: low_data needs a pretrained one"),
        ("noise", {"tasks": "rte"}, "tasks=rte, but the model is fine-tuned on sst2"),
        ("noise", {"seeds": "1,one"}, "seeds=1,one: give numbers"),
        ("noise", {"seeds": "1,1"}, "each once"),
        ("noise", {"max_eval_samples": 2}, "max_eval_samples=2: give 4 or more"),
        ("noise", {"epochs": 0.0, "batch_size": 0}, "epochs=0.0: give more than 0\nbatch_size=0: give 1 or more"),
        ("noise", {"glue_dir": "nowhere"}, "glue_dir=nowhere is not a folder"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(
    finetuned: Path, glue_dir: Path, tmp_path: Path, tracker: Any, studies: str, overrides: dict[str, Any], message: str
) -> None:
    values = {"glue_dir": glue_dir} | overrides
    with pytest.raises(EvalError) as error:
        run_studies(_config(finetuned, tmp_path / "out", values.pop("glue_dir"), studies, **values), tracker.open)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not tracker.opened


@pytest.mark.parametrize(
    ("studies", "tasks", "message"),
    [
        ("noise,lesion", "sst2", "noise needs a fine-tuned model"),
        ("similarity", None, "name at least 1"),
        ("forgetting", "sst2", "name at least 2"),
        ("low_data", "sst2,sst2", "names a task twice"),
        ("low_data", "sst3", "'sst3' is unknown"),
    ],
)
def test_a_pretrained_model_needs_tasks_and_fitting_studies(
    pretrained: Path, glue_dir: Path, tmp_path: Path, tracker: Any, studies: str, tasks: str | None, message: str
) -> None:
    with pytest.raises(EvalError) as error:
        run_studies(_config(pretrained, tmp_path / "out", glue_dir, studies, tasks=tasks), tracker.open)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("study", "field", "value"),
    [
        ("noise", "kinds", "typo,sneeze"),
        ("noise", "strengths", "0.1,1.5"),
        ("lesion", "kinds", ""),
        ("pruning", "methods", "axe"),
        ("pruning", "movement_rates", "1.2"),
        ("pruning", "importance", "beauty"),
        ("pruning", "depth", 0),
        ("pruning", "movement_epochs", 0),
        ("low_data", "sizes", "0,32"),
        ("low_data", "min_steps", 0),
        ("forgetting", "methods", "si,si"),
        ("forgetting", "si_strength", float("nan")),
        ("forgetting", "si_damping", 0.0),
        ("forgetting", "ewc_samples", 0),
        ("geometry", "lanczos_steps", 7),
        ("similarity", "batch_size", 0),
        ("shallow", "against", "a,b,a"),
        ("shallow", "against", "{tmp}"),
        ("shallow", "supervision", "deep,deeper"),
        ("shallow", "rate_multiples", "0,1"),
        ("shallow", "budgets", "0.5,1.1"),
        ("shallow", "tolerance", -0.1),
    ],
)
def test_every_option_of_a_study_is_checked(study: str, field: str, value: Any, tmp_path: Path) -> None:
    config = _config(tmp_path, tmp_path, tmp_path, study)
    assert config.problems() == []
    value = str(tmp_path) if value == "{tmp}" else value  # the model itself
    setattr(getattr(config, study), field, value)
    assert {problem.field for problem in config.problems()} == {f"{study}.{field}"}


def _labelled(labels: list[int]) -> Any:
    return datasets.Dataset(pa.table({"sentence": [str(i) for i in range(len(labels))], "label": labels}))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 99))
def test_samples_are_stratified_and_a_smaller_one_is_part_of_a_larger(labels: list[int], size: int, seed: int) -> None:
    data, task = _labelled(labels), TASKS["sst2"]
    drawn = draw_samples(task, data, size, seed)
    assert len(drawn) == min(size, len(labels))
    assert abs(sum(drawn["label"]) - len(drawn) * np.mean(labels)) <= 1
    larger = draw_samples(task, data, size + 3, seed)
    assert set(drawn["sentence"]) <= set(larger["sentence"])
    assert drawn["sentence"] == draw_samples(task, data, size, seed)["sentence"]


def test_other_seeds_draw_other_samples_and_regression_has_no_classes() -> None:
    data = _labelled([0, 1] * 50)
    assert draw_samples(TASKS["sst2"], data, 10, 1)["sentence"] != draw_samples(TASKS["sst2"], data, 10, 2)["sentence"]
    assert len(draw_samples(TASKS["stsb"], data, 10, 1)) == 10
    assert draw_samples(TASKS["sst2"], data, None, 1) is data


def test_points_and_lists_of_numbers() -> None:
    assert Point(2, [1.0, 3.0]).as_json() == {"x": 2.0, "mean": 2.0, "std": pytest.approx(2**0.5), "values": [1.0, 3.0]}
    assert Point(2, [1.0]).as_json()["std"] is None
    assert numbers("1, 2,3", int) == numbers([1, 2, 3], int) == [1, 2, 3]
    assert list_problems("x", "0.5,1", 0, 1) == []
    (problem,) = list_problems("x", "", 0)
    assert str(problem) == "x=: give one number or more, each once, at least 0"


def test_progress_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("noise", 2, interval=1e9)
    progress.step("typo")
    assert capsys.readouterr().out == "", "not every step"
    progress.step("char_drop")
    assert capsys.readouterr().out == "noise: 2/2 (char_drop), 0s left\n"


@pytest.mark.parametrize("name", KINDS)
def test_every_study_has_options_of_its_name(name: str) -> None:
    options: Callable[[], list[Problem]] = getattr(StudyConfig("noise", "m", "o"), name).problems
    assert options() == []
