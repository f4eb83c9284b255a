"""Data of one's own: files or folders, labels by any names, columns that are named or can be only one."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eval import EvalError, FinetuneConfig, find_task, load_task
from eval.tasks import DatasetConfig, load_custom, load_custom_tests, resolve_dataset

GOOD, BAD = "a good film", "a bad film"


def rows(size: int = 40, text: str = "review", label: str = "label", **more: list[Any]) -> pd.DataFrame:
    columns = {text: [f"{(GOOD, BAD)[n % 2]} {n}" for n in range(size)], label: ["fine", "poor"] * (size // 2)}
    return pd.DataFrame(columns | more)


def save(path: Path, frame: pd.DataFrame) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    write = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".json": lambda: frame.to_json(path, orient="records"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path, index=False),
    }
    write[path.suffix.lower()]()
    return str(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "CSV"])
def test_training_and_validation_are_files_of_any_kind(tmp_path: Path, suffix: str) -> None:
    config = DatasetConfig(
        train_file=save(tmp_path / f"a.{suffix}", rows()), validation_file=save(tmp_path / f"b.{suffix}", rows(8)),
    )  # fmt: skip
    assert config.problems(["films"]) == []
    task, splits = load_custom("films", config)
    assert (task.columns, task.labels) == (("review",), ("fine", "poor"))
    assert {name: len(split) for name, split in splits.items()} == {"train": 40, "validation": 8}
    assert splits["validation"]["label"][:2] == [0, 1]


def test_a_list_and_lines_of_json_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text("".join(json.dumps(row) + "\n" for row in rows(8).to_dict("records")))
    list_, lines = save(tmp_path / "list.json", rows(8)), str(tmp_path / "lines.json")
    read = [load_custom("x", DatasetConfig(train_file=file, validation_file=file))[1] for file in (list_, lines)]
    assert read[0]["train"].to_dict() == read[1]["train"].to_dict()
    (tmp_path / "bad.json").write_text('[{"review": "a", "mood": "b"}, 3]')
    with pytest.raises(EvalError, match=r"bad\.json, row 1 counted from 0 is no JSON object"):
        load_custom("x", DatasetConfig(path=str(tmp_path / "bad.json")))


def test_one_file_is_trained_on_and_a_part_of_it_validated(tmp_path: Path, capsys: Any) -> None:
    config = DatasetConfig(path=save(tmp_path / "reviews.csv", rows(50)))
    assert config.problems(["films"]) == []
    first, again = (load_custom("films", config)[1] for _ in range(2))
    assert {name: len(split) for name, split in first.items()} == {"train": 40, "validation": 10}
    assert first["validation"]["label"][:].count(0) == 5, "each class in proportion"
    assert not {*first["train"]["review"]} & {*first["validation"]["review"]}
    assert first["validation"].to_dict() == again["validation"].to_dict()
    assert "10 of its 50 rows, in proportion to the classes, are held out for validation" in capsys.readouterr().out


def test_a_file_called_train_has_its_validation_split_beside_it(tmp_path: Path) -> None:
    save(tmp_path / "validation.csv", rows(6))
    _, splits = load_custom("films", DatasetConfig(path=save(tmp_path / "train.csv", rows(20))))
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "validation": 6}


def test_a_file_to_predict_needs_no_labels(tmp_path: Path) -> None:
    config = DatasetConfig(
        path=save(tmp_path / "reviews.csv", rows()),
        test_file=save(tmp_path / "new.csv", rows(6).drop(columns="label")),
    )
    task, _ = load_custom("films", resolve_dataset(config))
    (test,) = load_custom_tests(task, resolve_dataset(config)).values()
    assert (len(test), test["idx"][:]) == (6, [0, 1, 2, 3, 4, 5])


CHOICES: list[tuple[list[str], DatasetConfig, tuple[tuple[str, ...], str]]] = [
    (["text", "label"], DatasetConfig(), (("text",), "label")),
    (["Text", "Label"], DatasetConfig(), (("Text",), "Label")),
    (["id", "review", "label"], DatasetConfig(), (("review",), "label")),
    (["sentence", "mood"], DatasetConfig(), (("sentence",), "mood")),
    (["mood", "stars", "text"], DatasetConfig(label_column="stars"), (("text",), "stars")),
    (["review", "mood"], DatasetConfig(text_columns="review"), (("review",), "mood")),
    (["question", "sentence", "label", "idx"], DatasetConfig(), (("question", "sentence"), "label")),
    (["premise", "hypothesis", "target"], DatasetConfig(), (("premise", "hypothesis"), "target")),
    (["a", "b", "c"], DatasetConfig(text_columns="c,a"), (("c", "a"), "b")),
]


@pytest.mark.parametrize(("columns", "config", "chosen"), CHOICES, ids=lambda value: str(value)[:30])
def test_columns_that_nobody_named_are_the_only_ones_they_can_be(
    tmp_path: Path, columns: list[str], config: DatasetConfig, chosen: tuple[tuple[str, ...], str]
) -> None:
    config.path = save(tmp_path / "x.csv", pd.DataFrame({name: ["a", "b"] * 4 for name in columns}))
    resolved = resolve_dataset(config)
    assert (resolved.columns, resolved.label_column) == chosen


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (["review", "title", "label"], "several may be its text"),
        (["review", "mood"], "none is known to be its labels"),
        (["text", "sentence", "label"], "several may be its text"),
        (["text", "labels", "class"], "several may be its labels"),
        (["label"], "none is known to be its text"),
    ],
)
def test_several_choices_are_an_error_that_lists_the_columns(tmp_path: Path, columns: list[str], what: str) -> None:
    file = save(tmp_path / "x.csv", pd.DataFrame({name: ["a", "b"] for name in columns}))
    with pytest.raises(
        EvalError, match=f"{', '.join(columns)}, of which {what}: name them with --dataset.text_columns"
    ):
        resolve_dataset(DatasetConfig(path=file))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_folder_of_glue_dir_may_have_names_for_labels_and_any_columns(tmp_path: Path, suffix: str) -> None:
    for split in ("train", "validation"):
        save(tmp_path / "films" / f"{split}.{suffix}", rows(8, "body", "category"))
    task = find_task("films", str(tmp_path))
    assert (task.columns, task.labels, task.label_column) == (("body",), ("fine", "poor"), "category")
    assert load_task(task, str(tmp_path))["validation"]["label"][:2] == [0, 1]


def test_options_name_the_columns_of_a_folder_of_glue_dir(tmp_path: Path) -> None:
    save(tmp_path / "films" / "train.csv", rows(8, label="mood", title=["x"] * 8))
    save(tmp_path / "films" / "validation.csv", rows(4, label="mood", title=["x"] * 4))
    columns = DatasetConfig(text_columns="title,review", label_column="mood")
    config = FinetuneConfig("m", "films", "out", glue_dir=str(tmp_path), dataset=columns)
    assert config.problems() == []
    assert config.own_data is not None
    task, _ = load_custom("films", config.own_data)
    assert task.columns == ("title", "review")
    assert FinetuneConfig("m", "films", "out", dataset=columns).problems() != []


def test_what_is_recorded_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "reviews.csv", rows())
    monkeypatch.chdir(tmp_path)
    resolved = resolve_dataset(DatasetConfig(path="reviews.csv"))
    assert (resolved.path, resolved.text_columns, resolved.label_column) == (
        str(tmp_path / "reviews.csv"), "review", "label",
    )  # fmt: skip


MISTAKES = [
    ({"train_file": "absent.csv"}, "dataset.train_file=absent.csv is not there"),
    ({"path": "absent.csv"}, "dataset.path=absent.csv is not there"),
    ({"path": "notes.txt"}, "dataset.path=notes.txt is of no kind that is read: give one of .parquet, .tsv"),
    ({"train_file": "folder"}, "dataset.train_file=folder is a folder: give it as --dataset.path"),
    ({"path": "a.csv", "train_file": "a.csv"}, "dataset.train_file=a.csv does not go with path"),
    ({"validation_file": "a.csv"}, "dataset.validation_file=a.csv is of no data set"),
    ({"path": "a.csv", "validation_split": "dev"}, "dataset.validation_split=dev is of a folder or Hub data set"),
    ({"path": "a.csv", "validation_fraction": 1.0}, "dataset.validation_fraction=1.0: give more than 0"),
    ({"path": "folder", "validation_fraction": 0.5}, "dataset.validation_fraction=0.5 is for a training file"),
    ({"label_column": "mood"}, "dataset.label_column=mood is of no data set"),
]


@pytest.mark.parametrize(("fields", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_options_that_do_not_go_together_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    save(tmp_path / "a.csv", rows(4))
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    assert any(str(problem).startswith(message) for problem in DatasetConfig(**fields).problems(["films"]))


def test_rows_too_few_to_hold_some_out_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"has 2 rows, too few to hold some out.*validation_file"):
        load_custom("x", DatasetConfig(path=save(tmp_path / "x.csv", rows(2))))
