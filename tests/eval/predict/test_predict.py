"""Every text gets the label and the scores that the model gives it alone, in the order of the file."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eval import EvalError
from eval.predict import PredictConfig, predict_file
from modeling import AcnForSequenceClassification

TEXTS = [
    "good film",
    "the book was very long and awful",
    'a "great", long\u2028plot',
    "bad",
    "poor actor and the plot",
] * 3
NAMES = {0: "negative", 1: "neutral", 2: "positive"}


@pytest.fixture(scope="session")
def sorter(tmp_path_factory: pytest.TempPathFactory, classifier: Callable[..., Any], tokenizer: Any) -> Path:
    """A classifier of three named classes, saved as transformers saves it."""
    folder = tmp_path_factory.mktemp("sorter")
    classifier(initializer_range=0.6, id2label=NAMES, label2id={name: i for i, name in NAMES.items()}).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def grader(tmp_path_factory: pytest.TempPathFactory, classifier: Callable[..., Any], tokenizer: Any) -> Path:
    """A regression."""
    folder = tmp_path_factory.mktemp("grader")
    classifier(num_labels=1, problem_type="regression").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(folder: Path, tokenizer: Any, depth: int, *columns: list[str]) -> torch.Tensor:
    """(N, classes), one text at a time, from the read-outs of the whole model."""
    model = AcnForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for texts in zip(*columns, strict=True):
        states = model(**tokenizer(*texts, return_tensors="pt"), output_hidden_states=True).hidden_states
        rows.append(model.head_logits(states[depth])[0])
    return torch.stack(rows)


def predicted(tmp_path: Path, model: Path, file: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows of OUTPUT; in fp32, unless options say otherwise: exact, and the same on every processor."""
    output = tmp_path / options.pop("output", "out.csv")
    predict_file(PredictConfig(str(model), str(file), str(output), **{"precision": "fp32"} | options))
    if output.suffix == ".jsonl":
        return [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]]
    with output.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    """A file of the kind that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix in (".json", ".jsonl"):
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(json.dumps(rows) if path.suffix == ".json" else lines)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


@pytest.mark.parametrize("depth", [None, 0, 2])
def test_lines_of_text_are_labelled_by_name_at_a_depth(tmp_path, sorter, tokenizer, depth):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    rows = predicted(tmp_path, sorter, tmp_path / "texts.txt", depth=depth, batch_size=4)
    expected = logits(sorter, tokenizer, 3 if depth is None else depth, TEXTS).softmax(-1)
    assert [row["text"] for row in rows] == TEXTS
    for row, scores in zip(rows, expected, strict=True):
        assert row["label"] == NAMES[int(scores.argmax())]
        assert float(row["score"]) == pytest.approx(float(scores.max()), abs=2e-6)
        assert [float(row[f"score_{name}"]) for name in NAMES.values()] == pytest.approx(scores.tolist(), abs=2e-6)
    assert len({row["score"] for row in rows}) > 1 or depth == 0, "at depth 0 the head sees [CLS] alone"


@pytest.mark.parametrize("suffix", ["csv", "CSV", "tsv", "json", "jsonl", "parquet"])
def test_pairs_come_from_named_columns_of_any_kind_of_file(tmp_path, sorter, tokenizer, suffix):
    firsts, seconds = TEXTS, TEXTS[::-1]
    texts = {"id": [str(i) for i in range(len(TEXTS))], "b": seconds, "a": firsts}
    file = write(tmp_path / f"pairs.{suffix}", texts)
    rows = predicted(tmp_path, sorter, file, text_columns="a, b", output="out.jsonl")
    expected = logits(sorter, tokenizer, 3, firsts, seconds).softmax(-1)
    assert [(row["a"], row["b"]) for row in rows] == list(zip(firsts, seconds, strict=True))
    for row, scores in zip(rows, expected, strict=True):
        assert list(row) == ["a", "b", "label", "score", "scores"]
        assert row["scores"] == pytest.approx(dict(zip(NAMES.values(), scores.tolist(), strict=True)), abs=2e-6)
        assert row["label"] == max(row["scores"], key=row["scores"].get)


def test_columns_that_nobody_names_are_those_of_own_tasks(tmp_path, sorter):
    file = write(tmp_path / "pairs.csv", {"sentence2": TEXTS, "sentence1": TEXTS[::-1]})
    assert list(predicted(tmp_path, sorter, file)[0])[:2] == ["sentence1", "sentence2"]
    file = write(tmp_path / "one.csv", {"sentence": TEXTS, "label": TEXTS})
    assert list(predicted(tmp_path, sorter, file, output="b.csv")[0])[:2] == ["sentence", "label"]


def test_a_regression_gives_its_value(tmp_path, grader, tokenizer):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    rows = predicted(tmp_path, grader, tmp_path / "texts.txt")
    assert list(rows[0]) == ["text", "score"]
    values = logits(grader, tokenizer, 3, TEXTS)[:, 0].tolist()
    assert [float(row["score"]) for row in rows] == pytest.approx(values, abs=2e-6)


def test_what_is_too_long_is_cut_and_said(tmp_path, sorter, tokenizer, capsys):
    (tmp_path / "texts.txt").write_text("bad\n" + "the good film " * 30)
    config = PredictConfig(str(sorter), str(tmp_path / "texts.txt"))
    assert predict_file(config) == "2 texts at depth 3 of 3, 1 cut at 24 tokens"
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3, "a header and two answers, and nothing else"
    assert "predict: 1/1 (2 of 2 texts)" in said.err


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", "good\n\nbad\n", {}, "a.txt: column text has 1 empty value (a.txt, line 2)"),
        ("a.txt", "", {}, "it is empty"),
        ("a.csv", "review\ngood\n", {}, "has the columns review, of which none is known to be its text"),
        ("a.csv", "review\ngood\n", {"text_columns": "revew"}, "no column revew; it has review"),
        ("a.csv", "review,n\ngood\n", {"text_columns": "review"}, "a.csv, line 2 has 1 field, the header has 2"),
        ("a.csv", "label\ngood\n", {"text_columns": "label"}, "label is a column of the answers"),
        ("a.jsonl", '{"review": 3}\n', {"text_columns": "review"}, "column review is int (a.jsonl, line 1)"),
        ("a.tsv", 'review\nsays "good"\n', {"text_columns": "review", "depth": 4}, "depth=4 is more than the model"),
        ("a.txt", "good\n", {"max_length": 25}, "max_length=25 is above the model's 24 positions"),
        ("a.txt", "good\n", {"text_columns": "a,b"}, "names two columns, a line has one text"),
        ("a.csv", "a\ngood\n", {"text_columns": "a,a"}, "name one column, or two different ones"),
        ("a.txt", "good\n", {"output": "a.xlsx"}, "says neither .csv nor .jsonl"),
        ("a.txt", "good\n", {"output": "a.txt"}, "exists: choose another file"),
        ("a.txt", "good\n", {"output": "b.csv", "output_format": "jsonl"}, "is not what b.csv says"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_nothing_is_written(tmp_path, monkeypatch, sorter, name, content, options, message):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    with pytest.raises(EvalError) as caught:
        predict_file(PredictConfig(str(sorter), name, **({"output": "out.csv"} | options)))
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Path(name).read_text() == content


def test_a_masked_language_model_is_refused_with_the_way_to_a_classifier(tmp_path, pretrained):
    (tmp_path / "a.txt").write_text("good")
    with pytest.raises(EvalError, match=r"is a masked language model, .*: fine-tune it first: acn glue --model "):
        predict_file(PredictConfig(str(pretrained), str(tmp_path / "a.txt")))
