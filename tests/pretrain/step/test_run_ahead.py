"""`run_ahead`: the host does not wait for the device between logging steps, and every bit is as if it did."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from data_pipeline import DataError, Manifest, MaskedBatch, MaskingConfig, StreamConfig, TokenStream
from pretrain import PretrainConfig, PretrainError, ValidationConfig, check_run
from pretrain.checkpoints import CheckpointConfig
from pretrain.deepspeed_options import OffloadConfig
from pretrain.health import HealthConfig
from pretrain.optim import OptimConfig
from pretrain.step.batches import targets_per_micro_batch
from pretrain.step.late import Agreement
from pretrain.step.optimizer_step import runs_ahead
from tests.pretrain.conftest import tiny
from tests.pretrain.step import ahead_ranks
from tests.processes import run

STAGES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (0, "bf16"), (1, "bf16"), (2, "bf16")]


@pytest.fixture
def both(prepared: Path, tmp_path: Path) -> Callable[..., tuple[dict, dict]]:
    """Train with the host waiting, and with the host running ahead; what both came to."""

    def train(ranks: int = 1, doing: str = "plainly", what: Any = None, **fields: Any) -> tuple[dict, dict]:
        cases = {
            name: (PretrainConfig(**tiny(prepared, tmp_path / name, run_ahead=ahead, **fields)), doing, what)
            for name, ahead in (("waiting", False), ("ahead", True))
        }
        done = run(ahead_ranks.launch, ranks, cases, tmp_path / "results.pt")
        assert done.returncode == 0, done.stderr
        results = torch.load(tmp_path / "results.pt", weights_only=False)
        return results["waiting"], results["ahead"]

    return train


def assert_same(one: dict, other: dict) -> None:
    for name, weights in one["weights"].items():
        assert torch.equal(weights, other["weights"][name]), name
    for name in ("curves", "progress", "finished", "warnings"):
        assert one[name] == other[name], name


@pytest.mark.parametrize(
    ("stage", "precision"),
    [(0, "fp32"), (1, "fp32"), *(pytest.param(*case, marks=pytest.mark.slow) for case in STAGES[2:])],
)
def test_every_bit_is_that_of_a_host_that_waits(both: Callable, stage: int, precision: str) -> None:
    waiting, ahead = both(ranks=2, zero_stage=stage, precision=precision, log_every=4)
    assert waiting["progress"]["applied"] == 6
    if (stage, precision) == (0, "bf16"):  # DeepSpeed takes the norm of this one in Python's doubles
        assert ahead["curves"]["train/loss"] == pytest.approx(waiting["curves"]["train/loss"], rel=1e-3)
    else:
        assert_same(waiting, ahead)


@pytest.mark.parametrize(
    ("stage", "precision"),
    [(0, "fp32"), *(pytest.param(*case, marks=pytest.mark.slow) for case in STAGES[1:] if case != (0, "bf16"))],
)
def test_steps_that_are_not_finite_are_left_out_as_by_a_host_that_waits(
    both: Callable, stage: int, precision: str
) -> None:
    """The device leaves the step out before anybody knows; the fourth step is made upon it and stays."""
    waiting, ahead = both(doing="sick", what=range(19, 20), zero_stage=stage, precision=precision, log_every=5)
    assert "step 3 (samples 16..23) left out" in ahead["warnings"][0]
    assert (ahead["progress"]["step"], ahead["progress"]["applied"]) == (6, 5)
    assert_same(waiting, ahead)


def test_going_back_forgets_the_step_that_was_made_meanwhile(both: Callable) -> None:
    health, checkpoint = HealthConfig(patience=2), CheckpointConfig(every=2, keep=9)
    fields = {"health": health, "checkpoint": checkpoint, "log_every": 50, "validation": ValidationConfig(every=0)}
    waiting, ahead = both(doing="sick", what=range(24, 40), steps=9, **fields)
    assert ahead["progress"]["health"].left_out == [[24, 40]]
    assert ahead["progress"]["samples"] == 88
    assert_same(waiting, ahead)


def test_a_stop_is_acted_on_one_step_later_and_the_run_goes_on_to_the_same_bits(prepared: Path, tmp_path: Path) -> None:
    fields = {"run_ahead": True, "log_every": 50, "checkpoint": CheckpointConfig(every=0)}
    whole = PretrainConfig(**tiny(prepared, tmp_path / "whole", **fields))
    halted = PretrainConfig(**tiny(prepared, tmp_path / "halted", **fields))
    results = {}
    for cases in (
        {"whole": (whole, "plainly", None), "first": (halted, "stopped", 3)},
        {"second": (halted, "plainly", None)},
    ):
        done = run(ahead_ranks.launch, 1, cases, tmp_path / "results.pt")
        assert done.returncode == 0, done.stderr
        results |= torch.load(tmp_path / "results.pt", weights_only=False)
    first = results["first"]
    assert (first["finished"], first["progress"]["step"], first["progress"]["applied"]) == (False, 4, 4)
    for name, weights in results["whole"]["weights"].items():
        assert torch.equal(weights, results["second"]["weights"][name]), name
    assert results["second"]["progress"] == results["whole"]["progress"]


@pytest.fixture
def waits(prepared: Path, tmp_path: Path) -> Callable[..., dict[str, list[str]]]:
    """The waits for the device in three steps between two logging steps, at each stage and precision."""

    def find(stages: list, planted: bool = False, data: Path = prepared, **fields: Any) -> dict[str, list[str]]:
        never = {"checkpoint": CheckpointConfig(every=0), "validation": ValidationConfig(every=0), "log_every": 99}
        configs = {
            f"{stage}-{precision}": PretrainConfig(
                **tiny(data, tmp_path / f"{stage}-{precision}", zero_stage=stage, precision=precision, steps=99,
                       **(never | fields))
            )
            for stage, precision in stages
        }  # fmt: skip
        done = run(ahead_ranks.launch_waits, configs, planted, tmp_path / "waits.pt")
        assert done.returncode == 0, done.stderr
        return torch.load(tmp_path / "waits.pt")

    return find


def test_nothing_waits_for_the_device_between_logging_steps(waits: Callable) -> None:
    assert waits(STAGES, run_ahead=True) == {f"{stage}-{precision}": [] for stage, precision in STAGES}


def test_nothing_waits_where_the_number_of_targets_must_be_asked_for(waits: Callable, packed: Path) -> None:
    """In packed documents it differs from step to step."""
    model = replace(PretrainConfig(**tiny(packed, packed)).model, max_position_embeddings=32)
    assert waits([(1, "fp32")], run_ahead=True, data=packed, model=model) == {"1-fp32": []}


def test_a_known_number_of_targets_gives_the_bits_of_one_that_is_asked_for(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "older")
    manifest = Manifest.load(prepared)
    assert TokenStream(prepared, StreamConfig(), MaskingConfig()).targets_per_block == 2
    manifest.splits["train"].fewest_ordinary = None
    manifest.save(tmp_path / "older")
    cases = {
        name: (PretrainConfig(**tiny(data, tmp_path / name)), "plainly", None)
        for name, data in (("known", prepared), ("asked", tmp_path / "older"))
    }
    done = run(ahead_ranks.launch, 2, cases, tmp_path / "results.pt")
    assert done.returncode == 0, done.stderr
    assert_same(*torch.load(tmp_path / "results.pt", weights_only=False).values())


def test_a_manifest_that_promises_too_many_targets_is_found_out() -> None:
    labels = torch.tensor([[3, 4], [5, -100]])
    batch = MaskedBatch(torch.zeros(2, 9), torch.zeros(2, 2), labels, torch.arange(2))
    whole = replace(batch, labels=torch.tensor([[3, 4], [5, 6]]))
    assert targets_per_micro_batch([whole, whole], torch.device("cpu"), 2).item() == 4
    with pytest.raises(DataError, match="some blocks have fewer"):
        targets_per_micro_batch([batch], torch.device("cpu"), 2)


def test_a_wait_would_be_seen(waits: Callable) -> None:
    """One that somebody adds, and those of DeepSpeed that running ahead avoids."""
    (planted,) = waits([(1, "fp32")], planted=True, run_ahead=True).values()
    assert len(planted) == 12, "one in every micro-batch"
    assert all(wait.startswith("__float__, step/ahead_ranks.py") for wait in planted)
    waiting = waits([(0, "fp32"), (1, "fp32")], run_ahead=False)
    assert {wait.rsplit(":")[0] for wait in waiting["0-fp32"]} == {"item, step/optimizer_step.py"}
    assert any("is_invalid_grad_norm" in wait for wait in waiting["1-fp32"])


def test_a_late_agreement_answers_with_the_one_before() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        late, now = (Agreement(torch.device("cpu"), later, [0.0, 7.0]) for later in (True, False))
        assert [late(1.0, 2.0), late(3.0, 4.0), late(5.0, 6.0)] == [[0.0, 7.0], [1.0, 2.0], [3.0, 4.0]]
        assert [now(1.0, 2.0), now(3.0, 4.0)] == [[1.0, 2.0], [3.0, 4.0]]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "fields",
    [
        {"optim": OptimConfig(name="lamb")}, {"optim": OptimConfig(fused=False)}, {"zero_stage": 3},
        {"precision": "fp16"}, {"offload": OffloadConfig(optimizer="cpu")}, {"health": HealthConfig(spike=6.0)},
    ],
)  # fmt: skip
def test_what_needs_the_host_in_every_step_does_not_run_ahead(
    tiny_run: Callable, monkeypatch: pytest.MonkeyPatch, fields: dict
) -> None:
    config = tiny_run(**fields)
    with pytest.raises(PretrainError, match="run_ahead=true does not go with"):
        check_run(replace(config, run_ahead=True), 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not runs_ahead(config)
    assert runs_ahead(tiny_run())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not runs_ahead(tiny_run())
