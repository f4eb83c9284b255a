"""Test-set predictions in GLUE's submission format, the diagnostic set, and splits in other files than Parquet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from eval import GLUE_TASKS, TASKS, FinetuneConfig, load_task, read_results, run_suite
from eval.glue.submission import answers, file_name

SaveSplit = Callable[[Path, str, str, dict[str, list]], None]
TEXTS = ["a good film", "the awful plot", "very long book", "a fine actor", "poor film"]


@pytest.fixture
def mnli(tmp_path: Path, save_split: SaveSplit) -> Path:
    """MNLI without its mismatched validation split, with both test splits, and a labelled diagnostic set."""
    folder = tmp_path / "data"
    pairs = {"premise": TEXTS, "hypothesis": TEXTS[::-1]}
    for split in ("train", "validation_matched"):
        save_split(folder, "mnli", split, pairs | {"label": [0, 1, 2, 0, 1]})
    for split in ("test_matched", "test_mismatched"):
        save_split(folder, "mnli", split, pairs | {"label": [-1] * 5, "idx": [10, 11, 12, 13, 14]})
    save_split(folder, "ax", "test", pairs | {"label": [0, 1, 2, 1, 0], "idx": [0, 1, 2, 3, 4]})
    return folder


def test_mnli_writes_both_test_splits_and_the_diagnostic_set(
    pretrained: Path, mnli: Path, tmp_path: Path, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    config = FinetuneConfig(
        str(pretrained), "mnli", str(output), str(mnli), epochs=1, max_length=16, batch_size=2, speed=False
    )
    (results,) = run_suite(config, tracker.open)
    assert {path.name for path in (output / "submission").iterdir()} == {"MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"}
    lines = (output / "submission" / "MNLI-m.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    model = AutoModelForSequenceClassification.from_pretrained(output / "mnli").eval()
    batch = AutoTokenizer.from_pretrained(output / "mnli")(TEXTS, TEXTS[::-1], return_tensors="pt", padding=True)
    with torch.no_grad():
        classes = model(**batch).logits.argmax(-1).tolist()
    wanted = [f"{i}\t{TASKS['mnli'].labels[c]}" for i, c in zip(range(10, 15), classes, strict=True)]
    assert lines[1:] == wanted
    assert set(results.diagnostic) == {"ax"}
    assert results.absent_splits == ["validation_mismatched"]
    assert "there is no validation_mismatched split" in capsys.readouterr().out
    assert read_results(output / "mnli") == results


@pytest.mark.parametrize(
    ("name", "predictions", "spelled"),
    [
        ("cola", [1, 0], ["1", "0"]),
        ("rte", [0, 1], ["entailment", "not_entailment"]),
        ("mnli", [2, 0], ["contradiction", "entailment"]),
        ("stsb", [5.2, -0.1, 2.34567], ["5.000", "0.000", "2.346"]),
    ],
)
def test_answers_are_spelled_as_the_benchmark_wants_them(name: str, predictions: list, spelled: list[str]) -> None:
    assert answers(TASKS[name], np.array(predictions)) == spelled


def test_files_have_the_benchmarks_names() -> None:
    names = {file_name(task, split) for task in GLUE_TASKS.values() for split in task.test_splits}
    assert names == {
        *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv", "QQP.tsv"),
        *("RTE.tsv", "WNLI.tsv"),
    }


def test_tsv_files_in_hub_layout_keep_quotes_and_texts_that_look_like_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "sst2"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.tsv").write_text('sentence\tlabel\n12\t0\nnull\t1\na "good one\t1\n')
    data = load_task(TASKS["sst2"], str(tmp_path))["train"]
    assert data["sentence"][:] == ["12", "null", 'a "good one']
    assert data["label"][:] == [0, 1, 1]
