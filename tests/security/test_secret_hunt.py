"""Secrets are put wherever a user could put one, every verb runs, and then they are looked for everywhere."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from launch.cli import VERBS
from launch.cluster.engines.config import ENGINES
from tests.conftest import sentences
from tests.launch.tiny import TINY, write_task
from tests.processes import reserved_port, run_acn
from tests.security.guarded_server import serving

USER, PASSWORD, SIGNATURE = "reader", "pw-of-data-x7", "sig9f8E7d6C5b4A3928"
MLFLOW_PASSWORD, LINK_TOKEN = "pw-of-mlflow-x8", "tok-of-link-x9"
HUB_TOKEN = "hf_" + "qW7" * 12
IN_ENVIRONMENT = {
    "HF_TOKEN": HUB_TOKEN, "AWS_SECRET_ACCESS_KEY": "aws-secret-x1", "MLFLOW_TRACKING_PASSWORD": "pw-of-env-x2",
    "MLFLOW_TRACKING_TOKEN": "tok-of-env-x3", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
SECRETS = (PASSWORD, SIGNATURE, MLFLOW_PASSWORD, LINK_TOKEN, *list(IN_ENVIRONMENT.values())[:4])
LOCAL = ("--tracking.mlflow", "sqlite:///mlruns.db", "--tracking.close_seconds", "120")


class Hunt:
    """A folder in which verbs run, and all that they said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, str] = {}
        self.environment = {**os.environ, **IN_ENVIRONMENT, "HOME": str(folder / "home")}

    def run(self, *words: str, code: int = 0, **variables: str) -> CompletedProcess[str]:
        done = run_acn(*words, folder=self.folder, environment=self.environment | variables)
        self.said[f"{len(self.said)}: {' '.join(words)[:60]}"] = done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Every output, every file's content and name, and every cell of the MLflow store."""
        for command, text in self.said.items():
            yield command, text.encode()
        for path in self.folder.rglob("*"):
            name = str(path.relative_to(self.folder))
            yield name, name.encode()
            if path.is_file() and not name.startswith("home/.netrc"):
                yield name, path.read_bytes()
            if path.suffix == ".db":
                with sqlite3.connect(path) as store:
                    for table in [row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type='table'")]:
                        yield f"{name}: {table}", repr(store.execute(f'SELECT * FROM "{table}"').fetchall()).encode()

    def assert_nothing_found(self) -> None:
        found = [
            (place, secret) for place, content in self.places() for secret in SECRETS if secret.encode() in content
        ]
        assert found == []


@pytest.fixture
def hunt(tmp_path) -> Hunt:
    (tmp_path / "work" / "home").mkdir(parents=True)
    return Hunt(tmp_path / "work")


@pytest.fixture
def server(tmp_path, prepared):
    """A server of text and of a prepared corpus, which wants to know who asks."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "train.txt").write_text(sentences(300, seed=5))
    (tmp_path / "served" / "validation.txt").write_text(sentences(60, seed=6))
    shutil.copytree(prepared, tmp_path / "served" / "tokens")
    with serving(tmp_path / "served", USER, PASSWORD, SIGNATURE) as server:
        yield server


def test_a_corpus_is_read_with_credentials_that_nothing_keeps(hunt, server):
    by_password = f"http://{USER}:{PASSWORD}@{server.place}"
    words = ("--vocab_size", "120", "--seq_length", "16", "--workers", "2")
    text = ("--corpus.train", f"{by_password}/train.txt",
            "--corpus.validation", f"http://{server.place}/validation.txt?X-Amz-Signature={SIGNATURE}")  # fmt: skip
    said = hunt.run("prepare", *text, *words, "--output", "tokens").stderr
    assert f"note: this command uses the credentials of http://{server.place}/train.txt (corpus.train)" in said
    renewed = (*text[:3], text[3].replace("X-Amz-Signature=", "expires=99&X-Amz-Signature="))
    assert "nothing to do" in hunt.run("prepare", *renewed, *words, "--output", "tokens").stdout
    # what the folder says is enough for whoever has a credentials file
    clean = ("--config", "tokens/config.yaml", "--output", "again", "--workers", "1")
    hunt.run("prepare", *clean, "--corpus.validation", "null", code=2)
    (hunt.folder / "home" / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    hunt.run("prepare", *clean)
    hunt.run("data", "verify", f"{by_password}/tokens")
    hunt.run("data", "stats", f"http://{server.place}/tokens?t={SIGNATURE}", "--remote.cache", "cache")
    hunt.assert_nothing_found()


def test_mistakes_and_failures_name_no_secret(hunt, server):
    with reserved_port() as port:
        wrong = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}/x?token={SIGNATURE}"
        for words in (
            ("pretrain", "--data", wrong, "--output", "run", "--stream.remote.retries", "0"),
            ("pretrain", "--data", wrong, "--output", "run", "--steps", wrong),
            ("pretrain", "--data", wrong, "--output", wrong, "--stream.remote.retries", "0"),
            ("pretrain", "--data", "tokens", "--output", "run", f"--stpes={wrong}"),
            ("pretrain", "--data", "tokens", "--output", "run", "--tracking.mlflow", wrong.replace("http:", "xttp:")),
            ("pretrain", "--data", "tokens", "--output", "run", "--tracking.run_name", HUB_TOKEN),
            ("prepare", "--corpus.train", wrong.replace("/x", "/x.txt"), "--output", "out"),
            ("prepare", "--corpus.train", wrong, "--output", "out"),
            ("prepare", "--corpus.train", wrong, "--tokenizer", wrong, "--output", wrong),
            ("data", "show", wrong, "--remote.retries", "0"),
            ("data", "verify", wrong),
            ("glue", "--model", wrong, "--output", "out"),
            ("glue", "--model", "m", "--output", "out", "--dataset.path", wrong, "--tasks", "x"),
            ("export", wrong, "out"),
            ("publish", wrong, "--repo_id", "me/x", "--dry_run", "--output", "hub"),
            ("report", wrong, "--output", "out"),
            ("track", "sync", wrong),
            ("launch", "slurm", "--data", wrong, "--setup", f"pip install git+{wrong}", "--dry_run"),
            ("launch", "slurm", "--setup", f"export HF_TOKEN={HUB_TOKEN}; export X_PASSWORD={PASSWORD}", "--dry_run"),
            ("launch", "slurm", "--options", f"--unknown {wrong}", "--dry_run"),
        ):  # fmt: skip
            done = run_acn(*words, folder=hunt.folder, environment=hunt.environment)
            hunt.said[" ".join(words)[:30]] = done.stdout + done.stderr
            assert done.returncode in (1, 2), (words, done.stdout + done.stderr)
            assert "Traceback" not in done.stderr, done.stderr
        hunt.run("pretrain", "--data", wrong, "--output", "run", "--print_config", "--nproc_per_node", "1")
        hunt.run("pretrain", "--help", "all", ACN_PRETRAIN__DATA=wrong)
    hunt.assert_nothing_found()


def test_scripts_of_every_engine_have_no_secret(hunt):
    data = f"https://{USER}:{PASSWORD}@host.example/tokens?sig={SIGNATURE}"
    options = f"--steps 10 --tracking.mlflow http://bob:{MLFLOW_PASSWORD}@mlflow.example"
    nodes = ("--nodes", "1", "--gpus_per_node", "0", "--output", "/shared/run", "--dry_run")
    for engine in ENGINES:
        words = ("launch", engine, "--config", "acn-tiny", "--data", data, "--options", options, *nodes)
        done = hunt.run(*words)
        assert "https://host.example/tokens" in done.stdout
        assert "http://mlflow.example" in done.stdout
        assert "writes them nowhere" in done.stderr
        hunt.run(*words, "--script", f"{engine}.script")
    hunt.run("plan", "--config", "acn-tiny", "--options", options, "--json", "plan.json")
    hunt.assert_nothing_found()


@pytest.mark.slow  # every verb from text to a published model: a minute and more
def test_every_verb_from_the_text_to_the_published_model(hunt, server, monkeypatch):
    write_task(hunt.folder / "glue" / "cats")
    data = f"http://{USER}:{PASSWORD}@{server.place}/tokens?X-Amz-Signature={SIGNATURE}"
    remote = ("--stream.remote.cache", "cache")
    with reserved_port() as port:
        away = ("--tracking.mlflow", f"http://bob:{MLFLOW_PASSWORD}@127.0.0.1:{port}?token={MLFLOW_PASSWORD}",
                "--tracking.close_seconds", "5")  # fmt: skip
        hunt.run("preflight", "--config", "acn-tiny", "--data", data, *remote, *away, "--output", "run", *TINY,
                 "--preflight.scratch_gb", "0.01", "--json", "preflight.json", "--steps", "4", code=0)  # fmt: skip
        run = ("pretrain", "--output", "run", *TINY, *remote, "--checkpoint.every", "2")
        hunt.run(*run, "--data", data, *away, "--nproc_per_node", "2", "--stop_after_hours", "1e-9", code=75)
    # a later command has the credentials from the variable of its option, whatever the configuration says
    hunt.run("pretrain", "--config", "run/config.yaml", "--stop_after_hours", "null", *LOCAL, ACN_PRETRAIN__DATA=data)
    hunt.run("glue", "--model", "run/model", "--glue_dir", "glue", "--tasks", "cats", "--output", "tuned", *LOCAL)
    hunt.run("study", "lesion", "--model", "tuned/cats", "--glue_dir", "glue", "--output", "studies", *LOCAL)
    hunt.run("compress", "--model", "tuned/cats", "--depth", "1", "--output", "small", "--force", *LOCAL)
    (hunt.folder / "texts.txt").write_text("the cat sat on the mat\n")
    hunt.run("predict", "small", "texts.txt", "--output", "labels.csv")
    hunt.run("report", "tuned", "studies", "--output", "report")
    hunt.run("recipes", "copy", "acn-mini", "mini.yaml")
    hunt.run("env", "--json", MLFLOW_TRACKING_URI=f"http://bob:{MLFLOW_PASSWORD}@mlflow.example")
    hunt.run("track", "sync", "run", "small", "--tracking.mlflow", "sqlite:///other.db")
    licence = (
        "--license",
        "other",
        "--license_name",
        "mine",
        "--license_link",
        f"https://h.example/x?token={LINK_TOKEN}",
    )
    for model in ("run", "tuned/cats", "small"):
        hunt.run("publish", model, "--repo_id", "me/acn", "--dry_run", "--output", f"hub-{Path(model).name}", *licence)
    text = (hunt.folder / "run" / "config.yaml").read_text()
    assert f"data: http://{server.place}/tokens\n" in text
    ran = {command.split()[1] for command in hunt.said}
    assert ran >= set(VERBS) - {"prepare", "data", "launch", "plan", "export", "demo"}, "those have tests above"
    hunt.assert_nothing_found()
