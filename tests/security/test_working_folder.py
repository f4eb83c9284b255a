"""What lies in the working folder is data: no process that is started from there imports it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cluster.engines.config import ENGINES, LaunchConfig
from launch.cluster.engines.deepspeed import DeepSpeedConfig
from launch.cluster.engines.render import render_job
from tests.conftest import sentences

ROOT = Path(__file__).parents[2]
NAMES = (
    "json", "threading", "random", "deepspeed", "torch", "multiprocessing", "signal", "tokenizers", "numpy", "yaml",
    "launch", "data_pipeline", "mlflow", "sitecustomize", "usercustomize",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A folder with a module and a package of every name, which say so when they are imported."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in NAMES:
        decoy = f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n"
        (folder / f"{name}.py").write_text(decoy)
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(decoy)
        (folder / name / "__main__.py").write_text(decoy)
    (folder / "text.txt").write_text("\n\n".join(sentences(1, seed) for seed in range(300)))
    return folder


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return kept | {"PYTHONPATH": str(ROOT)}


def test_workers_and_what_they_stand_on(hostile, tmp_path):
    words = ("prepare", "--corpus.train", "text.txt", "--corpus.validation_fraction", "0.2", "--vocab_size", "100",
             "--seq_length", "8", "--workers", "2", "--unit_mb", "0.001", "--output", "tokens")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-m", "launch.cli", *words],
        cwd=hostile,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


def test_ranks(hostile, tmp_path):
    """Forked from a server, which is started in the working folder."""
    words = ("preflight", "--nproc_per_node", "2", "--output", "run", "--tracking.mlflow", "null",
             "--preflight.scratch_gb", "0.001")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-m", "launch.cli", *words],
        cwd=hostile,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "2 rank(s)" in done.stdout, done.stderr
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_script_says_so_to_python(engine):
    text = render_job(LaunchConfig(engine, dry_run=True))
    assert "PYTHONSAFEPATH" in text
    if engine == "deepspeed":
        passed_on = re.search(r"for name in (.*?); do\n *(.*)\n", text, re.S)
        assert "PYTHONSAFEPATH" in passed_on[1].split()
        assert 'echo "$name=${!name}" >>"$DS_ENV_FILE"' in passed_on[2]


@pytest.mark.slow  # it imports DeepSpeed three times, in one process after the other
def test_deepspeeds_launcher(hostile, tmp_path):
    """It starts `python -m deepspeed.launcher.launch` in the working folder."""
    (hostile / "hostfile").write_text("localhost slots=1\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in (("acn", f'echo "$@" > {tmp_path}/trained'), ("ssh", "true")):
        (programs / name).write_text(f"#!/bin/bash\n{does}\n")
        (programs / name).chmod(0o755)
    setup = f"export PATH={programs}:{Path(sys.executable).parent}:$PATH"
    config = LaunchConfig(
        "deepspeed", data="tokens", output="run", setup=setup, preflight=False, gpus_per_node=0, nodes=1, dry_run=True,
        deepspeed=DeepSpeedConfig(str(hostile / "hostfile")),
    )  # fmt: skip
    script = tmp_path / "pretrain.sh"
    script.write_text(render_job(config))
    done = subprocess.run(
        ["bash", str(script)],
        cwd=hostile,
        env=environment() | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "trained").is_file(), done.stdout + done.stderr
    assert "pretrain --config" in (tmp_path / "trained").read_text()
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()
