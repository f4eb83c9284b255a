"""`acn demo` runs the whole chain; the same machine gives the same numbers."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

SMALL = [
    "--corpus_mb",
    "2",
    "--steps",
    "8",
    "--train_examples",
    "64",
    "--validation_examples",
    "32",
    "--mlflow",
    "null",
]


def numbers(home: Path) -> dict[str, list[float]]:
    """Every depth's score in every results.json."""
    files = sorted(home.glob("glue-*/*/results.json"))
    return {str(file.relative_to(home)): json.loads(file.read_text())["depth_scores"] for file in files}


@pytest.mark.slow  # the whole chain for two models, twice
def test_the_demo_ends_with_a_report_and_two_runs_agree(acn, tmp_path):
    code, out, err = acn("demo", "--output", "one", *SMALL)
    assert code == 0, err
    home = tmp_path / "one"
    assert (home / "report" / "index.html").read_text().count("data:image/png") >= 2
    assert "6/6" in out
    assert "report/index.html" in out
    named = {Path(word.strip(":│")) for word in out.split("done in")[1].split() if word.startswith("one/")}
    assert len(named) == 5
    assert [path for path in named if not (tmp_path / path).exists()] == []
    small = AutoModelForSequenceClassification.from_pretrained(home / "small")
    assert small.config.num_hidden_layers <= 6
    assert acn("demo", "--output", "two", *SMALL)[0] == 0
    assert len(numbers(home)) == 4
    assert numbers(home) == numbers(tmp_path / "two")


def test_the_demo_leaves_other_folders_alone(acn, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    code, _, err = acn("demo", "--output", "mine", *SMALL)
    assert code == 2
    assert "output=mine" in err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
