"""A fine-tuned model is cut, studied and described by the data that it was scored on, from wherever that is done."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from eval import (
    CompressConfig,
    EvalError,
    FinetuneConfig,
    compress_model,
    find_recorded,
    read_results,
    run_suite,
)
from eval.compress import describe_data, score_entry
from eval.studies import StudyConfig, run_studies
from eval.tasks import DataPlace, DatasetConfig


@pytest.fixture(scope="module")
def place(pretrained: Path, glue_dir: Path, tmp_path_factory: pytest.TempPathFactory, make_tracker: type) -> Path:
    """A folder with data and two suites whose places were typed relative to it: sst2 below `glue`, a CSV file."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(glue_dir / "sst2", home / "glue" / "sst2")
    shutil.copytree(pretrained, home / "run" / "model")
    rows = pd.read_parquet(home / "glue" / "sst2" / "train.parquet")
    named = pd.DataFrame({"review": rows["sentence"], "label": rows["label"].map({0: "poor", 1: "fine"})})
    named.to_csv(home / "reviews.csv", index=False)
    named["review"][:5].to_csv(home / "new.csv", index=False)
    options = {"epochs": 4.0, "learning_rate": 3e-3, "max_length": 16, "speed": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        glue = FinetuneConfig("run/model", "sst2", "out", "glue", **options, max_eval_samples=50)
        own_data = DatasetConfig(path="reviews.csv", test_file="new.csv")
        own = FinetuneConfig("run/model", "films", "out", dataset=own_data, **options)
        for config in (glue, own):
            run_suite(config, make_tracker().open)
    return home


@pytest.mark.parametrize("task", ["sst2", "films"])
def test_the_data_is_found_from_another_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = compress_model(CompressConfig(str(place / "out" / task), "small", depth=2))
    assert summary.checked_score == summary.score
    assert read_results(place / "out" / task).model == str(place / "run" / "model")


@pytest.mark.parametrize("task", ["sst2", "films"])
def test_data_that_is_gone_is_named_with_the_option_that_finds_it(place: Path, tmp_path: Path, task: str) -> None:
    moved, small = tmp_path / "moved", str(tmp_path / "small")
    shutil.copytree(place, moved)
    for record in (moved / "out" / task).rglob("results.json"):
        record.write_text(record.read_text().replace(str(place), "/gone"))
    model = str(moved / "out" / task)
    gone, option = {"sst2": ("/gone/glue", "glue_dir"), "films": (r"/gone/reviews\.csv", r"dataset\.path")}[task]
    message = rf"its data, {gone}, is not there any more: say where it is now with --{option}, or --check false"
    with pytest.raises(EvalError, match=message):
        compress_model(CompressConfig(model, small))
    found = {
        "sst2": CompressConfig(model, small, glue_dir=str(moved / "glue")),
        "films": CompressConfig(model, small, dataset=DataPlace(path=str(moved / "reviews.csv"))),
    }
    assert compress_model(found[task]).checked_score is not None


def test_the_data_is_found_when_everything_moved_together(place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "home"
    shutil.copytree(place, moved)
    record = moved / "out" / "sst2" / "results.json"
    record.write_text(record.read_text().replace(str(place), "/gone/home"))
    summary = compress_model(CompressConfig(str(moved / "out" / "sst2"), str(tmp_path / "small")))
    assert summary.checked_score is not None


def test_a_file_to_predict_gets_its_answers_by_name(place: Path) -> None:
    header, *lines = (place / "out" / "submission" / "films.tsv").read_text().splitlines()
    assert header == "index\tprediction"
    assert [line.split("\t")[0] for line in lines] == ["0", "1", "2", "3", "4"]
    assert {line.split("\t")[1] for line in lines} <= {"poor", "fine"}


def test_a_suite_of_version_0_1_goes_on_with_places_as_they_were_typed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(place, home)
    for path in (home / "out" / "sst2").rglob("results.json"):
        record = json.loads(path.read_text())
        record["settings"] |= {"model": "run/model", "glue_dir": "glue"}
        path.write_text(json.dumps(record))
    monkeypatch.chdir(home)
    options = {"epochs": 4.0, "learning_rate": 3e-3, "max_length": 16, "speed": False}
    again = FinetuneConfig("run/model", "sst2", "out", "glue", **options, max_eval_samples=50)
    run_suite(again, tracker.open)
    assert "sst2: done before" in capsys.readouterr().out
    with pytest.raises(EvalError, match=r"glue_dir was glue, now .*other"):
        run_suite(replace(again, glue_dir=shutil.copytree("glue", "other")), tracker.open)


def test_a_place_of_another_kind_of_data_is_a_mistake(place: Path, tmp_path: Path) -> None:
    own = CompressConfig(str(place / "out" / "films"), str(tmp_path / "small"), glue_dir=str(place / "glue"))
    with pytest.raises(EvalError, match=r"glue_dir=.*is not where this model's data is from: give --dataset\.path"):
        compress_model(own)
    moved = DataPlace(path="x.csv")
    with pytest.raises(EvalError, match=r"dataset\.path=x\.csv is not where this model's data is from"):
        compress_model(CompressConfig(str(place / "out" / "sst2"), str(tmp_path / "small"), dataset=moved))


def test_a_study_of_a_model_of_ones_own_data_finds_it_too(
    place: Path, tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (study,) = run_studies(StudyConfig("lesion", str(place / "out" / "films"), "studies"), tracker.open)
    assert (study["task"], study["examples"]) == ("films", {"films": 64})


def test_a_name_is_looked_for_above_its_record(tmp_path: Path) -> None:
    record, data = tmp_path / "a" / "runs" / "glue" / "sst2", tmp_path / "a" / "runs" / "data"
    for folder in (record, data):
        folder.mkdir(parents=True)
    assert find_recorded("runs/data", record) == data
    assert find_recorded("/elsewhere/a/runs/data", record) == data
    assert find_recorded("/elsewhere/data", record) is None, "one name may be anything"


def metadata(folder: Path) -> Any:
    return ModelCard.load(folder / "README.md").data


@pytest.mark.parametrize(
    ("task", "split", "says"),
    [("sst2", "validation (50 of 80 examples)", "50 of 80 examples of the local `glue/sst2`, split validation"),
     ("films", "held out of train", "64 examples of the local `")],
)  # fmt: skip
def test_a_card_says_what_was_scored(place: Path, tmp_path: Path, task: str, split: str, says: str) -> None:
    small = tmp_path / "small"
    compress_model(CompressConfig(str(place / "out" / task), str(small), depth=2))
    (score,) = metadata(small).eval_results
    assert (score.dataset_type, score.dataset_split, score.dataset_config) == ("local", split, None)
    assert metadata(small).datasets is None
    text = (small / "README.md").read_text()
    assert says in text
    assert str(place.parent) not in text, "no path of this machine"
    assert "nyu-mll" not in text


@pytest.mark.parametrize(
    ("changes", "entry", "says"),
    [
        ({}, ("nyu-mll/glue", "sst2", "validation"), "872 examples of [nyu-mll/glue]"),
        ({"examples": 200}, ("nyu-mll/glue", "sst2", "validation (200 of 872 examples)"), "200 of 872 examples of ["),
        (None, ("unknown", None, "not recorded"), "not recorded"),
    ],
)
def test_a_split_of_the_hub_is_named_when_it_was_scored(
    place: Path, changes: dict[str, Any] | None, entry: tuple, says: str
) -> None:
    results = read_results(place / "out" / "sst2")
    assert results.scored_on is not None
    hub = replace(results.scored_on, examples=872, of=872, hub_dataset="nyu-mll/glue", hub_config="sst2", place=None)
    scored_on = None if changes is None else replace(hub, **changes)
    record = replace(results, scored_on=scored_on, settings=None)
    score = score_entry(record, 0.9)
    assert (score.dataset_type, score.dataset_config, score.dataset_split) == entry
    assert says in describe_data(record)


def test_records_of_version_0_1_say_what_their_settings_say(place: Path) -> None:
    old = replace(read_results(place / "out" / "sst2"), scored_on=None)
    assert old.data is not None
    assert (old.data.hub_dataset, old.data.examples, old.data.of) == (None, 50, None)
    assert score_entry(old, 0.9).dataset_split == "validation (50 examples)"
    assert old.settings is not None
    hub = replace(old, settings=old.settings | {"glue_dir": None, "max_eval_samples": None})
    assert (score_entry(hub, 0.9).dataset_type, score_entry(hub, 0.9).dataset_split) == ("nyu-mll/glue", "validation")


@pytest.fixture
def at_chance(place: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "sst2"
    shutil.copytree(place / "out" / "sst2", folder)
    path = folder / "results.json"
    record = json.loads(path.read_text())
    scores = [0.5, 0.52, 0.48, 0.52]
    path.write_text(json.dumps(record | {"depth_scores": scores, "full_score": 0.52, "majority_score": 0.5,
                                         "standard_error": 0.07, "aggregate": None}))  # fmt: skip
    return folder


def test_a_model_at_chance_is_cut_only_by_force_and_says_so(
    at_chance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    for options in ({}, {"depth": 1}, {"one_standard_error": True}, {"max_mb": 100.0}):
        with pytest.raises(EvalError, match=r"is at chance on sst2: its accuracy of 0\.5200 is not more than.*--force"):
            compress_model(CompressConfig(str(at_chance), str(small), check=False, **options))
    assert not small.exists()
    summary = compress_model(CompressConfig(str(at_chance), str(small), check=False, force=True))
    assert "(at chance)" in "\n".join(summary.lines())
    text = (small / "README.md").read_text()
    assert "| accuracy, validation | 0.5200 (at chance) | 0.5200 (at chance) |" in text
    assert "**At chance**: this model, whole or cut, does not answer better than the constant answer" in text


def test_a_cut_that_leaves_nothing_is_marked(place: Path, tmp_path: Path) -> None:
    """The same model is told from its cut: the card marks each by its own score."""
    for tolerance, marked in ((0.0, False), (1.0, True)):
        folder = tmp_path / f"small-{tolerance}"
        source = str(place / "out" / "sst2")
        cut = compress_model(CompressConfig(source, str(folder), tolerance=tolerance, check=False))
        assert ("the cut model does not answer better" in (folder / "README.md").read_text()) is marked, cut.score
