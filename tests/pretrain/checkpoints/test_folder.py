"""A checkpoint is complete or does not count."""

import hashlib
import json
import re

import pytest

from pretrain import PretrainError
from pretrain.checkpoints.folder import MARKER, newest_complete, open_checkpoint

PROGRESS = {
    "step": 5, "samples": 40, "world_size": 1, "zero_stage": 1, "precision": "fp32", "model": {}, "order": {},
    "applied": 5, "health": {},
}  # fmt: skip
SHA256 = hashlib.sha256(b"12345").hexdigest()


@pytest.fixture
def run(tmp_path):
    for step in (5, 10):
        folder = tmp_path / "checkpoints" / f"step-{step:07d}"
        folder.mkdir(parents=True)
        (folder / "weights.pt").write_bytes(b"12345")
        marker = {"progress": PROGRESS | {"step": step}, "files": {"weights.pt": {"bytes": 5, "sha256": SHA256}}}
        (folder / MARKER).write_text(json.dumps(marker))
    return tmp_path


def test_the_newest_complete_checkpoint_is_taken(run):
    assert newest_complete(run).progress.step == 10


@pytest.mark.parametrize("damage", ["truncated", "file missing", "marker missing", "marker damaged", "file added"])
def test_an_incomplete_checkpoint_does_not_count(run, damage):
    newest = run / "checkpoints" / "step-0000010"
    if damage == "truncated":
        (newest / "weights.pt").write_bytes(b"1")
    elif damage == "file missing":
        (newest / "weights.pt").unlink()
    elif damage == "marker missing":
        (newest / MARKER).unlink()
    elif damage == "marker damaged":
        (newest / MARKER).write_text('{"progress": {"st')
    else:
        (newest / "more.pt").write_bytes(b"?")
    assert newest_complete(run).progress.step == 5


def test_flipped_bytes_are_found_by_their_hash(run):
    newest = newest_complete(run)
    assert newest.damaged_files() == []
    (newest.path / "weights.pt").write_bytes(b"12354")
    assert newest_complete(run).path == newest.path
    assert newest.damaged_files() == ["weights.pt"]


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert newest_complete(tmp_path) is None


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "it is not an object"),
        ("{}", "progress, files missing"),
        (json.dumps({"progress": PROGRESS | {"step": "5"}, "files": {}}), "progress.step of the wrong type"),
        (json.dumps({"progress": PROGRESS, "files": {"weights.pt": {"bytes": 5}}}), "files.weights.pt.sha256 missing"),
        (json.dumps({"progress": PROGRESS, "files": {}}), "not named by its COMPLETE: weights.pt"),
    ],
)
def test_what_is_wrong_with_a_marker_is_said(run, marker, said):
    newest = run / "checkpoints" / "step-0000010"
    (newest / MARKER).write_text(marker)
    with pytest.raises(PretrainError, match=re.escape(said)):
        open_checkpoint(newest)
    assert newest_complete(run).progress.step == 5
