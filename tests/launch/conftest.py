"""The `acn` command as a user calls it, in a folder of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli


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
def lab(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A folder with a corpus, a run, a suite and a cut model: see `make_lab`. Tests look at it and change copies."""
    from tests.launch.publishing.lab import make_lab

    return make_lab(tmp_path_factory.mktemp("lab"), prepared)


@pytest.fixture
def publish(lab: Path, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run `acn publish ARGUMENTS` in this process inside `lab`: (exit code, stdout, stderr)."""
    monkeypatch.chdir(lab)
    return lambda *arguments: _run(capfd, ("publish", *map(str, arguments)))
