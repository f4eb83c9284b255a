"""NAME[@REVISION] becomes a folder, or a line that says what to do: against a Hub that runs as a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from data_pipeline import DataError, find_model, hub, load_tokenizer, vocabulary_of
from tests.launch.publishing.hub_server import READER, HubServer

MODEL = "lab/encoder"
BESIDE = {"config.json": "{}", "tokenizer.json": "{}", "vocab.txt": "a", "README.md": "#", "modeling_x.py": "1 / 0"}


@pytest.fixture
def online(hub_server, monkeypatch, tmp_path):
    """The Hub, empty, with nothing downloaded yet; logged in as a member of the lab."""
    hub_server.become_the_hub(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    return hub_server


def send(folder: Path, files: dict[str, str], name: str = MODEL, branch: str = "main") -> str:
    """Put files on the Hub; the commit."""
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    api = HfApi()
    api.create_repo(name, private=False, exist_ok=True)
    if branch != "main":
        api.create_branch(name, branch=branch, exist_ok=True)
    return api.upload_folder(repo_id=name, folder_path=folder, revision=branch).oid


def asked_of(online: HubServer) -> list[str]:
    """What was asked since the last look."""
    return [line for line in online.requests() if "/_log" not in line]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_name_is_the_newest_commit_and_a_revision_is_its_own(online, tmp_path):
    first = send(tmp_path / "a", BESIDE | {"model.safetensors": "1"})
    old = send(tmp_path / "b", BESIDE | {"model.safetensors": "2"}, branch="v1")
    newest = send(tmp_path / "c", BESIDE | {"model.safetensors": "3"})
    for asked, commit, content in ((MODEL, newest, "3"), (f"{MODEL}@v1", old, "2"), (f"{MODEL}@{first}", first, "1")):
        found = find_model(asked)
        assert (found.hub_name, found.revision, found.name) == (MODEL, commit, f"{MODEL}@{commit}")
        assert (found.path / "model.safetensors").read_text() == content


def test_weights_are_safetensors_where_there_are_any_and_code_stays_there(online, tmp_path):
    send(tmp_path / "a", BESIDE | {"model.safetensors": "1", "pytorch_model.bin": "2", "onnx/model.onnx": "3"})
    beside = set(BESIDE) - {"README.md", "modeling_x.py"}
    assert names(find_model(MODEL).path) == beside | {"model.safetensors"}
    parts = {"model-00001-of-00002.safetensors": "1", "model-00002-of-00002.safetensors": "2"}
    send(tmp_path / "b", BESIDE | parts | {"model.safetensors.index.json": "{}", "flax.msgpack": ""}, "lab/parts")
    assert names(find_model("lab/parts").path) == beside | parts.keys() | {"model.safetensors.index.json"}
    send(tmp_path / "c", BESIDE | {"pytorch_model.bin": "2", "tf_model.h5": "3"}, "lab/old")
    assert names(find_model("lab/old").path) == beside | {"pytorch_model.bin"}


def test_a_tokenizer_comes_without_weights_by_its_name_and_revision(online, tmp_path, tokenizer_folder, monkeypatch):
    files = {path.name: path.read_text() for path in tokenizer_folder.iterdir() if path.is_file()}
    commit = send(tmp_path / "a", files | {"config.json": '{"model_type": "bert"}', "model.safetensors": "1"})
    found = find_model(f"{MODEL}@{commit}", weights=False)
    assert "tokenizer.json" in names(found.path)
    assert "model.safetensors" not in names(found.path)
    theirs = vocabulary_of(load_tokenizer(str(tokenizer_folder)))
    assert vocabulary_of(load_tokenizer(f"{MODEL}@main")) == theirs
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_FOUND", {})
    assert vocabulary_of(load_tokenizer(f"{MODEL}@{commit}")) == theirs
    with pytest.raises(DataError, match="the Hub cannot be reached"):
        find_model(f"{MODEL}@{commit}")


def test_a_process_keeps_to_the_commit_that_it_found_first(online, tmp_path):
    first = send(tmp_path / "a", BESIDE)
    assert find_model(MODEL).revision == first
    send(tmp_path / "b", BESIDE | {"vocab.txt": "b"})
    online.requests()
    assert find_model(MODEL).revision == find_model(f"{MODEL}@{first}").revision == first
    assert asked_of(online) == []


def test_a_folder_of_that_name_comes_first(online, tmp_path):
    (tmp_path / MODEL).mkdir(parents=True)
    online.requests()
    found = find_model(MODEL)
    assert (found.path, found.hub_name, found.name) == (Path(MODEL), None, MODEL)
    assert asked_of(online) == []


@pytest.mark.parametrize("token", [READER, None])
def test_what_the_hub_withholds_is_a_line_with_the_fix(online, tmp_path, monkeypatch, token):
    send(tmp_path / "a", BESIDE | {"model.safetensors": "1"})
    api = HfApi()
    api.create_repo("lab/private", private=True)
    api.create_repo("lab/gated", private=False)
    api.upload_folder(repo_id="lab/gated", folder_path=tmp_path / "a")
    online.ask("_gate", ["lab/gated"])
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    for asked, message in {
        "lab/gated": f"init_from=lab/gated is gated on the Hub: accept its conditions at {online.url}/lab/gated and "
        "log in with `hf auth login`",
        "lab/private": "init_from=lab/private is neither a folder here nor a model on the Hub that you may see: check "
        "the spelling; for a private one log in with `hf auth login`",
        "lab/typo": "init_from=lab/typo is neither a folder here nor a model on the Hub that you may see: check the "
        "spelling; for a private one log in with `hf auth login`",
        f"{MODEL}@v9": f"init_from={MODEL}@v9: the Hub has no revision 'v9' of it: choose one at "
        f"{online.url}/{MODEL}/tree/main",
    }.items():
        with pytest.raises(DataError) as caught:
            find_model(asked, "init_from")
        assert str(caught.value) == message


def test_a_token_that_is_refused_is_said_and_not_shown(online, tmp_path, monkeypatch):
    send(tmp_path / "a", BESIDE)
    monkeypatch.setenv("HF_TOKEN", "hf_wrongSecret0123456789")
    with pytest.raises(DataError, match=r"log in again with `hf auth login`|for a private one log in") as caught:
        find_model(MODEL)
    assert "wrongSecret" not in str(caught.value)


def test_what_was_downloaded_is_found_without_the_hub_and_nothing_else_is(online, tmp_path, monkeypatch):
    commit = send(tmp_path / "a", BESIDE | {"model.safetensors": "1"})
    there = find_model(MODEL)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for asked in (MODEL, f"{MODEL}@main", f"{MODEL}@{commit}"):
        monkeypatch.setattr(hub, "_FOUND", {})
        assert find_model(asked) == there
    with pytest.raises(DataError, match=r"lab/other is no folder here, and the Hub cannot be reached .*: connect"):
        find_model("lab/other")


def test_offline_is_said_with_the_variable(online, tmp_path):
    """The variable is read when the client is imported: a process of its own."""
    code = (
        "from data_pipeline import find_model\ntry:\n    find_model('lab/other')\nexcept Exception as e:\n    print(e)"
    )
    environment = online.environment(tmp_path / "home") | {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == (
        "model=lab/other is no folder here and was not downloaded before, and HF_HUB_OFFLINE is set: set "
        "HF_HUB_OFFLINE=0, or give a folder"
    ), done.stderr


@pytest.mark.parametrize("name", ["./lab/encoder", "/lab/encoder", "runs/acn/model", "a b", "lab/encoder@", "~/x"])
def test_what_can_only_be_a_path_is_not_asked_for(online, name):
    online.requests()
    with pytest.raises(DataError, match="is not there: give a folder, or NAME or NAME@REVISION of the Hub"):
        find_model(name)
    assert asked_of(online) == []


@pytest.mark.parametrize("name", ["lab/--x", "lab/a..b", "lab/x.git"])
def test_a_name_that_the_hub_would_not_take_is_said(online, name):
    with pytest.raises(DataError, match="is neither a folder"):
        find_model(name)
