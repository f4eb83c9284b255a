"""The task table, its metrics against scikit-learn and scipy, and what is said about bad data."""

import math
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from eval import GLUE_TASKS, TASKS, EvalError, compute_metrics, find_task, load_task

SaveSplit = Callable[[Path, str, str, dict[str, list]], None]


def test_the_table_has_glues_nine_tasks_with_the_columns_of_the_hub() -> None:
    columns = {name: (*task.columns, task.num_labels, *task.validation_splits) for name, task in GLUE_TASKS.items()}
    assert columns == {
        "cola": ("sentence", 2, "validation"),
        "sst2": ("sentence", 2, "validation"),
        "mrpc": ("sentence1", "sentence2", 2, "validation"),
        "qqp": ("question1", "question2", 2, "validation"),
        "stsb": ("sentence1", "sentence2", 1, "validation"),
        "mnli": ("premise", "hypothesis", 3, "validation_matched", "validation_mismatched"),
        "qnli": ("question", "sentence", 2, "validation"),
        "rte": ("sentence1", "sentence2", 2, "validation"),
        "wnli": ("sentence1", "sentence2", 2, "validation"),
    }
    assert {name: task.metric for name, task in GLUE_TASKS.items() if task.metric != "accuracy"} == {
        "cola": "matthews",
        "stsb": "pearson",
    }
    assert GLUE_TASKS["mrpc"].metrics == GLUE_TASKS["qqp"].metrics == ("accuracy", "f1")
    addresses = {(task.hub_dataset, task.hub_config) for task in GLUE_TASKS.values()}
    assert addresses == {("nyu-mll/glue", name) for name in GLUE_TASKS}
    assert {name: TASKS[name] for name in GLUE_TASKS} == GLUE_TASKS


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_classification_metrics_equal_scikit_learn_even_with_one_class(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = (np.array(column) for column in zip(*pairs, strict=True))
    scores = compute_metrics(TASKS["mrpc"], predictions, labels)
    assert scores["accuracy"] == sk.accuracy_score(labels, predictions)
    assert scores["f1"] == sk.f1_score(labels, predictions, zero_division=0)
    assert compute_metrics(TASKS["cola"], predictions, labels) == {
        "matthews": sk.matthews_corrcoef(labels, predictions) if len(set(labels)) > 1 else 0.0
    }


@given(st.integers(0, 2**31), st.integers(3, 50))
def test_regression_metrics_equal_scipy(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, labels = rng.normal(size=size).astype(np.float32), rng.normal(size=size)
    scores = compute_metrics(TASKS["stsb"], predictions, labels)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(predictions.astype(np.float64), labels)[0], abs=1e-12)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(predictions, labels)[0], abs=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_constant_regression_scores_zero_even_when_rounding_blurs_the_constant(noise: float) -> None:
    labels = np.arange(20) / 4
    predictions = 2.5 * (1 + noise * np.sin(np.arange(20)))
    assert compute_metrics(TASKS["stsb"], predictions, labels) == {"pearson": 0.0, "spearman": 0.0}
    assert compute_metrics(TASKS["stsb"], np.zeros(20), labels) == {"pearson": 0.0, "spearman": 0.0}


def test_predictions_that_are_not_finite_and_empty_data_are_errors() -> None:
    with pytest.raises(EvalError, match="learning_rate"):
        compute_metrics(TASKS["stsb"], np.array([1.0, math.nan]), np.array([1.0, 2.0]))
    with pytest.raises(EvalError, match="no examples"):
        compute_metrics(TASKS["sst2"], np.array([], dtype=int), np.array([], dtype=int))


def test_load_task_gives_text_and_label_of_every_split(glue_dir: Path) -> None:
    data = load_task(find_task("sst2", str(glue_dir)), str(glue_dir))
    assert isinstance(data, datasets.DatasetDict)
    assert {split: (len(rows), rows.column_names) for split, rows in data.items()} == {
        "train": (320, ["sentence", "label"]),
        "validation": (80, ["sentence", "label"]),
    }


def test_a_folder_with_sentences_and_labels_is_a_task(glue_dir: Path) -> None:
    task = find_task("docpair", str(glue_dir))
    assert (task.columns, task.labels, task.metrics) == (("sentence1", "sentence2"), ("0", "1"), ("accuracy",))
    assert len(load_task(task, str(glue_dir))["validation"]) == 80


def test_class_names_in_the_parquet_file_become_labels(tmp_path: Path) -> None:
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    (tmp_path / "own").mkdir()
    rows = datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": [0, 1]}, features=features)
    rows.to_parquet(tmp_path / "own" / "train.parquet")
    assert find_task("own", str(tmp_path)).labels == ("no", "yes")


def test_numbered_parquet_parts_of_a_split_are_read_in_order(tmp_path: Path, save_split: SaveSplit) -> None:
    for part in range(2):
        columns = {"sentence": [f"part {part}"], "label": [part]}
        save_split(tmp_path, "sst2", f"train-0000{part}-of-00002", columns)
    save_split(tmp_path, "sst2", "validation", {"sentence": ["x"], "label": [1]})
    assert load_task(TASKS["sst2"], str(tmp_path))["train"]["sentence"][:] == ["part 0", "part 1"]


def test_mnli_without_its_mismatched_split_loads(tmp_path: Path, save_split: SaveSplit) -> None:
    columns = {"premise": ["a"], "hypothesis": ["b"], "label": [2]}
    for split in ("train", "validation_matched"):
        save_split(tmp_path, "mnli", split, columns)
    assert set(load_task(TASKS["mnli"], str(tmp_path))) == {"train", "validation_matched"}
    save_split(tmp_path, "mnli", "validation_mismatched", columns)
    assert "validation_mismatched" in load_task(TASKS["mnli"], str(tmp_path))


def test_an_unknown_task_is_an_error_that_lists_the_known_and_the_local_ones(glue_dir: Path) -> None:
    with pytest.raises(EvalError, match=r"'sst3' is unknown: use cola.*glue_dir.*docpair"):
        find_task("sst3", str(glue_dir))
    with pytest.raises(EvalError, match=r"'docpair' is unknown"):
        find_task("docpair")
    with pytest.raises(EvalError, match="is not a folder"):
        find_task("sst2", str(glue_dir / "absent"))


GOOD_SST2 = {"sentence": ["a", "b"], "label": [0, 1]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "label": [0]}, r"no column sentence; it has text, label"),
        ({"sentence": ["a"], "target": [0]}, r"no column label; it has sentence, target"),
        ({"sentence": ["a", "b"], "label": [0, 2]}, r"label 2 is unknown.*negative, positive, or 0\.\.1"),
        ({"sentence": ["a", "b"], "label": [0, -1]}, r"column label has 1 empty"),
        ({"sentence": ["a", None], "label": [0, 1]}, r"column sentence has 1 empty"),
        ({"sentence": ["", "b", " \n\u200b"], "label": [0, 1, 0]}, r"column sentence has 2 empty.*row 0"),
        ({"sentence": ["a", "b"], "label": [0, None]}, r"column label has 1 empty"),
        ({"sentence": [1, 2], "label": [0, 1]}, r"column sentence is int .*row 0.*: give strings"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_bad_rows_are_named_with_their_split(
    tmp_path: Path, save_split: SaveSplit, columns: dict[str, list], message: str, split: str
) -> None:
    for name in ("train", "validation"):
        save_split(tmp_path, "sst2", name, columns if name == split else GOOD_SST2)
    with pytest.raises(EvalError, match=f"split {split}.*{message}"):
        load_task(TASKS["sst2"], str(tmp_path))


def test_an_empty_split_a_missing_split_and_an_unreadable_file_are_errors(
    tmp_path: Path, save_split: SaveSplit
) -> None:
    with pytest.raises(EvalError, match=r"train\.parquet is missing"):
        load_task(TASKS["sst2"], str(tmp_path))
    save_split(tmp_path, "sst2", "train", GOOD_SST2)
    with pytest.raises(EvalError, match=r"validation\.parquet is missing"):
        load_task(TASKS["sst2"], str(tmp_path))
    (tmp_path / "sst2" / "validation.parquet").write_bytes(b"not parquet")
    with pytest.raises(EvalError, match="cannot be read as Parquet"):
        load_task(TASKS["sst2"], str(tmp_path))
    empty = datasets.Dataset.from_dict(GOOD_SST2).select([])
    empty.to_parquet(tmp_path / "sst2" / "validation.parquet")
    with pytest.raises(EvalError, match="it is empty"):
        load_task(TASKS["sst2"], str(tmp_path))


def test_regression_labels_must_be_finite_numbers(tmp_path: Path, save_split: SaveSplit) -> None:
    pair = {"sentence1": ["a"], "sentence2": ["b"]}
    save_split(tmp_path, "stsb", "train", pair | {"label": [math.nan]})
    with pytest.raises(EvalError, match="NaN or infinite"):
        load_task(TASKS["stsb"], str(tmp_path))
    save_split(tmp_path, "stsb", "train", pair | {"label": ["high"]})
    with pytest.raises(EvalError, match="give numbers"):
        load_task(TASKS["stsb"], str(tmp_path))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"review": ["a"], "title": ["b"], "label": [0]},
            "has the columns review, title, label, of which several may be its text: name them with --dataset",
        ),
        (
            {"sentence": ["a"], "label": [0.5]},
            r"row 0.*label is 0\.5, which is neither.*give integers 0\.\.n-1 or names",
        ),
        ({"sentence": ["a"], "label": [0]}, "single class"),
    ],
)
def test_a_folder_that_is_no_task_is_an_error(
    tmp_path: Path, save_split: SaveSplit, columns: dict[str, list], message: str
) -> None:
    save_split(tmp_path, "own", "train", columns)
    with pytest.raises(EvalError, match=message):
        find_task("own", str(tmp_path))
