"""When a checkpoint is written and what of it is exported, with a plain object for an engine."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from modeling import AcnConfig, AcnForMaskedLM
from pretrain import UnhealthyError
from pretrain.checkpoints import CheckpointConfig, Progress, Saver, newest_complete
from pretrain.checkpoints.folder import checkpoint_folder
from pretrain.checkpoints.states import UNSHARDED_FILE

FIELDS = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


class Engine:
    """Writes the files of a stage-0 engine through whatever writer it is given."""

    def __init__(self) -> None:
        self.checkpoint_engine: Any = None
        self.disk_full = False
        self.module = AcnForMaskedLM(AcnConfig(**FIELDS))
        self.optimizer_order = list(dict(self.module.named_parameters()))
        self.states = {"module": self.module.state_dict(), "optimizer": {}, "optimizer_order": self.optimizer_order}

    def save_checkpoint(self, folder: str, tag: str, client_state: dict[str, Any], save_latest: bool) -> None:
        name = "nowhere/states.pt" if self.disk_full else UNSHARDED_FILE
        self.checkpoint_engine.save(self.states, str(Path(folder) / tag / name))


@pytest.fixture
def engine(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    torch.manual_seed(0)
    yield Engine()
    dist.destroy_process_group()


@pytest.fixture
def lines() -> list[str]:
    """What the user is told."""
    return []


@pytest.fixture
def build_saver(engine, lines, tiny_run, prepared) -> Callable[..., Saver]:
    def build(log_every: int = 1, **checkpoint: Any) -> Saver:
        config = tiny_run(log_every=log_every, checkpoint=CheckpointConfig(**{"keep": 9, **checkpoint}))
        return Saver(
            engine, config, prepared, None, lines.append, lambda metrics, step: None, lambda name, doing: nullcontext()
        )

    return build


def after(step: int) -> Progress:
    """The progress of a run that has made `step` steps."""
    first = Progress(step=0, samples=0, world_size=1, zero_stage=0, precision="fp32", model=FIELDS, order={})
    return replace(first, step=step, samples=8 * step)


def train(saver: Saver, steps: range) -> None:
    for step in steps:
        saver.save_if_due(after(step))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def test_a_checkpoint_is_written_every_so_many_steps_and_exported_on_some(build_saver, tmp_path):
    train(build_saver(every=2, export_every=4), range(1, 9))
    run = tmp_path / "run"
    assert names(checkpoint_folder(run)) == [f"step-000000{step}" for step in (2, 4, 6, 8)]
    assert names(run / "models") == ["step-0000004", "step-0000008"]


def test_a_model_that_computes_no_numbers_is_not_exported(build_saver, engine, lines, tmp_path):
    """Its weights are finite: those of a rate of 1e30."""
    saver = build_saver(every=1, export_every=1)
    with torch.no_grad():
        for weight in engine.module.parameters():
            weight.copy_(torch.randn_like(weight) * 1e30)
    train(saver, range(1, 3))
    assert names(checkpoint_folder(tmp_path / "run")) == ["step-0000001", "step-0000002"]
    warning = "WARNING: the model at step 2 was not exported: .*it answers with infinities or NaN"
    assert re.search(warning, "\n".join(lines))
    with pytest.raises(UnhealthyError, match="there is no model to leave: "):
        saver.export_model()
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_one_that_failed_is_written_again_at_the_next_logging_step(build_saver, engine, lines, tmp_path):
    saver = build_saver(every=4, log_every=3)
    engine.disk_full = True
    train(saver, range(1, 6))
    engine.disk_full = False
    train(saver, range(6, 8))
    assert names(checkpoint_folder(tmp_path / "run")) == ["step-0000006"]
    assert lines[0].startswith("WARNING: the checkpoint at step 4 could not be written: ")
    assert newest_complete(tmp_path / "run").progress == after(6)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_did_not_reach_the_disk_is_not_exported_under_its_name(build_saver, engine, asynchronous, tmp_path):
    saver = build_saver(every=2, export_every=2, asynchronous=asynchronous)
    train(saver, range(1, 3))
    engine.disk_full = True
    train(saver, range(3, 5))
    assert names(checkpoint_folder(tmp_path / "run")) == ["step-0000002"]
    assert names(tmp_path / "run" / "models") == ["step-0000002"]


def test_the_last_checkpoint_is_written_once_and_its_failure_ends_the_run(build_saver, engine, lines, tmp_path):
    saver = build_saver(every=0)
    saver.save_last(after(3))
    saver.save_last(after(3))
    assert [line.split()[:3] for line in lines] == [["step", "3", "checkpoint"]]
    engine.disk_full = True
    with pytest.raises(UnhealthyError, match=r"step 5 could not be written .*step-0000003 stands"):
        saver.save_last(after(5))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite_end_the_run_and_leave_the_sound_checkpoints(build_saver, engine, value, tmp_path):
    saver = build_saver(every=1, export_every=1)
    train(saver, range(1, 3))
    with torch.no_grad():
        next(engine.module.parameters())[0, 0] = value
    with pytest.raises(UnhealthyError, match=r"after step 3 weights are infinite or NaN .*step-0000002 stands"):
        train(saver, range(3, 4))
    assert names(checkpoint_folder(tmp_path / "run")) == ["step-0000001", "step-0000002"]
    assert names(tmp_path / "run" / "models") == ["step-0000001", "step-0000002"]


def test_a_run_that_went_back_keeps_what_it_writes_now(build_saver, tmp_path):
    """What it wrote before it went back is of later steps, but not newer."""
    train(build_saver(every=1), range(7, 9))
    saver = build_saver(every=1, keep=1, export_every=1)
    train(saver, range(1, 3))
    assert names(checkpoint_folder(tmp_path / "run")) == [f"step-000000{step}" for step in (2, 7, 8)]
    assert names(tmp_path / "run" / "models") == ["step-0000001", "step-0000002"]
