"""What sites want in a job's script: accounts, modules, containers, logs, a tracking server, words for the launcher."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from launch.cluster.engines.config import ENGINES, LaunchConfig
from launch.cluster.engines.environment import to_try

ROOT = Path(__file__).parents[4]
BASE = ["--config", str(ROOT / "launch/recipes/acn-base.yaml"), "--dry_run"]


def test_slurm_s_header_has_what_sites_want(acn):
    code, out, err = acn(
        "launch", "slurm", *BASE, "--slurm.qos", "high", "--slurm.constraint", "a100&ib", "--slurm.gres", "gpu:a100:8",
        "--slurm.mem", "480G", "--slurm.account", "lm", "--slurm.partition", "a100",
        "--slurm.sbatch", "--reservation=maintenance --mail-type END --comment='two words'",
    )  # fmt: skip
    assert code == 0, err
    lines = {line.removeprefix("#SBATCH ") for line in out.splitlines() if line.startswith("#SBATCH ")}
    assert {"--qos=high", "--constraint=a100&ib", "--gres=gpu:a100:8", "--mem=480G", "--account=lm", "--partition=a100",
            "--reservation=maintenance", "--mail-type END", "'--comment=two words'"} <= lines  # fmt: skip
    assert not any(line.startswith("--gpus-per-node") for line in lines), "gres says which GPUs"
    assert "GPUS_PER_NODE=8" in out


@pytest.mark.parametrize("job", ["pretrain", "prepare", "glue"])
def test_modules_containers_and_words_for_srun_reach_every_job_of_slurm(acn, job):
    corpus = ["--config", str(ROOT / "launch/recipes/acn-base-corpus.yaml"), "--dry_run"]
    config = {"pretrain": BASE, "prepare": corpus, "glue": ["--dry_run"]}[job]
    code, out, err = acn(
        "launch", "slurm", *config, "--slurm.job", job, "--slurm.modules", "cuda/12.8 nccl", "--slurm.qos", "high",
        "--slurm.container", "site#acn-lm:1", "--slurm.mounts", "/shared:/shared,/data:/data", "--slurm.srun",
        "--mpi=none --cpu-bind=none",
    )  # fmt: skip
    assert code == 0, err
    assert "setup() { module load cuda/12.8 nccl && :; }" in out, "the container has the program"
    assert "#SBATCH --qos=high" in out
    srun = "SRUN_OPTIONS=(--mpi=none --cpu-bind=none '--container-image=site#acn-lm:1' "
    assert f"{srun}--container-mounts=/shared:/shared,/data:/data)" in out
    assert re.search(r'srun .*"\$\{SRUN_OPTIONS\[@\]\}"', out)
    assert subprocess.run(["bash", "-n"], input=out, text=True, check=False).returncode == 0


MISTAKES = {
    "slurm.qos='a b' must be a name": ["--slurm.qos", "a b"],
    "slurm.mem='much' must be as sbatch takes it": ["--slurm.mem", "much"],
    "slurm.gres='gpu 8' must be as sbatch takes it: gpu:TYPE:COUNT": ["--slurm.gres", "gpu 8"],
    "slurm.modules='a; b' must be names": ["--slurm.modules", "a; b"],
    "slurm.container='$(x)' must be an image": ["--slurm.container", "$(x)"],
    "slurm.mounts=/a:/b is for a container": ["--slurm.mounts", "/a:/b"],
    "slurm.sbatch='--qos=low': give it as slurm.qos": ["--slurm.sbatch", "--qos=low --nice"],
    "slurm.sbatch='-N 3': give it as nodes": ["--slurm.sbatch", "--nice -N 3"],
    "slurm.sbatch='--array=1-3' is the script's": ["--slurm.sbatch", "--array=1-3 --nice"],
    "slurm.sbatch='nice' must begin with an option": ["--slurm.sbatch", "nice"],
    "slurm.srun=": ["--slurm.srun=--mpi='none"],
    "launcher_options=": ["--launcher_options", "--log-dir 'a"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_in_the_header_is_named(acn, message):
    code, out, err = acn("launch", "slurm", *BASE, *MISTAKES[message])
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("engine", ENGINES)
def test_words_for_the_launcher_logs_of_ranks_and_the_server_are_in_every_script(acn, engine):
    code, out, err = acn(
        "launch", engine, *BASE, "--launcher_options", "--master_addr_x 3 -y", "--rank_logs", "/shared/logs",
        "--mlflow", "http://mlflow:5000",
    )  # fmt: skip
    assert code == 0, err
    for text in (
        "--master_addr_x 3 -y",
        "/shared/logs",
        "http://mlflow:5000",
        "--tracking.mlflow",
        "PYTHONFAULTHANDLER",
    ):
        assert text in out
    for variable in to_try(8):
        assert re.search(rf"^ *# .*\b{variable.name}\b", out, re.MULTILINE) or variable.name == "NCCL_DEBUG"
    if engine != "kubernetes":
        return
    assert acn("launch", engine, *BASE, "--launcher_options", "--x 'a b'")[0] == 2, "no quotes inside the manifest"


RECORDER = """
import os, sys
with open(os.environ["NOTES"], "a") as notes:
    notes.write(repr(sys.argv[1:]) + chr(10))
"""


def test_the_words_reach_torchrun_and_acn(acn, tmp_path, monkeypatch):
    """The script is run with a torchrun that writes down how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "torchrun").write_text(f"#!/usr/bin/env python3\n{RECORDER}")
    (programs / "torchrun").chmod(0o755)
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    given = ["--launcher_options", "--rdzv-conf join_timeout=9", "--mlflow", "http://mlflow:5000"]
    given += ["--rank_logs", "logs here", "--setup", f"PATH={programs}:$PATH", "--preflight", "false"]
    code, _, err = acn("launch", "torchrun", *BASE[:2], "--data", "/d", "--output", "/o", *given)
    assert code == 0, err
    words = eval((tmp_path / "notes").read_text())
    launcher, own = words[: words.index("--no-python")], words[words.index("acn") :]
    assert launcher[-2:] == ["--rdzv-conf", "join_timeout=9"]
    assert launcher[launcher.index("--log-dir") + 1].startswith("logs here/")
    assert own[own.index("--tracking.mlflow") + 1] == "http://mlflow:5000"
    assert own[-2:] == ["--micro_batch_size", "128"]


@pytest.mark.parametrize("engine", ["kubernetes", "skypilot"])
def test_nothing_is_recorded_in_a_file_on_a_node_that_goes_away(acn, engine, monkeypatch):
    code, out, err = acn("launch", engine, *BASE)
    assert code == 0
    assert "MLFLOW is null: the recipe's sqlite:///mlruns.db would be on a node that goes away" in err
    assert variable(out, "MLFLOW") == "null"
    for own in ("http://mlflow:5000", "sqlite:////shared/mlruns.db"):
        code, out, err = acn("launch", engine, *BASE, "--options", f"--seed 3 --tracking.mlflow {own}")
        assert (code, variable(out, "MLFLOW")) == (0, ""), "the recipe's own"
        assert "MLFLOW is null" not in err
        assert variable(acn("launch", engine, *BASE, "--mlflow", own)[1], "MLFLOW") == own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow:5000")
    code, out, err = acn("launch", engine, *BASE)
    assert (code, variable(out, "MLFLOW")) == (0, "http://mlflow:5000"), "as here, where the nodes do not have it"
    assert "MLFLOW_TRACKING_URI of this shell" in err
    code, _, err = acn("launch", engine, *BASE, "--mlflow", "sqlite:///mlruns.db")
    assert code == 2
    assert "mlflow=sqlite:///mlruns.db is a file on a node that goes away: give a server" in err


def variable(text: str, name: str) -> str:
    """A variable of the containers of a manifest or a task."""
    document = list(yaml.safe_load_all(text))[-1]
    if "envs" in document:
        return document["envs"][name]
    return next(one["value"] for one in document["spec"]["trainer"]["env"] if one["name"] == name)


def test_the_image_is_made_of_what_pyproject_says():
    """In words: nothing here builds images."""
    lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    steps = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = dict(steps)["FROM"]
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", base)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]
    installs = [rest for step, rest in steps if "pip install" in rest]
    assert installs == ['pip install --no-cache-dir ".[s3]"'], "versions stand in pyproject.toml alone"
    assert "s3" in project["optional-dependencies"]
    assert not {"ENTRYPOINT"} & {step for step, _ in steps}, "the manifests and SkyPilot start a shell"
    assert dict(steps)["CMD"] == '["acn", "--help"]'
    assert "acn" in project["scripts"]
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
    packages = [name.removesuffix("*") for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
                ["setuptools"]["packages"]["find"]["include"]]  # fmt: skip
    assert {*packages, "pyproject.toml", project["readme"], *project["license-files"]} == set(sent)
    assert all((ROOT / name).exists() for name in sent)


def test_the_manifests_take_the_image_that_the_dockerfile_is_told_to_make():
    text = (ROOT / "Dockerfile").read_text()
    image = re.search(r"docker build --tag (\S+)", text)
    assert image is not None
    assert image[1] == LaunchConfig("kubernetes").kubernetes.image
    for name in ("kubernetes/job.yaml", "kubernetes/trainjob.yaml", "skypilot/pretrain.yaml"):
        assert image[1] in (ROOT / "launch" / "cluster" / name).read_text()


def test_what_slurm_s_container_and_skypilot_s_image_replace(acn):
    installing = acn("launch", "skypilot", *BASE)[1]
    assert "pip install" in installing
    assert "image_id" not in installing
    out = acn("launch", "skypilot", *BASE, "--skypilot.image", "me/acn:1")[1]
    assert yaml.safe_load(out)["resources"]["image_id"] == "docker:me/acn:1"
    assert "setup" not in yaml.safe_load(out)
    assert acn("launch", "skypilot", *BASE, "--skypilot.image", "a b")[0] == 2


def test_quotes_survive_in_the_shell_scripts(acn):
    out = acn("launch", "slurm", *BASE, "--slurm.srun", "--comment='a $(b) c'", "--launcher_options", "--x '$HOME'")[1]
    lines = dict(line.split("=", 1) for line in out.splitlines() if line.startswith(("SRUN_", "LAUNCHER_")))
    assert shlex.split(lines["SRUN_OPTIONS"].partition("  #")[0][1:-1]) == ["--comment=a $(b) c"]
    assert shlex.split(lines["LAUNCHER_OPTIONS"].partition("  #")[0][1:-1]) == ["--x", "$HOME"]
