"""A run changes its number of ranks, its ZeRO stage and its precision between two starts."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from pretrain import ModelConfig
from pretrain.checkpoints import CheckpointConfig
from pretrain.observe.figures import read_metrics
from pretrain.optim.optimizers import OptimConfig

# 11 and 13 divide by no number of ranks: every partition ends in padding; no dropout, whose masks differ by rank
MODEL = ModelConfig(
    hidden_size=22, num_hidden_layers=2, num_attention_heads=2, intermediate_size=26, max_position_embeddings=16
)
SETTINGS = {
    "model": MODEL,
    "steps": 16,
    "global_batch_size": 24,
    "micro_batch_size": 2,
    "optim": OptimConfig(lr=1e-2),
    "checkpoint": CheckpointConfig(every=1, keep=99),
}
RTOL = 2e-5
"""How far losses of one run may differ between layouts in fp32: sums over ranks are made in another order."""


@pytest.fixture
def whole(acn, recipe, tmp_path):
    """A run that stays as it began: one rank, no ZeRO."""
    done = acn("pretrain", "--config", str(recipe("whole", zero_stage=0, **SETTINGS)))
    assert done.returncode == 0, done.stderr
    return tmp_path / "whole"


def losses(run: Path) -> dict[int, float]:
    return read_metrics(run)["train/loss"]


def continue_from(acn, recipe, source: Path, name: str, step: int, ranks: int, **overrides) -> Path:
    """Copy one checkpoint of `source` into a run of its own and go on there."""
    run = source.parent / name
    shutil.copytree(source / "checkpoints" / f"step-{step:07d}", run / "checkpoints" / f"step-{step:07d}")
    shutil.copy(source / "config.yaml", run / "config.yaml")
    done = acn("pretrain", "--config", str(recipe(name, nproc_per_node=ranks, **(SETTINGS | overrides))))
    assert done.returncode == 0, done.stderr
    assert f"at step {step}" in done.stdout
    return run


def assert_same_losses(whole: Path, other: Path) -> None:
    expected = losses(whole)
    assert losses(other) == pytest.approx({step: expected[step] for step in losses(other)}, rel=RTOL)


def assert_same_weights(one: Path, other: Path, atol: float) -> None:
    ours, theirs = (AutoModelForMaskedLM.from_pretrained(run / "model").state_dict() for run in (one, other))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=atol, msg=name)


def test_two_one_and_four_ranks_with_stages_one_three_and_two_are_one_run(acn, recipe, whole):
    legs = [whole]
    for step, ranks, stage in ((4, 2, 1), (8, 1, 3), (12, 4, 2)):
        legs.append(continue_from(acn, recipe, legs[-1], f"leg{len(legs)}", step, ranks, zero_stage=stage))
    for leg in legs[1:]:
        assert_same_losses(whole, leg)
    assert_same_weights(legs[-1], whole, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_stage_continues_any_other(acn, recipe, whole):
    """Every ordered pair of stages once, each leg a step further than the one before."""
    leg = whole
    for step, stage in enumerate((1, 2, 3, 0, 2, 1, 3, 2, 0, 3, 1, 0), start=1):
        ranks = 1 + step % 2
        leg = continue_from(acn, recipe, leg, f"leg{step}", step, ranks, zero_stage=stage)
        assert_same_losses(whole, leg)
    assert_same_weights(leg, whole, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(0, 3), (1, 2), (3, 1), (2, 0)])
def test_bf16_changes_layout_without_losing_its_fp32_weights(acn, recipe, tmp_path, before, after):
    """The export right after the change is the one before it, bit for bit: bf16 rounding would show."""
    done = acn("pretrain", "--config", str(recipe("bf16", 2, **SETTINGS, precision="bf16", zero_stage=before)))
    assert done.returncode == 0, done.stderr
    run = continue_from(
        acn, recipe, tmp_path / "bf16", "moved", step=8, ranks=1, precision="bf16", zero_stage=after,
        optim=OptimConfig(lr=1e-30, weight_decay=0.0),
    )  # fmt: skip
    exported = acn("export", str(tmp_path / "bf16" / "checkpoints" / "step-0000008"), str(tmp_path / "then"))
    assert exported.returncode == 0, exported.stderr
    then = AutoModelForMaskedLM.from_pretrained(tmp_path / "then").state_dict()
    now = AutoModelForMaskedLM.from_pretrained(run / "model").state_dict()
    assert all(torch.equal(now[name], weight) for name, weight in then.items())
    assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in then.values())
