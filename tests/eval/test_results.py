"""The files of results: each has its own form, a damaged one is named with its field, and the old ones are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval import CutResults, EvalError, TaskResults, TrialResults, find_cut, find_results, read_results, read_trial

TRIAL: dict[str, Any] = {
    "task": "sst2", "metric": "accuracy", "seed": 1, "model": "run/model", "connectivity": "acn", "full_score": 0.9,
    "precision": "bf16", "depth_scores": [0.5, 0.88, 0.9], "cut_depth": 1, "tolerance": 0.005,
    "params_by_depth": [1, 2, 3], "flops_by_depth": [0, 10, 20], "train": {"epochs": 3},
}  # fmt: skip
AGGREGATE: dict[str, Any] = {
    "by_seed": {"1": [0.5, 0.88, 0.9]}, "depth_mean": [0.5, 0.88, 0.9], "depth_std": None, "standard_error": 0.01,
    "cut_depth_tolerance": 2, "cut_depth_one_standard_error": 2, "glue_scores": [0.9],
}  # fmt: skip
TASK = TRIAL | {"seeds": [1], "selection": "seed 1; the last epoch", "aggregate": AGGREGATE}
CUT: dict[str, Any] = {
    "task": "sst2", "metric": "accuracy", "seed": 1, "model": "run/model", "connectivity": "acn",
    "precision": "bf16", "source": "suite/sst2", "depth": 1, "layers": 2, "rule": "the depth that was asked for",
    "selection": "seed 1",
    "tolerance": None, "score": 0.88, "full_score": 0.9, "seeds": [1], "seed_mean": None, "seed_std": None,
    "params": 2, "full_params": 3, "flops": 10, "full_flops": 20, "seq_length": 16,
}  # fmt: skip

Save = Callable[[str, Any], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a JSON file and returns its folder."""

    def write(name: str, value: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(value))
        return tmp_path

    return write


@pytest.mark.parametrize(("kind", "value"), [(TrialResults, TRIAL), (TaskResults, TASK), (CutResults, CUT)])
def test_what_is_read_is_written_again_field_by_field(kind: Any, value: dict[str, Any]) -> None:
    record = kind.from_json(value, Path("file.json"))
    assert record.to_json() == value
    assert kind.from_json(record.to_json(), Path("file.json")) == record


def test_the_seeds_of_a_task_are_read_as_what_they_are(save: Save) -> None:
    results = read_results(save("results.json", TASK))
    assert results.aggregate is not None
    assert results.aggregate.depth_mean == [0.5, 0.88, 0.9]
    assert (results.all_seeds, results.how_selected) == ([1], "seed 1; the last epoch")


def test_a_file_from_before_seeds_stood_together_is_read(save: Save) -> None:
    folder = save("results.json", TRIAL)
    results = read_results(folder)
    assert (results.aggregate, results.all_seeds, results.how_selected) == (None, [1], "seed 1")
    assert read_trial(folder).to_json() == TRIAL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": None}, r"results\.json is not a result of fine-tuning: seed of the wrong type"),
        ({"seed": True}, "seed of the wrong type"),
        ({"full_score": "0.9"}, "full_score of the wrong type"),
        ({"depth_scores": [0.5, float("nan"), 0.9]}, "depth_scores of the wrong type"),
        ({"params_by_depth": [1, 2]}, "params_by_depth is not one number per depth"),
        ({"cut_depth": 3}, r"cut_depth=3 is outside 0\.\.2"),
        ({"aggregate": AGGREGATE | {"depth_mean": 1}}, r"aggregate\.depth_mean of the wrong type"),
        ({"aggregate": {"depth_mean": [1]}}, r"aggregate\.by_seed, aggregate\.depth_std, .* missing"),
        ({"speed": []}, "speed of the wrong type"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_file(save: Save, change: dict[str, Any], message: str) -> None:
    with pytest.raises(EvalError, match=message):
        read_results(save("results.json", TASK | change))


def test_all_fields_that_are_missing_or_wrong_are_named_together(save: Save) -> None:
    kept = {name: value for name, value in TASK.items() if name not in ("task", "train")}
    with pytest.raises(EvalError, match="task, train missing; model of the wrong type"):
        read_results(save("results.json", kept | {"model": 1}))
    with pytest.raises(EvalError, match="it is not an object"):
        read_results(save("results.json", [TASK]))
    with pytest.raises(EvalError, match=r"cut\.json is not the record of a cut: source missing"):
        find_cut(save("cut.json", {name: value for name, value in CUT.items() if name != "source"}))


@pytest.mark.parametrize("name", ["cut.json", "results.json"])
def test_a_cut_model_is_told_from_a_fine_tuned_one_also_where_an_old_version_cut_it(save: Save, name: str) -> None:
    folder = save(name, CUT)
    cut = find_cut(folder)
    assert cut is not None
    assert cut.to_json() == CUT
    with pytest.raises(EvalError, match="a model that was cut: give its source, suite/sst2"):
        find_results(folder)


def test_a_folder_without_results_is_none_or_an_error(tmp_path: Path, save: Save) -> None:
    assert find_cut(tmp_path) is None
    assert find_results(tmp_path) is None
    with pytest.raises(EvalError, match=r"has no results\.json: give a folder that `acn glue` wrote"):
        read_results(tmp_path)
    assert find_cut(save("results.json", TASK)) is None
