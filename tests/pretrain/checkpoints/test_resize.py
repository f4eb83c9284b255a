"""A run changes its number of ranks, its ZeRO stage and its precision between two starts."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from pretrain import ModelConfig, ValidationConfig
from pretrain.checkpoints import CheckpointConfig
from pretrain.observe.figures import read_metrics
from pretrain.optim.optimizers import OptimConfig
from tests.pretrain.conftest import continued, tiny, write_recipe
from tests.processes import run_acn

# Gradients of the queries and keys of so new a model are 1e-9 and less: with an epsilon as small, Adam makes whole
# steps of their rounding, and runs on one and on two ranks without ZeRO differ there by 8e-5 after 16 steps, more or
# less by processor, and by 1e-7 elsewhere. With 1e-6 it is 2e-7 everywhere. That the moments of all parameters are
# taken over as they are is tested exactly, in test_branch.py.
# 11 and 13 divide by no number of ranks: every partition ends in padding; no dropout, whose masks differ by rank
MODEL = ModelConfig(
    hidden_size=22, num_hidden_layers=2, num_attention_heads=2, intermediate_size=26, max_position_embeddings=16
)
SETTINGS = {
    "model": MODEL,
    "steps": 16,
    "global_batch_size": 24,
    "micro_batch_size": 2,
    "optim": OptimConfig(lr=1e-2, eps=1e-6),
    "checkpoint": CheckpointConfig(every=1, keep=99),
    "validation": ValidationConfig(every=0, blocks=10),
}
RTOL, ATOL = 2e-6, 2e-6
"""How far losses and weights of one run may differ between layouts in fp32: sums over ranks are made in another order.
"""


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """A run that stays as it began: one rank, no ZeRO."""
    run = tmp_path_factory.mktemp("resize") / "whole"
    done = run_acn("pretrain", "--config", str(write_recipe(run, tiny(prepared, run, zero_stage=0, **SETTINGS))))
    assert done.returncode == 0, done.stderr
    return run


def losses(run: Path) -> dict[int, float]:
    return read_metrics(run)["train/loss"]


def continue_from(acn, recipe, source: Path, run: Path, step: int, ranks: int, **overrides) -> Path:
    """Copy one checkpoint of `source` into a run of its own and go on there."""
    continued(source, run, step)
    done = acn("pretrain", "--config", str(recipe(run.name, nproc_per_node=ranks, **(SETTINGS | overrides))))
    assert done.returncode == 0, done.stderr
    assert f"at step {step}" in done.stdout
    return run


def assert_same_losses(whole: Path, other: Path) -> None:
    expected = losses(whole)
    assert losses(other) == pytest.approx({step: expected[step] for step in losses(other)}, rel=RTOL)


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = (AutoModelForMaskedLM.from_pretrained(run / "model").state_dict() for run in (one, other))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=ATOL, msg=name)


def test_two_one_and_four_ranks_with_stages_one_three_and_two_are_one_run(acn, recipe, whole, tmp_path):
    leg = whole
    for step, ranks, stage in ((4, 2, 1), (8, 1, 3), (12, 4, 2)):
        leg = continue_from(acn, recipe, leg, tmp_path / f"leg{step}", step, ranks, zero_stage=stage)
        assert_same_losses(whole, leg)
    assert_same_weights(leg, whole)


@pytest.mark.slow  # twelve runs
@pytest.mark.timeout(900)
def test_any_stage_continues_any_other(acn, recipe, whole, tmp_path):
    """Every ordered pair of stages once, each leg a step further than the one before."""
    leg = whole
    for step, stage in enumerate((1, 2, 3, 0, 2, 1, 3, 2, 0, 3, 1, 0), start=1):
        ranks = 1 + step % 2
        leg = continue_from(acn, recipe, leg, tmp_path / f"leg{step}", step, ranks, zero_stage=stage)
        assert_same_losses(whole, leg)
    assert_same_weights(leg, whole)


@pytest.mark.slow  # two runs and an export for each of the four
@pytest.mark.parametrize(("before", "after"), [(0, 3), (1, 2), (3, 1), (2, 0)])
def test_bf16_changes_layout_without_losing_its_fp32_weights(acn, recipe, tmp_path, before, after):
    """The export right after the change is the one before it, bit for bit: bf16 rounding would show."""
    done = acn("pretrain", "--config", str(recipe("bf16", 2, **SETTINGS, precision="bf16", zero_stage=before)))
    assert done.returncode == 0, done.stderr
    run = continue_from(
        acn, recipe, tmp_path / "bf16", tmp_path / "moved", step=8, ranks=1, precision="bf16", zero_stage=after,
        optim=OptimConfig(lr=1e-30, weight_decay=0.0),
    )  # fmt: skip
    exported = acn("export", str(tmp_path / "bf16" / "checkpoints" / "step-0000008"), str(tmp_path / "then"))
    assert exported.returncode == 0, exported.stderr
    then = AutoModelForMaskedLM.from_pretrained(tmp_path / "then").state_dict()
    now = AutoModelForMaskedLM.from_pretrained(run / "model").state_dict()
    assert all(torch.equal(now[name], weight) for name, weight in then.items())
    assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in then.values())
