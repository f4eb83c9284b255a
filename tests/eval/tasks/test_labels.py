"""Labels go by name: storage, the order of declared classes and the other splits never decide what a label is."""

import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import TASKS, EvalError, find_task, load_task
from eval.tasks import DIAGNOSTIC, DatasetConfig, load_custom, load_test_splits, use_classes

Column = pa.Array | list


def declared(names: list[str], ids: list[int | None]) -> tuple[pa.Array, list[str]]:
    """A column of class ids with the names beside it."""
    return pa.array(ids, pa.int64()), names


def save(path: Path, label: Any, texts: dict[str, list] | None = None) -> None:
    """A split of one sentence a row; a label of (ids, names) is stored as `datasets` stores a ClassLabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column, names = label if isinstance(label, tuple) else (label, None)
    table = pa.table((texts or {"sentence": [f"text {n}" for n in range(len(column))]}) | {"label": column})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def read_own(folder: Path, train: Any, validation: Any) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The classes, and the class names of the rows of both splits."""
    save(folder / "train.parquet", train)
    save(folder / "validation.parquet", validation)
    task, splits = load_custom("own", DatasetConfig(str(folder)))
    return task.labels, *([task.labels[label] for label in splits[name]["label"]] for name in ("train", "validation"))


TWO = [0, 1, 0, 1]
STORED = [
    pa.array(TWO, pa.int8()),
    pa.array(TWO, pa.uint64()),
    pa.array([float(n) for n in TWO], pa.float32()),
    pa.array([decimal.Decimal(n) for n in TWO]),
    ["0", "1", "0", "1"],
    pa.array(["0", "1", "0", "1"], pa.string_view()),
    pa.array([b"0", b"1", b"0", b"1"], pa.binary_view()),
    pa.array(["0", "1", "0", "1"]).dictionary_encode(),
    declared(["0", "1"], TWO),
    declared(["1", "0"], [1, 0, 1, 0]),
]


@pytest.mark.parametrize("validation", STORED, ids=range(len(STORED)))
@pytest.mark.parametrize("train", [STORED[0], STORED[2], STORED[4], STORED[8]], ids=["ints", "floats", "text", "named"])
def test_numbers_are_their_digits_however_they_are_stored(tmp_path: Path, train: Any, validation: Any) -> None:
    assert read_own(tmp_path, train, validation) == (("0", "1"), ["0", "1", "0", "1"], ["0", "1", "0", "1"])


@pytest.mark.parametrize(
    ("train", "validation", "classes", "names"),
    [
        (declared(["neg", "pos"], [1, 0]), declared(["pos", "neg"], [0, 1]), ("neg", "pos"), ["pos", "neg"]),
        (declared(["pos", "neg"], [1, 0]), ["neg", "pos"], ("pos", "neg"), ["neg", "pos"]),
        (declared(["a", "b", "c"], [2, 0]), declared(["b", "c"], [0, 1]), ("a", "b", "c"), ["b", "c"]),
        (["b", "a", "B"], ["a", "B"], ("B", "a", "b"), ["a", "B"]),
        (["10", "9", "other"], ["other", "9"], ("9", "10", "other"), ["other", "9"]),
        ([1, 2, 5], [5.0, 1.0], ("1", "2", "5"), ["5", "1"]),
        ([True, False], ["True", "False"], ("False", "True"), ["True", "False"]),
        (["01", "1", "1.0"], ["1.0", "1"], ("1", "01", "1.0"), ["1.0", "1"]),
        (["EU", "NA"], ["NA", "EU"], ("EU", "NA"), ["NA", "EU"]),
        (["true", "false"], [True, False], ("false", "true"), ["true", "false"]),
        ([True, False], ["TRUE", "false"], ("False", "True"), ["True", "False"]),
        (["1.0", "2.0"], [2, 1], ("1.0", "2.0"), ["2.0", "1.0"]),
        ([1, 2], ["2.0", "1"], ("1", "2"), ["2", "1"]),
    ],
)
def test_the_training_split_decides_the_classes(
    tmp_path: Path, train: Any, validation: Any, classes: tuple[str, ...], names: list[str]
) -> None:
    found, _, read = read_own(tmp_path, train, validation)
    assert (found, read) == (classes, names)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (["a", "b"], ["a", "c"], r"split validation: label c is unknown .*row 1.*the training split has a, b"),
        ([0, 2], [1, 3], r"label 1, 3 is unknown .*has 0, 2"),
        (declared(["neg", "pos"], [0, 1]), [0, 1], "label 0, 1 is unknown .*has neg, pos"),
        ([0, 1], declared(["neg", "pos"], [0, 1]), "label neg, pos is unknown .*has 0, 1"),
        ([0, 1], [True, False], "label False, True is unknown"),
        (["1", "1.0", "2"], ["1.00"], r"label 1\.00 is unknown"),
        ([0, 1, 10**9], [0, 1], "has 1000000000, no number of a class: give integers"),
        (["0", "1", "1000000000000000000000"], [0], "no number of a class"),
        ([-1, 1], [1], "has -1, no number of a class"),
        ([0.0, 0.5], [0], r"train\.parquet, row 1 .*label is 0\.5, which is neither"),
        ([float("inf"), 0.5], [0], "label is inf, which is neither"),
        ([[0], [1]], [0], r"label is \[0\], which is neither"),
        (declared(["neg", "pos"], [0, 2]), [0], r"label is 2, but the classes declared beside it are 0\.\.1"),
        (declared(["neg", "neg"], [0, 1]), [0], "metadata of datasets that cannot be read"),
        (["a", None, ""], ["a", None], "label has the single class a|at least two"),
        (
            ["a", "b", ""],
            ["a", None],
            "(?s)split train: column label has 1 empty.*validation: column label has 1 empty",
        ),
        ([0.0, 1.0, float("nan")], [0], "column label has 1 empty value"),
        (declared(["a", "b"], [0, 1, -1]), ["a"], r"column label has 1 empty value \(.*row 2.*\), -1 counts as one"),
        (["a\tb", "c"], ["c"], r"class names with tabs or line ends, 'a\\tb': rename"),
        (["0", "1", "NA"], ["0"], "has NA among numbers: drop these rows"),
        (["True", "False", "nan"], ["True"], "has nan among True and False"),
    ],
)
def test_labels_that_would_have_to_be_guessed_at_are_refused(
    tmp_path: Path, train: Any, validation: Any, message: str
) -> None:
    with pytest.raises(EvalError, match=message):
        read_own(tmp_path, train, validation)


@pytest.mark.parametrize(
    ("column", "classes", "ids"),
    [
        (["1", "2", "other", "1"], ("1", "2", "other"), [0, 1, 2, 0]),
        (["True", "False", "True"], ("False", "True"), [1, 0, 1]),
        (["true", "false"], ("false", "true"), [1, 0]),
        (["0.0", "1.0", "0.0"], ("0", "1"), [0, 1, 0]),
        (["NA", "US"], ("NA", "US"), [0, 1]),
        (["v1.0", "v2"], ("v1.0", "v2"), [0, 1]),
    ],
)
def test_labels_of_csv_files_mean_the_same_in_every_split(
    tmp_path: Path, column: list[str], classes: tuple[str, ...], ids: list[int]
) -> None:
    def write(split: str, labels: list[str]) -> None:
        (tmp_path / f"{split}.csv").write_text("sentence,label\n" + "".join(f"text,{label}\n" for label in labels))

    write("train", column)
    write("validation", column[:1])  # of one kind of value: nothing may be inferred from a split alone
    task, splits = load_custom("own", DatasetConfig(str(tmp_path)))
    assert (task.labels, splits["train"]["label"][:], splits["validation"]["label"][:]) == (classes, ids, ids[:1])
    write("validation", ["1", "1.0", "TRUE", "True"])
    with pytest.raises(EvalError, match=r"is 1 in some rows and 1\.0 in others|is TRUE in some rows and True"):
        load_custom("own", DatasetConfig(str(tmp_path)))


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ([1.5, 2.0], [1.5, 2.0]),
        ([1, 2], [1.0, 2.0]),
        (["1.5", "2e-1"], [1.5, 0.2]),
        ([decimal.Decimal("1.5"), decimal.Decimal(2)], [1.5, 2.0]),
        (["1,5", "2"], "label is '1,5': give numbers"),
        (["1_000", "2"], "label is '1_000': give numbers"),
        (["nan", "2"], "label is 'nan': give numbers"),
        ([True, False], "label is True: give numbers"),
        ([1e300, 2.0], "label is 1e\\+300: NaN or infinite"),
        ([1.0, None], "column label has 1 empty value"),
        (declared(["a", "b"], [0, 1]), "label has names of classes"),
    ],
)
def test_numbers_to_predict_are_numbers(tmp_path: Path, labels: Any, read: Any) -> None:
    for split in ("train", "validation"):
        save(tmp_path / f"{split}.parquet", labels)
    config = DatasetConfig(str(tmp_path), regression=True)
    if isinstance(read, str):
        with pytest.raises(EvalError, match=read):
            load_custom("own", config)
    else:
        assert load_custom("own", config)[1]["train"]["label"][:] == pytest.approx(read)


PAIR = {"sentence1": ["a", "b"], "sentence2": ["c", "d"]}
RTE = [
    (declared(["not_entailment", "entailment"], [0, 1]), [1, 0]),
    (declared(["entailment", "not_entailment"], [0, 1]), [0, 1]),
    (["not_entailment", "entailment"], [1, 0]),
    ([1, 0], [1, 0]),
    (["1", "0"], [1, 0]),
    ([1.0, 0.0], [1, 0]),
    (
        declared(["yes", "no"], [0, 1]),
        "label no, yes is unknown .*the classes of rte are entailment, not_entailment, or",
    ),
    ([0, 2], "label 2 is unknown"),
    ([0, -1], "column label has 1 empty"),
    ([True, False], "label False, True is unknown"),
]


@pytest.mark.parametrize(("labels", "ids"), RTE, ids=range(len(RTE)))
def test_glue_folders_go_by_name_and_numbers_are_glues_ids(tmp_path: Path, labels: Any, ids: Any) -> None:
    for split in ("train", "validation"):
        save(tmp_path / "rte" / f"{split}.parquet", labels, PAIR)
    if isinstance(ids, str):
        with pytest.raises(EvalError, match=ids):
            load_task(TASKS["rte"], str(tmp_path))
    else:
        assert load_task(TASKS["rte"], str(tmp_path))["train"]["label"][:] == ids


def test_a_folder_of_ones_own_below_glue_dir_has_names_too(tmp_path: Path) -> None:
    save(tmp_path / "own [1]" / "train.parquet", ["spam", "ham"])
    save(tmp_path / "own [1]" / "validation.parquet", declared(["spam", "ham"], [0, 1]))
    task = find_task("own [1]", str(tmp_path))
    assert task.labels == ("ham", "spam")
    assert load_task(task, str(tmp_path))["validation"]["label"][:] == [1, 0]


def test_each_part_of_a_split_has_its_own_order_of_classes(tmp_path: Path) -> None:
    for number, names in enumerate((["neg", "pos"], ["pos", "neg"])):
        save(tmp_path / f"train-0000{number}-of-00002.parquet", declared(names, [0, 1]))
    save(tmp_path / "validation.parquet", ["neg"])
    task, splits = load_custom("own", DatasetConfig(str(tmp_path)))
    assert [task.labels[label] for label in splits["train"]["label"]] == ["neg", "pos", "pos", "neg"]
    save(tmp_path / "train-00001-of-00002.parquet", [0, 1])
    with pytest.raises(EvalError, match="has 0, 1, while other files of the split declare neg, pos"):
        load_custom("own", DatasetConfig(str(tmp_path)))


def test_labels_of_test_splits_are_looked_at_for_the_diagnostic_set_only(tmp_path: Path) -> None:
    texts = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "idx": ["7", "9"]}
    names = ["contradiction", "entailment", "neutral"]
    save(tmp_path / "ax" / "test.parquet", declared(names, [0, 2]), texts)
    (test,) = load_test_splits(DIAGNOSTIC, str(tmp_path)).values()
    assert (test["label"][:], test["idx"][:]) == ([2, 1], [7, 9])
    save(tmp_path / "ax" / "test.parquet", [-1, -1], texts)
    assert load_test_splits(DIAGNOSTIC, str(tmp_path))["test"].column_names == ["premise", "hypothesis", "idx"]
    save(tmp_path / "mnli" / "test_matched.parquet", ["?", None], texts | {"idx": ["7", "x"]})
    with pytest.raises(EvalError, match=r"row 1.*idx is 'x': give whole numbers"):
        load_test_splits(TASKS["mnli"], str(tmp_path))


def test_a_model_is_scored_with_the_ids_it_was_trained_with(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        save(tmp_path / f"{split}.parquet", ["b", "a", "b"])
    task, splits = load_custom("own", DatasetConfig(str(tmp_path)))
    assert use_classes(task, splits, ["a", "b"], "model") == (task, splits)
    task, splits = use_classes(task, splits, ["b", "x", "a"], "model")
    assert (task.labels, splits["validation"]["label"][:]) == (("b", "x", "a"), [0, 2, 0])
    with pytest.raises(EvalError, match="model has the classes a, its data has b, x, a: run"):
        use_classes(task, splits, ["a"], "model")


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4), min_size=2, max_size=5, unique=True
)


@given(data=st.data(), names=NAMES)
def test_any_storage_in_any_order_gives_the_same_names(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, names: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "names"
    rows = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=8))

    def stored(values: list[str]) -> Any:
        order = data.draw(st.permutations(names))
        return data.draw(
            st.sampled_from(
                [
                    values,
                    pa.array(values, pa.large_string()),
                    pa.array(values).dictionary_encode(),
                    declared(order, [order.index(value) for value in values]),
                ]
            )
        )

    try:
        _, train, validation = read_own(folder, stored([*names, *rows]), stored(rows))
    except EvalError as error:
        if "among numbers" not in str(error) and "no number of a class" not in str(error):
            raise
        return
    assert (train, validation) == ([*names, *rows], rows)


def test_data_sets_of_the_hub_go_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(names: list[str], ids: list[int]) -> datasets.Dataset:
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        return datasets.Dataset.from_dict({"text": ["a", "b"], "label": ids}, features)

    there: dict[str, Callable[[], datasets.Dataset]] = {
        "train": lambda: split(["no", "yes"], [0, 1]),
        "test": lambda: split(["yes", "no"], [0, 1]),
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, split: there[split]())
    config = DatasetConfig("someone/set", text_columns="text", validation_split="test")
    _, splits = load_custom("own", config)
    assert (splits["train"]["label"][:], splits["validation"]["label"][:]) == ([0, 1], [1, 0])
