"""A fine-tuned or cut model is the one its scores were measured with, or no verb uses it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from eval import read_results
from modeling import AcnForSequenceClassification
from tests.pretrain.test_faults import flip

LOCAL = ("--tracking.mlflow", "null")
VERBS = {
    "compress": ("compress", "--model", "tuned/cats", "--output", "out", "--check", "false", "--force"),
    "study": ("study", "lesion", "--model", "tuned/cats", "--glue_dir", "glue", "--output", "out", *LOCAL),
    "report": ("report", "tuned", "--output", "out"),
    "publish": ("publish", "tuned/cats", "--repo_id", "tester/cats", "--dry_run", "--output", "out"),
    "glue": ("glue", "--model", "tuned/cats", "--glue_dir", "glue", "--tasks", "cats", "--output", "out", *LOCAL),
}


@pytest.fixture
def tuned(trained, tmp_path) -> Path:
    """What `acn glue` has left in `tuned/cats`."""
    for name in ("tuned", "glue", "run"):
        shutil.copytree(trained / name, tmp_path / name)
    return tmp_path / "tuned" / "cats"


def test_the_record_names_weights_and_tokenizer(tuned):
    files = read_results(tuned).files
    assert set(files) >= {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert "config.json" not in files


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_changed_file_is_named(acn, tuned, tmp_path, verb, name):
    flip(tuned / name)
    code, _, err = acn(*VERBS[verb])
    assert code == 2, err
    assert f"cats/{name} is not the file that the scores in" in err
    assert not (tmp_path / "out").exists()


def test_a_report_needs_no_weights_and_the_others_say_what_is_missing(acn, tuned, tmp_path):
    (tuned / "tokenizer.json").unlink()
    assert acn(*VERBS["report"])[0] == 0
    shutil.rmtree(tmp_path / "out")
    code, _, err = acn(*VERBS["compress"])
    assert code == 2
    assert "cats/tokenizer.json is missing" in err


def test_a_cut_model_has_hashes_of_its_own(acn, tuned, tmp_path):
    assert (
        acn("compress", "--model", "tuned/cats", "--output", "small", "--depth", "1", "--glue_dir", "glue", "--force")[
            0
        ]
        == 0
    )
    publish = ("publish", "small", "--repo_id", "tester/cats", "--dry_run", "--output", "out")
    assert acn(*publish)[0] == 0
    shutil.rmtree(tmp_path / "out")
    flip(tmp_path / "small" / "model.safetensors")
    code, _, err = acn(*publish)
    assert code == 2
    assert "small/model.safetensors is not the file" in err


def test_results_of_version_0_1_have_none_and_are_read(acn, tuned):
    results = json.loads((tuned / "results.json").read_text())
    del results["files"]
    (tuned / "results.json").write_text(json.dumps(results))
    code, _, err = acn(*VERBS["compress"])
    assert code == 0, err


@pytest.mark.parametrize("name", ["../cats/model.safetensors", "/etc/passwd", "sub/x"])
def test_a_record_names_files_of_its_folder_alone(acn, tuned, name):
    results = json.loads((tuned / "results.json").read_text())
    (tuned / "results.json").write_text(json.dumps(results | {"files": {name: "0" * 64}}))
    code, _, err = acn(*VERBS["compress"])
    assert code == 2
    assert "is not in the folder" in err


@pytest.mark.parametrize("verb", ["compress", "study", "publish", "glue"])
def test_a_model_that_is_not_finite_is_not_used(acn, tuned, tmp_path, verb):
    model = AcnForSequenceClassification.from_pretrained(tuned)
    with torch.no_grad():
        model.acn.embeddings.word_embeddings.weight[3, 3] = float("inf")
    model.save_pretrained(tuned)
    results = json.loads((tuned / "results.json").read_text())
    del results["files"]  # as if it had come out of training like this
    (tuned / "results.json").write_text(json.dumps(results))
    code, _, err = acn(*VERBS[verb])
    assert code == 2, err
    assert "infinite or NaN (acn.embeddings.word_embeddings.weight" in err
    assert not list(tmp_path.glob("out/**/*.safetensors"))
