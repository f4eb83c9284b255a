"""The `acn` command as a user calls it, in a folder of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli
from launch.tracking import TrackingConfig, open_tracker
from tests.launch.tiny import TINY, write_task
from tests.processes import run_acn


@pytest.fixture
def acn(tmp_path, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run `acn ARGUMENTS` in this process inside `tmp_path`: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield lambda *arguments: _run(capfd, arguments)
    os.environ.clear()
    os.environ.update(before)  # a single rank joins a world of its own through the environment


def _run(capfd, arguments) -> tuple[int, str, str]:
    try:
        code = cli.main(list(arguments))
    except SystemExit as exit:  # argparse
        code = exit.code
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A folder where `acn` has pretrained `run`, with checkpoints of steps 2 and 4, and fine-tuned it to `tuned/cats`.

    Tests look at it and change copies.
    """
    folder = tmp_path_factory.mktemp("trained")
    write_task(folder / "glue" / "cats")
    local = ("--tracking.mlflow", "null")
    for command in (
        ("pretrain", "--data", str(prepared), "--output", "run", *TINY, "--optim.lr", "0.01",
         "--checkpoint.every", "2", *local),
        ("glue", "--model", "run/model", "--glue_dir", "glue", "--output", "tuned", "--tasks", "cats", *local),
    ):  # fmt: skip
        done = run_acn(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database as the first run leaves it, to be copied: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    config = TrackingConfig(mlflow=f"sqlite:///{folder}/mlruns.db", experiment="first", close_seconds=600)
    with open_tracker(config, folder / "run", "first", {}, {}) as tracker:
        tracker.log_metrics({"loss": 1.0}, 1)
    return folder / "mlruns.db"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A folder with a corpus, a run, a suite and a cut model: see `make_lab`. Tests look at it and change copies."""
    from tests.launch.publishing.lab import make_lab

    return make_lab(tmp_path_factory.mktemp("lab"), prepared)


@pytest.fixture
def publish(lab: Path, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run `acn publish ARGUMENTS` in this process inside `lab`: (exit code, stdout, stderr)."""
    monkeypatch.chdir(lab)
    return lambda *arguments: _run(capfd, ("publish", *map(str, arguments)))
