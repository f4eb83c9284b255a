"""`acn publish` against a Hub that runs as a process: what arrives, loads, resumes, is refused, and stays secret."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.launch.publishing.hub_server import NARROW, READER, WRITER, WRONG, HubServer
from tests.launch.publishing.lab import CUT_DEPTH, TASK

REPO = "tester/acn-small"
MODEL = f"runs/glue/{TASK}"
CUT = f"depth-{CUT_DEPTH:02d}"


@pytest.fixture
def hub(hub_server, monkeypatch, tmp_path):
    """The Hub, empty, and this process logged in as tester."""
    hub_server.become_the_hub(monkeypatch, tmp_path)
    return hub_server


@pytest.fixture
def place(lab, tmp_path, monkeypatch, publish):
    """A copy of the lab to change; `publish` runs there."""
    shutil.copytree(lab / "runs", tmp_path / "lab" / "runs")
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


def lfs_puts(hub: HubServer) -> int:
    return sum(line.startswith("PUT /_lfs/") and line.endswith(" 200") for line in hub.requests())


def test_a_publication_arrives_private_with_its_cut_model_as_a_revision(hub, publish):
    code, out, err = publish(MODEL, "--repo_id", REPO)
    assert code == 0, err
    assert out.splitlines()[-1].startswith(f"published: {hub.url}/{REPO} (private")
    state = hub.state()
    assert list(state) == [f"model/{REPO}"]
    repo = state[f"model/{REPO}"]
    assert repo["private"]
    assert set(repo["refs"]) == {"main", CUT}
    assert {"README.md", "model.safetensors", "modeling_acn.py", "tokenizer.json"} <= set(repo["refs"]["main"])
    assert not any(name.startswith((".acn", "revisions")) for name in repo["refs"]["main"])
    assert repo["commits"] == ["main: initial commit", "main: Publish with acn-lm", f"{CUT}: Publish with acn-lm"]


def test_the_hub_accepts_the_metadata_of_every_card(hub, publish, tmp_path):
    for model in ("runs/acn", MODEL, "runs/small", "runs/tokens"):
        output = tmp_path / Path(model).name
        licence = ["--license", "other", "--license_name", "x", "--license_link", "https://x"]
        assert publish(model, "--repo_id", REPO, "--dry_run", "--output", output, *licence)[0] == 0
        ModelCard.load(output / "README.md").validate("dataset" if model == "runs/tokens" else "model")
    # and it would have refused one without a task
    broken = (tmp_path / "acn" / "README.md").read_text().replace("type: fill-mask", "kind: fill-mask")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        hub.ask("api/validate-yaml", {"repoType": "model", "content": broken})


def test_publishing_again_changes_nothing_and_sends_nothing(hub, publish):
    assert publish(MODEL, "--repo_id", REPO)[0] == 0
    before = hub.state()
    assert lfs_puts(hub) > 0
    code, out, _ = publish(MODEL, "--repo_id", REPO)
    assert code == 0
    assert out.count("as it was") == 2
    assert hub.state() == before
    assert lfs_puts(hub) == 0


def test_publishing_again_updates_what_changed_and_leaves_what_is_not_ours(hub, publish, place):
    assert publish(MODEL, "--repo_id", REPO)[0] == 0
    api = HfApi()
    for name in ("notes.txt", "old.safetensors"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id=REPO)
    weights = load_file(MODEL + "/model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, MODEL + "/model.safetensors", metadata={"format": "pt"})
    hub.requests()
    assert publish(MODEL, "--repo_id", REPO)[0] == 0
    assert lfs_puts(hub) == 2, "the weights of the two revisions, and nothing else"
    repo = hub.state()[f"model/{REPO}"]
    assert "notes.txt" in repo["refs"]["main"]
    assert "old.safetensors" not in repo["refs"]["main"], "the next loader would take it for a part of the model"
    assert list(hub.state()) == [f"model/{REPO}"]


def test_public_is_asked_for_and_comes_last(hub, publish):
    assert publish(MODEL, "--repo_id", REPO, "--depths", "none")[0] == 0
    hub.requests()
    code, _, _ = publish(MODEL, "--repo_id", REPO, "--public")
    assert code == 0
    assert not hub.state()[f"model/{REPO}"]["private"]
    writes = [line for line in hub.requests() if re.search("/commit/|/settings", line)]
    assert "/settings" in writes[-1]
    code, _, err = publish(MODEL, "--repo_id", REPO)
    assert code == 2
    assert f"{REPO} is public: add --public" in err


def test_siblings_are_repositories_of_their_own(hub, publish):
    code, out, err = publish(MODEL, "--repo_id", "lab/acn", "--cuts", "siblings")
    assert code == 0, err
    state = hub.state()
    assert set(state) == {"model/lab/acn", f"model/lab/acn-{CUT}"}
    assert set(state[f"model/lab/acn-{CUT}"]["refs"]) == {"main"}
    assert out.splitlines()[-1].startswith(f"published: {hub.url}/lab/acn ")


def test_an_upload_that_failed_midway_shows_nothing_and_goes_on(hub, publish):
    hub.ask("_fault", {"puts": 1, "status": 507})
    code, _, err = publish(MODEL, "--repo_id", REPO, "--depths", "none")
    assert code == 1
    assert "answered 507" in err
    assert "run the same command again" in err
    assert hub.state()[f"model/{REPO}"]["refs"] == {"main": [".gitattributes"]}
    sent = lfs_puts(hub)
    assert sent >= 1
    hub.ask("_fault", {})
    code, _, err = publish(MODEL, "--repo_id", REPO, "--depths", "none")
    assert code == 0, err
    rest = lfs_puts(hub)
    main = [entry for entry in HfApi().list_repo_tree(REPO, recursive=True) if getattr(entry, "lfs", None)]
    assert sent + rest == len({entry.lfs.sha256 for entry in main}), "what had arrived was not sent again"


@pytest.mark.parametrize(
    ("repo_id", "token", "code", "parts"),
    [
        (REPO, WRONG, 2, ["does not accept the token of HF_TOKEN", "hf auth login"]),
        (REPO, READER, 2, ["may not write", "for reading", "hf auth login"]),
        (REPO, NARROW, 2, ["may not write", "don't have the rights", "hf auth login"]),
        ("someone/model", WRITER, 2, ["is tester's, who is not someone", "tester, lab"]),
    ],
)
def test_a_refusal_says_why_and_how_to_mend_it(hub, publish, monkeypatch, repo_id, token, code, parts):
    monkeypatch.setenv("HF_TOKEN", token)
    got, out, err = publish(MODEL, "--repo_id", repo_id)
    assert got == code
    for part in parts:
        assert part in err
    assert "Traceback" not in out + err
    assert token not in out + err
    assert hub.state() == {}


def test_a_stored_login_is_used_and_named(hub, publish, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "stored-token").write_text(WRONG)
    code, _, err = publish(MODEL, "--repo_id", REPO)
    assert code == 2
    assert "does not accept the token of the stored login" in err
    (tmp_path / "stored-token").write_text(WRITER + "\n")
    assert publish(MODEL, "--repo_id", REPO)[0] == 0


def test_a_hub_that_cannot_be_reached_is_named(hub, publish, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        code, _, err = publish(MODEL, "--repo_id", REPO)
    assert code == 1
    assert f"{constants.ENDPOINT} cannot be reached" in err
    assert "HF_ENDPOINT" in err
    assert "Traceback" not in err


def test_a_token_with_a_stray_character_is_not_shown(hub, publish, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER + "\u2028x")
    code, out, err = publish(MODEL, "--repo_id", REPO)
    assert code == 2
    assert "characters that no token has" in err
    assert WRITER not in out + err


# What a reader runs on a machine without this project, whose packages are blocked here.
READER_SCRIPT = """
import sys

class NoSuchProject:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling", "data_pipeline", "pretrain", "eval", "launch", "tests"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoSuchProject())
for room in ("modeling", "launch"):
    try:
        __import__(room)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{room} is importable: this proves nothing")

import torch
from transformers import AutoModelForSequenceClassification, pipeline

torch.set_num_threads(1)
repo, cut, depth, case, card = sys.argv[1:]
inputs, full, at_depth = torch.load(case)
load = dict(trust_remote_code=True)
whole = AutoModelForSequenceClassification.from_pretrained(repo, **load).eval()
assert type(whole).__module__.startswith("transformers_modules."), type(whole).__module__
small = AutoModelForSequenceClassification.from_pretrained(repo, revision=cut, **load).eval()
loaded = AutoModelForSequenceClassification.from_pretrained(repo, num_hidden_layers=int(depth), **load).eval()
with torch.no_grad():
    assert torch.equal(whole(**inputs).logits, full)
    for logits in (whole(**inputs, depth=int(depth)).logits, small(**inputs).logits, loaded(**inputs).logits):
        assert torch.equal(logits, at_depth)
assert small.config.num_hidden_layers == int(depth)
text = "the cat sat on the mat"
classify = pipeline("text-classification", model=repo, revision=cut, **load)
at = pipeline("text-classification", model=repo, model_kwargs={"num_hidden_layers": int(depth)}, **load)
assert classify(text) == at(text)
exec(compile(open(card).read(), "card", "exec"))
print("the same")
"""


def acn_publish(hub: HubServer, home: Path, *arguments: str, token: str = WRITER) -> subprocess.Popen:
    """`acn publish` as a process of its own, which finds the Hub by the environment."""
    command = [sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())", "publish", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = hub.environment(home, token) | {"PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(command, env=environment, **pipes)


def test_a_machine_without_the_project_loads_the_whole_and_the_cut_model(hub, publish, lab, tmp_path):
    assert publish(MODEL, "--repo_id", REPO)[0] == 0
    model = AutoModelForSequenceClassification.from_pretrained(lab / MODEL).eval()
    inputs = AutoTokenizer.from_pretrained(lab / MODEL)(
        ["the cat sat", "a dog ran on"], padding=True, return_tensors="pt"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        expected = model(**inputs).logits, model(**inputs, depth=CUT_DEPTH).logits
    torch.set_num_threads(threads)
    torch.save((dict(inputs), *expected), tmp_path / "case.pt")
    publish(MODEL, "--repo_id", REPO, "--dry_run", "--output", tmp_path / "card")
    code = re.search(r"```python\n(.*?)```", (tmp_path / "card" / "README.md").read_text(), re.S)[1]
    (tmp_path / "card.py").write_text(code)
    (tmp_path / "elsewhere.py").write_text(READER_SCRIPT)
    environment = {k: v for k, v in hub.environment(tmp_path / "hf").items() if k != "PYTHONPATH"}
    arguments = [REPO, CUT, str(CUT_DEPTH), str(tmp_path / "case.pt"), str(tmp_path / "card.py")]
    done = subprocess.run(
        [sys.executable, "-P", str(tmp_path / "elsewhere.py"), *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the same" in done.stdout


@pytest.mark.slow
def test_a_killed_upload_goes_on(hub, place, tmp_path):
    hub.ask("_fault", {"puts": 1, "hold": True})
    first = acn_publish(hub, tmp_path / "hf", MODEL, "--repo_id", REPO)
    assert hub.ask("_held", seconds=300)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    seen = hub.requests()
    hub.ask("_fault", {})
    assert hub.state()[f"model/{REPO}"]["refs"] == {"main": [".gitattributes"]}
    arrived = {line.split()[1] for line in seen if line.startswith("PUT /_lfs/") and line.endswith(" 200")}
    assert len(arrived) == 1
    second = acn_publish(hub, tmp_path / "hf", MODEL, "--repo_id", REPO)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    again = {line.split()[1] for line in hub.requests() if line.startswith("PUT /_lfs/") and line.endswith(" 200")}
    assert again
    assert not arrived & again
    assert "published" in out


@pytest.mark.slow
def test_the_token_is_in_no_output_and_no_file(hub, place, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_VERBOSITY", "debug")
    monkeypatch.setenv("HF_DEBUG", "1")
    cases = ((WRITER, REPO), (WRONG, REPO), (NARROW, "tester/other"), (WRITER, "someone/model"))
    started = [
        (token, acn_publish(hub, tmp_path / "hf", MODEL, "--repo_id", repo, "--output", f"out-{n}", token=token))
        for n, (token, repo) in enumerate(cases)
    ]
    outputs = [(token, "".join(process.communicate(timeout=300))) for token, process in started]
    assert "published" in outputs[0][1]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + hub.log.read_bytes()
    for token, output in outputs:
        assert output
        assert token not in output
        assert token.encode() not in written


@pytest.mark.slow
def test_a_published_corpus_is_read_and_verified_over_the_network(hub, publish, lab, tmp_path):
    code, out, err = publish("runs/tokens", "--repo_id", "tester/tokens")
    assert code == 0, err
    assert out.splitlines()[-1].startswith(f"published: {hub.url}/datasets/tester/tokens")
    script = """
import sys
from data_pipeline import MaskingConfig, RemoteConfig, StreamConfig, TokenStream, verify_corpus
from datasets import load_dataset
url = "hf://datasets/tester/tokens"
assert verify_corpus(url, 1) == []
there = TokenStream(url, StreamConfig(remote=RemoteConfig(cache=sys.argv[2])), MaskingConfig())
here = TokenStream(sys.argv[1], StreamConfig(), MaskingConfig())
for ours, theirs, _ in zip(here.micro_batches(0, 4), there.micro_batches(0, 4), range(5)):
    assert (ours.input_ids == theirs.input_ids).all()
assert sum(1 for _ in load_dataset("tester/tokens", split="train", streaming=True)) == here.blocks
print("the same")
"""
    environment = hub.environment(tmp_path / "hf") | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(lab / "runs/tokens"), str(tmp_path / "cache")],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "the same" in done.stdout, done.stderr[-3000:]
