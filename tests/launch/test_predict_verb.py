"""`acn predict` at the command line: on what the other verbs leave behind, and in a pipe."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

ROOT = Path(__file__).parents[2]
LINES = "the cat sat on the mat\nthe dog sat on the log\n" * 5


def test_a_suites_model_and_the_cut_one_answer_by_name(acn, trained, tmp_path):
    (tmp_path / "texts.txt").write_text(LINES)
    tuned = str(trained / "tuned" / "cats")
    quick = ("--check", "false", "--tracking.mlflow", "null")
    code, _, err = acn("compress", "--model", tuned, "--depth", "1", "--output", "small", "--force", *quick)
    assert code == 0, err
    code, whole, err = acn("predict", tuned, "texts.txt", "--depth", "1")
    assert code == 0, err
    assert err.splitlines()[-1] == "10 texts at depth 1 of 2"
    code, cut, err = acn("predict", "small", "texts.txt")
    assert code == 0, err
    assert err.splitlines()[-1] == "10 texts at depth 1 of 1"
    assert cut == whole
    rows = list(csv.DictReader(io.StringIO(whole)))
    names = AutoModelForSequenceClassification.from_pretrained(tuned).config.id2label
    assert {row["label"] for row in rows} <= set(names.values())
    assert [row["text"] for row in rows] == LINES.splitlines()


def test_a_model_of_a_data_set_of_ones_own_knows_its_column(acn, trained, tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        rows = "".join(f"the {animal} sat,{animal}\n" for animal in ("cat", "dog") * 16)
        (tmp_path / "data" / f"{split}.csv").write_text(f"what,animal\n{rows}")
    (tmp_path / "new.csv").write_text("id,what\n1,the dog sat\n")
    own = ("--dataset.path", "data", "--dataset.text_columns", "what", "--dataset.label_column", "animal")
    local = ("--epochs", "1", "--tracking.mlflow", "null")
    model = str(trained / "run" / "model")
    code, _, err = acn("glue", "--model", model, "--tasks", "animals", *own, "--output", "tuned", *local)
    assert code == 0, err
    code, out, err = acn("predict", "tuned/animals", "new.csv", "--output_format", "jsonl")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["what"] == "the dog sat"
    assert answer["label"] in ("cat", "dog")
    assert answer["scores"].keys() == {"cat", "dog"}


def test_a_pretrained_folder_is_a_mistake_with_its_fix(acn, trained, tmp_path):
    (tmp_path / "texts.txt").write_text(LINES)
    code, out, err = acn("predict", str(trained / "run" / "model"), "texts.txt")
    assert (code, out) == (2, "")
    assert "is a masked language model, it has no labels: fine-tune it first: acn glue --model " in err


@pytest.mark.parametrize(("form", "text"), [("lines", "the cat\n"), ("csv", 'id,sentence\n7,"the, cat"\n')])
def test_texts_come_through_a_pipe_and_answers_leave_through_one(trained, form, text):
    command = [sys.executable, "-m", "launch", "predict", str(trained / "tuned" / "cats"), "-", "--input_format", form]
    done = subprocess.run(
        command, input=text, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    header, answer = csv.reader(io.StringIO(done.stdout))
    assert header[1:3] == ["label", "score"]
    assert answer[0] == {"lines": "the cat", "csv": "the, cat"}[form]
