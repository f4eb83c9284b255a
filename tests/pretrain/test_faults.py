"""Damaged checkpoints, full disks, dead ranks."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from pretrain.checkpoints import MARKER, CheckpointConfig, newest_complete
from pretrain.errors import lost_rank
from pretrain.observe.figures import read_metrics
from tests.pretrain import dying_rank
from tests.pretrain.test_training import assert_same_run, losses

EVERY_2 = {"checkpoint": CheckpointConfig(every=2, keep=9)}


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    6: lambda folder: os.truncate(next(folder.glob("*optim_states.pt")), 100),
    5: lambda folder: flip(next(folder.glob("*optim_states.pt"))),
    4: lambda folder: next(folder.glob("*model_states.pt")).unlink(),
    3: lambda folder: (folder / MARKER).unlink(),
}
"""What happens to the checkpoint of each step."""


def test_damaged_checkpoints_are_passed_over_loudly(acn, recipe, tmp_path):
    every_step = {"checkpoint": CheckpointConfig(every=1, keep=9)}
    done = acn("pretrain", "--config", str(recipe("whole", **every_step)))
    assert done.returncode == 0, done.stderr
    run = tmp_path / "damaged"
    shutil.copytree(tmp_path / "whole" / "checkpoints", run / "checkpoints")
    shutil.copy(tmp_path / "whole" / "config.yaml", run / "config.yaml")
    for step, damage in DAMAGES.items():
        damage(run / "checkpoints" / f"step-{step:07d}")
    again = acn("pretrain", "--config", str(recipe("damaged", **every_step)))
    assert again.returncode == 0, again.stderr
    for step in DAMAGES:
        what = r"damaged \(.*optim_states.pt\)" if step == 5 else "incomplete"
        assert re.search(rf"WARNING: \S+step-{step:07d} is {what}", again.stdout), step
    assert "at step 2" in again.stdout
    assert losses(run) == {step: losses(tmp_path / "whole")[step] for step in (3, 4, 5, 6)}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs privileges")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_no_checkpoint_and_ends_with_a_clear_error(acn, recipe, small_disk, tmp_path):
    """The model is 40 times smaller than the disk: a ballast file leaves room for two checkpoints."""
    run = tmp_path / "run"
    checkpoints = small_disk / "checkpoints"
    checkpoints.mkdir()
    run.mkdir()
    (run / "checkpoints").symlink_to(checkpoints)
    (run / "config.yaml").write_text("")
    config = str(recipe("run", steps=8, **EVERY_2))
    (small_disk / "ballast").write_bytes(bytes(1024 * 1024 - 220 * 1024))
    full = acn("pretrain", "--config", config)
    assert full.returncode == 1, full.stdout + full.stderr
    assert "WARNING: " in full.stdout
    assert re.search(r"could not be written .*step-000000\d stands", full.stderr)
    assert sorted(losses(run)) == list(range(1, 9)), "training went on without the disk"
    kept = newest_complete(run)
    assert kept is not None
    assert kept.damaged_files() == []
    (small_disk / "ballast").unlink()
    again = acn("pretrain", "--config", config)
    assert again.returncode == 0, again.stderr
    assert f"at step {kept.progress.step}" in again.stdout


def test_a_lost_rank_is_told_from_other_errors(monkeypatch):
    monkeypatch.setattr(dist, "get_rank", lambda: 3)
    gone = RuntimeError(
        "[/src/gloo/transport/tcp/pair.cc:537] Read error [10.0.0.2]:55169: Connection reset by peer. This is "
        "typically caused by a remote worker\nException raised from"
    )
    said = str(lost_rank(gone, "runs/acn"))
    assert said.startswith(f"rank 3 on {socket.gethostname()} lost another rank (Read error [10.0.0.2]:55169: ")
    assert "Connection reset by peer). " in said
    assert "runs/acn" in said
    nccl = dist.DistBackendError("NCCL communicator was aborted on rank 3.\nmore")
    assert "lost another rank (NCCL communicator was aborted on rank 3.)" in str(lost_rank(nccl, "runs/acn"))
    assert lost_rank(RuntimeError("CUDA out of memory"), "runs/acn") is None


@pytest.mark.slow  # torchrun starts its ranks as a user's would start, three times
def test_under_torchrun_a_killed_rank_costs_a_restart_and_nothing_else(acn, recipe, tmp_path):
    settings = {"steps": 10, **EVERY_2}
    whole = acn("pretrain", "--config", str(recipe("whole", nproc_per_node=2, **settings)))
    assert whole.returncode == 0, whole.stderr
    command = ["--nproc_per_node", "2", "--max-restarts", "3", "--standalone", "-m", dying_rank.__name__, "pretrain"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command, "--config", str(recipe("killed", **settings))],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert [int(step) for step in re.findall(r"resuming from \S+ at step (\d+)", done.stdout)] == [2, 4]
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow  # three runs
def test_a_background_checkpoint_holds_what_a_foreground_one_does(acn, recipe, tmp_path):
    for name, asynchronous in (("now", False), ("later", True)):
        settings = {"checkpoint": CheckpointConfig(every=2, keep=9, asynchronous=asynchronous)}
        done = acn("pretrain", "--config", str(recipe(name, nproc_per_node=2, **settings)))
        assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "later" / "checkpoints" / "step-0000006")
    done = acn("pretrain", "--config", str(tmp_path / "later.yaml"))
    assert done.returncode == 0, done.stderr
    assert "at step 4" in done.stdout
    assert_same_run(tmp_path / "now", tmp_path / "later")


@pytest.mark.slow  # a run and an export
def test_two_thirds_of_a_run_can_be_exported_on_the_way(acn, recipe, tmp_path):
    settings = {"checkpoint": CheckpointConfig(every=2, export_every=4)}
    done = acn("pretrain", "--config", str(recipe("run", **settings)))
    assert done.returncode == 0, done.stderr
    exported = acn("export", str(tmp_path / "run" / "checkpoints" / "step-0000004"), str(tmp_path / "by-hand"))
    assert exported.returncode == 0, exported.stderr
    on_the_way = tmp_path / "run" / "models" / "step-0000004" / "model.safetensors"
    assert on_the_way.read_bytes() == (tmp_path / "by-hand" / "model.safetensors").read_bytes()
    assert read_metrics(tmp_path / "run")["train/loss"]
