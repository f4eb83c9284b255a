"""`acn export`: what is damaged, foreign or no number is refused, and any corpus's run finds its tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pretrain.checkpoints import MARKER
from tests.launch.tiny import TINY
from tests.pretrain.test_faults import flip
from tests.processes import run_acn
from tests.security.tampering import change


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A finished run with checkpoints of steps 2 and 4."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def states(run: Path, step: int) -> list[Path]:
    return sorted((run / "checkpoints" / f"step-{step:07d}").glob("*states.pt"))


PUBLISH = ("publish", "run", "--repo_id", "tester/acn", "--dry_run", "--output", "hub")


@pytest.mark.parametrize("words", [("export", "run", "out"), (*PUBLISH, "--steps", "4")], ids=["export", "publish"])
@pytest.mark.parametrize("number", [0, 1])
def test_one_flipped_bit_is_found(acn, run, tmp_path, words, number):
    file = states(run, 4)[number]
    flip(file)
    code, _, err = acn(*words)
    assert code == 2, err
    assert f"step-0000004 is damaged ({file.name})" in err
    assert not any((tmp_path / name).exists() for name in ("out", "hub"))
    assert acn("export", "run/checkpoints/step-0000002", "older")[0] == 0


@pytest.mark.parametrize("origin", ["init_from", "branch_from"])
def test_one_flipped_bit_is_found_by_a_run_that_starts_from_it(run, prepared, tmp_path, origin):
    flip(states(run, 4)[0])
    words = ("--data", str(prepared), "--output", str(tmp_path / "new"), f"--{origin}", str(run), "--steps", "8")
    done = run_acn("pretrain", *TINY, *words, "--tracking.mlflow", "null")
    assert done.returncode == 2, done.stderr
    assert "step-0000004 is damaged" in done.stderr


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite_are_not_exported(acn, run, tmp_path, value):
    def spoil(content):
        (fp32, *_) = content["optimizer_state_dict"]["single_partition_of_fp32_groups"]
        fp32.data[3] = value
        return content

    (name,) = (path.name for path in states(run, 4) if "optim" in path.name)
    change(run / "checkpoints" / "step-0000004", name, spoil)
    code, _, err = acn("export", "run", "out")
    assert code == 2, err
    assert "step-0000004 is of a training that diverged: weights are infinite or NaN (acn." in err
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_finite_is_not_published(acn, run, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(run / "model")
    with torch.no_grad():
        model.acn.embeddings.word_embeddings.weight[3, 3] = float("nan")
    model.save_pretrained(run / "model")
    code, _, err = acn(*PUBLISH)
    assert code == 2, err
    assert "infinite or NaN" in err
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("rate", ["1e308", "1e30"])
def test_a_rate_beyond_all_sense_leaves_no_model(prepared, tmp_path, rate):
    run = tmp_path / "run"
    words = ("--data", str(prepared), "--output", str(run), "--steps", "2", "--optim.lr", rate)
    done = run_acn("pretrain", *TINY, *words, "--nproc_per_node", "2", "--tracking.mlflow", "null")
    assert done.returncode in (1, 2), done.stdout  # such rates may be refused at the door
    assert "Traceback" not in done.stderr
    assert not (run / "model").exists()


@pytest.mark.parametrize(
    "output", ["run/checkpoints/step-0000009", "run/checkpoints/step-0000004/model", "run/checkpoints/model", "link/x"]
)
@pytest.mark.parametrize("verb", ["export", "publish", "compress"])
def test_nothing_is_written_into_checkpoints(acn, run, trained, tmp_path, verb, output):
    (tmp_path / "link").symlink_to(run / "checkpoints" / "step-0000004")
    words = {
        "export": ("export", "run", output),
        "publish": (*PUBLISH[:-1], output),
        "compress": ("compress", "--model", str(trained / "tuned" / "cats"), "--output", output, "--force"),
    }
    before = sorted(tmp_path.rglob("*"))
    code, _, err = acn(*words[verb])
    assert code == 2, err
    assert "which it would spoil" in err
    assert sorted(tmp_path.rglob("*")) == before


def as_of_url(run: Path, prepared: Path, own_tokenizer: bool) -> None:
    """Make the run one on URL data, and without the tokenizer that later versions keep in it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] = f"file://{prepared}"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    if not own_tokenizer:
        shutil.rmtree(run / "tokenizer")


@pytest.mark.parametrize("own_tokenizer", [False, True])
def test_a_run_on_url_data_is_exported_and_published(acn, run, trained, prepared, tmp_path, monkeypatch, own_tokenizer):
    monkeypatch.setenv("HOME", str(tmp_path))  # whose cache gets the manifest
    as_of_url(run, prepared, own_tokenizer)
    code, _, err = acn("export", "run", "out")
    assert code == 0, err
    text = "the cat sat on the red mat"
    theirs = AutoTokenizer.from_pretrained(trained / "run" / "model")(text)
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(text) == theirs
    assert (tmp_path / "out/model.safetensors").read_bytes() == (trained / "run/model/model.safetensors").read_bytes()
    code, _, err = acn(*PUBLISH, "--steps", "2")
    assert code == 0, err
    assert (tmp_path / "hub/revisions/step-0000002/tokenizer.json").is_file()
    assert "| corpus |" in (tmp_path / "hub/README.md").read_text().lower()


def test_a_run_is_exported_when_its_corpus_is_gone(acn, run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"data": "s3://bucket/gone"}))
    assert acn("export", "run", "out")[0] == 0
    shutil.rmtree(run / "tokenizer")
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"data": str(tmp_path / "gone")}))
    code, _, err = acn("export", "run", "other")
    assert code == 2
    assert "does not exist" in err


def test_another_tokenizer_than_that_of_the_training_is_refused(acn, run, tmp_path):
    file = run / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(content))
    code, _, err = acn("export", "run", "out")
    assert code == 2
    assert "is not the tokenizer that" in err
    assert not (tmp_path / "out").exists()


def test_a_marker_that_describes_no_model_is_an_error(acn, run):
    marker = run / "checkpoints" / "step-0000004" / MARKER
    content = json.loads(marker.read_text())
    content["progress"]["model"]["num_hidden_layers"] = "many"
    marker.write_text(json.dumps(content))
    code, _, err = acn("export", "run", "out")
    assert code == 2, err
    assert "describes no model" in err
