"""No name that stands in a file leads out of the file's folder, and nothing is waited for that is no file."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError, Manifest, copy_files, files_inside, name_problem, path_inside
from data_pipeline.corpus import Store
from data_pipeline.stream import MaskingConfig, StreamConfig, TokenStream
from data_pipeline.stream.cache import ShardCache
from eval import EvalError
from eval.models import read_model_config
from launch.errors import LaunchError
from launch.tracking import SyncConfig, TrackingConfig, check_run_dir, open_tracker, read_record
from pretrain.checkpoints import find_checkpoint
from tests.processes import run_acn

BAD_NAMES = [
    "", ".", "..", "../x", "a/../x", "a/./x", "a//x", "a/", "/etc/passwd", "//host/x", "\\x", "a\\..\\x", "C:x",
    "c:/x", "a\0b", "a\nb", "a\x7fb", None, 3, ["a"],
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_such_names_are_refused(tmp_path, name):
    assert name_problem(name) is not None
    if isinstance(name, str):
        with pytest.raises(DataError):
            path_inside(tmp_path, name)


@given(st.text(max_size=40))
def test_whatever_is_let_through_lies_in_the_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    if name_problem(name) is None:
        try:
            path = path_inside(folder, name)
        except DataError:  # a name that the system cannot have
            return
        assert path.resolve().is_relative_to(folder.resolve())


def test_links_lead_about_in_the_folder_and_not_out_of_it(tmp_path):
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    (folder / "deep").mkdir(parents=True)
    secret.mkdir()
    (secret / "key").write_text("private")
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("file")
    (folder / "out").symlink_to(secret / "key")
    (folder / "deep" / "folder").symlink_to(secret)
    (folder / "dangling").symlink_to(tmp_path / "to be made")
    (folder / "circle").symlink_to("circle")
    assert path_inside(folder, "link").read_text() == "x"
    for name in ("out", "deep/folder/key", "deep/folder", "dangling", "circle"):
        with pytest.raises(DataError):
            path_inside(folder, name)
    with pytest.raises(DataError):
        files_inside(folder)
    with pytest.raises(DataError):
        copy_files(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_may_itself_be_reached_through_a_link(tmp_path):
    (tmp_path / "disk" / "a").mkdir(parents=True)
    (tmp_path / "disk" / "a" / "file").write_text("x")
    (tmp_path / "runs").symlink_to("disk")
    assert path_inside(tmp_path / "runs", "a/file").read_text() == "x"
    assert files_inside(tmp_path / "runs") == ["a/file"]
    copy_files(tmp_path / "runs", tmp_path / "copy")
    assert (tmp_path / "copy" / "a" / "file").read_text() == "x"


def test_a_snapshot_of_the_hubs_cache_is_a_folder_of_its_blobs(tmp_path):
    """Its files are links to CACHE/REPOSITORY/blobs: what `hf download` leaves must be of use."""
    repository, digest = tmp_path / "datasets--me--tokens", "ab" * 32
    snapshot = repository / "snapshots" / "0123"
    (snapshot / "train").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / digest).write_text("x")
    (snapshot / "train" / "file").symlink_to(f"../../../blobs/{digest}")
    (repository / "blobs" / "password").write_text("private")
    (snapshot / "other").symlink_to("../../blobs/password")
    assert path_inside(snapshot, "train/file").read_text() == "x"
    with pytest.raises(DataError):
        path_inside(snapshot, "other")


def test_pipes_and_sockets_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the names of sockets are short
        listener.bind("socket")
        os.chdir(here)
        for name in ("pipe", "socket"):
            with pytest.raises(DataError, match="neither a regular file nor a folder"):
                path_inside(tmp_path, name)


def _changed(prepared: Path, folder: Path, **changes: str) -> Path:
    """A copy of a corpus whose first training shard is described differently."""
    shutil.copytree(prepared, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0] |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("name", ["../outside.parquet", "/etc/passwd", "train/../../x", "a?b", "a%2e%2e/b"])
def test_a_manifest_names_no_shard_of_another_folder(prepared, tmp_path, name):
    with pytest.raises(DataError, match="names the shard"):
        Manifest.load(_changed(prepared, tmp_path / "tokens", file=name))


@pytest.mark.parametrize("digest", ["../../../x", "", "ABC", "0" * 63])
def test_a_manifest_names_no_file_of_a_cache_but_by_a_sha256(prepared, tmp_path, digest):
    with pytest.raises(DataError, match="sha256"):
        Manifest.load(_changed(prepared, tmp_path / "tokens", sha256=digest))


@pytest.mark.parametrize("kind", ["link", "pipe", "folder of links"])
def test_a_shard_that_is_no_file_of_the_corpus_is_not_read(prepared, tmp_path, kind):
    tokens = tmp_path / "tokens"
    shutil.copytree(prepared, tokens)
    shard = next((tokens / "train").iterdir())
    if kind == "folder of links":
        (tokens / "train").rename(tmp_path / "train")
        (tokens / "train").symlink_to(tmp_path / "train")
    else:
        shard.rename(tmp_path / "elsewhere")
        shard.symlink_to(tmp_path / "elsewhere") if kind == "link" else os.mkfifo(shard)
    for damaged in ("stop", "skip"):
        stream = TokenStream(tokens, StreamConfig(damaged=damaged), MaskingConfig())
        with pytest.raises(DataError, match=shard.name):
            next(stream.micro_batches(0, 1))
    for command in (("data", "verify"), ("data", "show")):
        done = run_acn(*command, str(tokens), timeout=60)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_store_stays_in_its_folder(tmp_path):
    store = Store(tmp_path / "tokens")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "other").write_text("mine")
    for act in (store.read, store.size, store.names, store.remove, lambda name: store.write(name, b"x")):
        with pytest.raises(DataError):
            act("../other")
    assert (tmp_path / "other").read_text() == "mine"
    remote = Store("memory://tokens")
    for name in ("../other", "a?b", "%2e%2e/x"):
        with pytest.raises(DataError):
            remote.read(name)


def test_a_cache_opens_no_pipe_and_no_link(tmp_path):
    cache = ShardCache(tmp_path, 1000)
    for digest, make in (("a" * 64, os.mkfifo), ("b" * 64, lambda path: path.symlink_to("/etc/passwd"))):
        make(tmp_path / "shards" / digest)
        with pytest.raises(DataError):
            cache.open(digest, "a shard", lambda: b"")


def test_a_tokenizer_folder_gives_away_nothing_beside_it(prepared, tmp_path):
    tokens = tmp_path / "tokens"
    shutil.copytree(prepared, tokens)
    (tmp_path / "key").write_text("private")
    (tokens / "tokenizer" / "vocab.txt").symlink_to(tmp_path / "key")
    for command in (("publish", str(tokens), "--repo_id", "a/b", "--dry_run", "--output", "hub"),):
        done = run_acn(*command, folder=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "vocab.txt" in done.stderr
    assert not (tmp_path / "hub").exists()


LOCAL = TrackingConfig(mlflow=None, system_seconds=0)


@pytest.fixture
def run(tmp_path) -> Path:
    with open_tracker(LOCAL, tmp_path / "run", "run", {}, {}) as tracker:
        tracker.log_metrics({"loss": 1.0}, 1)
    return tmp_path / "run"


def _name_file(run: Path, name: str, target: str = "figures") -> None:
    record = json.loads((run / "record.json").read_text())
    record["files"] = {name: target}
    (run / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("name", "target"),
    [("/etc/passwd", "figures"), ("../../key", "figures"), ("x.png", "../../other"), ("x.png", "/x")],
)
def test_a_record_names_no_file_beside_its_run(run, name, target):
    _name_file(run, name, target)
    for read in (read_record, lambda folder: open_tracker(LOCAL, folder, "run", {}, {})):
        with pytest.raises(LaunchError, match=r"record\.json"):
            read(run)


def test_sync_sends_nothing_of_a_run_that_links_to_other_folders(run, tmp_path):
    (tmp_path / "key").write_text("private")
    (run / "model").mkdir()
    (run / "model" / "weights").symlink_to(tmp_path / "key")
    (run / "picture.png").symlink_to(tmp_path / "key")
    for name in ("model", "picture.png"):
        _name_file(run, name)
        done = run_acn("track", "sync", "run", "--tracking.mlflow", "sqlite:///store.db", folder=tmp_path)
        assert done.returncode == 2
        assert "link out of the folder" in done.stderr
        assert not (tmp_path / "store.db").exists()


def test_a_server_that_only_the_run_names_gets_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for server in ("http://collector.example", "sqlite:////somewhere/else.db"):
        (run / "config.yaml").write_text(f"tracking: {{mlflow: '{server}'}}\n")
        with pytest.raises(LaunchError, match=f"--tracking.mlflow {server}"):
            check_run_dir(run, SyncConfig())
        assert check_run_dir(run, SyncConfig(mlflow=server)) == server
        if server.startswith("http"):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/")
            assert check_run_dir(run, SyncConfig()) == server
    (run / "config.yaml").write_text("tracking: {mlflow: 'sqlite:///mlruns.db'}\n")
    assert check_run_dir(run, SyncConfig()) == "sqlite:///mlruns.db", "the default of every run"


def test_a_tracker_attaches_files_of_the_run_only(run, tmp_path):
    (tmp_path / "other.png").write_bytes(b"x")
    with open_tracker(LOCAL, run, "run", {}, {}) as tracker, pytest.raises(ValueError, match=r"other\.png"):
        tracker.log_figure(tmp_path / "other.png")


@pytest.mark.parametrize("damage", ["link", "pipe"])
def test_a_checkpoint_with_links_or_pipes_is_damaged(tmp_path, lab, damage):
    shutil.copytree(lab / "runs/acn", tmp_path / "acn")
    assert find_checkpoint(tmp_path / "acn").progress.step == 120
    extra = tmp_path / "acn/checkpoints/step-0000120/zero.pt"
    extra.symlink_to("/etc/passwd") if damage == "link" else os.mkfifo(extra)
    with pytest.raises(ValueError, match=r"zero\.pt"):
        find_checkpoint(tmp_path / "acn")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_model_folder_with_a_pipe_is_refused(lab, tmp_path, name):
    shutil.copytree(lab / "runs/acn/model", tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    os.mkfifo(tmp_path / "model" / name)
    with pytest.raises(EvalError, match=name):
        read_model_config(str(tmp_path / "model"))
    for words in (
        ("glue", "--model", "model", "--output", "out"),
        ("publish", "model", "--repo_id", "a/b", "--dry_run", "--output", "out"),
    ):
        done = run_acn(*words, folder=tmp_path, timeout=60)
        assert done.returncode == 2, done.stderr


def test_an_index_of_weights_names_files_beside_it(lab, tmp_path):
    shutil.copytree(lab / "runs/acn/model", tmp_path / "model")
    index = {"weight_map": {"acn.embeddings.word_embeddings.weight": "../other/model.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EvalError, match="names the weights"):
        read_model_config(str(tmp_path / "model"))
