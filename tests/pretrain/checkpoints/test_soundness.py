"""What may be loaded of a checkpoint, and what a run does whose checkpoints are all damaged."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from pretrain import PretrainError
from pretrain.checkpoints import MARKER, CheckpointConfig, checkpoint_around, find_checkpoint, newest_complete
from pretrain.checkpoints.folder import Checkpoint, Progress
from pretrain.checkpoints.soundness import _PLAIN_CLASSES, foreign_problems, loading
from pretrain.checkpoints.writer import HashingWriter
from tests.pretrain.conftest import continued
from tests.pretrain.test_faults import flip
from tests.pretrain.test_training import losses
from tests.security.tampering import Bomb

STEPS = (3, 6)


def checkpoint_of(*files: Path, trusted: bool = False) -> Checkpoint:
    progress = Progress(1, 1, 1, zero_stage=1, precision="fp16", model={}, order={})
    return Checkpoint(files[0].parent, progress, {file.name: {} for file in files}, trusted)


def plain_objects() -> dict[str, object]:
    """One of each class that DeepSpeed stores; the dynamic scaler belongs to fp16, which few CPUs have."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    objects = (
        DynamicLossScaler(2.0**16, 1000, 1.0, 2, False),
        LossScaler(1.0),
        ZeroStageEnum.weights,
        fragment_address(numel=4, start=2),
    )
    return {f"{type(one).__module__}.{type(one).__name__}": one for one in objects}


def test_the_plain_classes_of_deepspeed_are_loaded_as_they_were(tmp_path):
    written = plain_objects()
    assert sorted(written) == sorted(_PLAIN_CLASSES)
    torch.save(written, tmp_path / "states.pt")
    checkpoint = checkpoint_of(tmp_path / "states.pt")
    assert foreign_problems(checkpoint) == []
    with loading(checkpoint):
        read = torch.load(tmp_path / "states.pt", weights_only=False)
    assert {name: type(one) for name, one in read.items()} == {name: type(one) for name, one in written.items()}
    scalers = [name for name in written if "Scaler" in name]
    assert [vars(read[name]) for name in scalers] == [vars(written[name]) for name in scalers]
    assert all(read[name] == one for name, one in written.items() if name not in scalers)


def deepspeeds_own(path: Path) -> object:
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    return TorchCheckpointEngine().load(str(path))


@pytest.mark.parametrize(
    "load",
    [
        lambda path: torch.load(path),
        lambda path: torch.load(path, weights_only=False),
        lambda path: HashingWriter(asynchronous=False).load(str(path)),
        deepspeeds_own,
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_every_loader_of_the_process_is_held_to_data(tmp_path, monkeypatch, load, trusted):
    """Whatever the user's environment says; and the environment is afterwards what it was."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    before = dict(os.environ)
    sentinel, file = tmp_path / "code-has-run", tmp_path / "states.pt"
    torch.save({"more": Bomb(sentinel)}, file)
    checkpoint = checkpoint_of(file, trusted=trusted)
    if trusted:
        with loading(checkpoint):
            load(file)
    else:
        with pytest.raises(PretrainError, match=r"states.pt holds more than data \(posix.mkdir\)"), loading(checkpoint):
            load(file)
    assert sentinel.exists() == trusted
    assert dict(os.environ) == before


@pytest.fixture
def damaged(finished, tmp_path) -> Path:
    """A run of which no checkpoint is sound: one has a flipped bit, one more than COMPLETE names."""
    run = tmp_path / "run"
    for step in STEPS:
        continued(finished, run, step)
    first, second = (run / "checkpoints" / f"step-{step:07d}" for step in STEPS)
    flip(next(first.glob("*optim_states.pt")))
    (second / "model.safetensors").write_bytes(b"exported into it")
    return run


def test_a_run_without_a_sound_checkpoint_stops_instead_of_starting_over(acn, recipe, damaged):
    before = {path: path.stat().st_mtime_ns for path in damaged.rglob("*")}
    for only in (False, True):
        if only:
            shutil.rmtree(damaged / "checkpoints" / "step-0000003")
        done = acn("pretrain", "--config", str(recipe("run", precision="fp32")))
        assert done.returncode == 2, done.stdout
        assert "has no checkpoint that is not damaged" in done.stderr
        assert "--checkpoint.damaged restart" in done.stderr
    assert all(path.stat().st_mtime_ns == before[path] for path in damaged.rglob("*.pt"))


def test_a_run_starts_over_when_told_to_and_keeps_the_damaged_files(acn, recipe, finished, damaged):
    told = CheckpointConfig(every=3, keep=1, damaged="restart")
    done = acn("pretrain", "--config", str(recipe("run", precision="fp32", checkpoint=told)))
    assert done.returncode == 0, done.stderr
    assert losses(damaged) == losses(finished)
    names = {path.name for path in (damaged / "checkpoints").iterdir()}
    assert names == {"damaged-step-0000003", "damaged-step-0000006", "step-0000006"}


def test_a_half_written_first_checkpoint_is_no_reason_to_stop(acn, recipe, finished, tmp_path):
    run = continued(finished, tmp_path / "run", 3)
    (run / "checkpoints" / "step-0000003" / MARKER).unlink()
    done = acn("pretrain", "--config", str(recipe("run", precision="fp32")))
    assert done.returncode == 0, done.stderr


def test_the_newest_checkpoint_is_not_silently_replaced_by_an_older_one(finished, tmp_path):
    run = tmp_path / "run"
    for step in STEPS:
        continued(finished, run, step)
    assert find_checkpoint(run).progress.step == 6
    newest = run / "checkpoints" / "step-0000006"
    (newest / "more").write_bytes(b"?")
    assert newest_complete(run).progress.step == 3
    for source in (run, newest):
        with pytest.raises(PretrainError, match=f"{re.escape(str(newest))} is damaged"):
            find_checkpoint(source)
    (newest / MARKER).unlink()  # still being written
    assert find_checkpoint(run).progress.step == 3
    with pytest.raises(PretrainError, match="neither a run nor a checkpoint"):
        find_checkpoint(newest)


def test_what_lies_in_checkpoints_is_known(finished, tmp_path):
    checkpoints = finished / "checkpoints"
    step = checkpoints / "step-0000003"
    (tmp_path / "link").symlink_to(step)
    inside = (checkpoints, checkpoints / "new", step, step / "a" / "b", finished / "model" / ".." / "checkpoints" / "x")
    outside = (finished, finished / "model", tmp_path, tmp_path / "checkpoints" / "x", tmp_path / "new")
    assert [checkpoint_around(path) for path in inside] == [checkpoints, checkpoints, step, step, checkpoints]
    assert checkpoint_around(tmp_path / "link" / "new") == step
    assert [checkpoint_around(path) for path in outside] == [None] * len(outside)
