"""A real run on its way out: as an ONNX file, and as a publication with its intermediate checkpoints."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from eval.compress.onnx_model import INPUTS, open_session


@pytest.fixture
def run(acn, trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")


@pytest.mark.slow  # torch's exporter takes its time
def test_an_exported_onnx_file_answers_as_the_model_does_for_any_shape(acn, run, tmp_path):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    code, _, err = acn("export", "run", "small", "--depth", "1", "--onnx")
    assert code == 0, err
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "small").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    session = open_session(tmp_path / "small" / "model.onnx")
    for texts in (["the cat sat"], ["the cat sat on the mat", "dog", "the bird ran"]):
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.no_grad():
            wanted = model(**batch).logits.numpy()
        (got,) = session.run(None, {name: batch[name].numpy() for name in INPUTS})
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_checkpoints_are_published_as_revisions(acn, run, tmp_path):
    code, _, err = acn("publish", "run", "--repo_id", "tester/acn", "--steps", "all", "--dry_run", "--output", "hub")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "hub/revisions").iterdir()} == {"step-0000002", "step-0000004"}
    folders = [tmp_path / "hub/revisions" / name for name in ("step-0000002", "step-0000004")]
    early, last = (AutoModelForMaskedLM.from_pretrained(folder).state_dict() for folder in folders)
    end = AutoModelForMaskedLM.from_pretrained(tmp_path / "run/model").state_dict()
    assert all(torch.equal(last[name], end[name]) for name in end)
    assert not all(torch.equal(early[name], end[name]) for name in end)
    assert [path.name for path in (tmp_path / "run").glob(".publish-*")] == []
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "| steps | 4 |" in text
    assert "| energy | not measured |" in text
