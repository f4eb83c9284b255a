"""Steps that are not finite are left out, counted and named; rows of them end at an older checkpoint."""

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pretrain.checkpoints.folder import newest_complete
from pretrain.health import Health, HealthConfig
from pretrain.observe.figures import read_metrics
from tests.pretrain import sick_rank
from tests.processes import run


def test_mean_and_deviation_follow_the_losses():
    losses = np.random.default_rng(0).normal(3.0, 0.2, size=50)
    health = Health()
    for loss in losses:
        health.healthy(0, float(loss), memory=100)
    assert health.loss_mean == pytest.approx(losses.mean())
    assert health.loss_variance == pytest.approx(losses.var())


def test_a_spike_counts_only_once_the_memory_is_full():
    config, health = HealthConfig(spike=4.0, spike_memory=20), Health()
    for step in range(20):
        assert not health.is_spike(99.0, config)
        health.healthy(step, 2.0 + 0.1 * (step % 2), memory=20)
    assert health.is_spike(2.5, config)
    assert not health.is_spike(2.2, config)
    assert not health.is_spike(99.0, HealthConfig())


def test_going_back_keeps_the_counts_and_leaves_the_samples_out():
    then = Health(loss_mean=2.0, losses=7)
    now = Health(skipped_steps=1, left_out=[[0, 8]], rollbacks=1)
    for step in (5, 6):
        now.sick(step, sample=8 * step)
    back = now.rolled_back_to(then, end=56)
    assert back.left_out == [[0, 8], [40, 56]]
    assert (back.skipped_steps, back.rollbacks, back.sick_in_a_row, back.loss_mean) == (3, 2, 0, 2.0)
    assert [back.past_left_out(sample) for sample in (0, 7, 8, 40, 55, 56)] == [8, 8, 8, 56, 56, 56]
    back.healthy(48, None, memory=1)
    assert back.rollbacks == 2
    back.healthy(56, None, memory=1)
    assert back.rollbacks == 0


@pytest.fixture
def sick(recipe, tmp_path):
    """Run two ranks whose loss is sick for the samples of `which`; returns the process and the run."""

    def run_sick(which: range, scale: float = math.nan, **overrides) -> tuple[subprocess.CompletedProcess, Path]:
        config = recipe("run", sample_log=True, **overrides)
        return run(sick_rank.launch, which, scale, config), tmp_path / "run"

    return run_sick


def trained_on(run: Path) -> dict[int, list[int]]:
    """The samples of every step, over all ranks."""
    steps: dict[int, list[int]] = {}
    for path in (run / "samples").glob("rank-*.jsonl"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            steps[record["step"]] = sorted(steps.get(record["step"], []) + record["samples"])
    return dict(sorted(steps.items()))


@pytest.mark.parametrize(
    ("stage", "precision"),
    # slow: a run for each of the other stages
    [(1, "fp32"), *(pytest.param(s, p, marks=pytest.mark.slow) for s, p in [(0, "fp32"), (2, "bf16"), (3, "fp32")])],
)
def test_a_sick_step_is_left_out_counted_and_named(sick, stage, precision):
    done, run = sick(range(19, 20), zero_stage=stage, precision=precision)
    assert done.returncode == 0, done.stderr
    # global batches of 8 on 2 ranks in micro-batches of 2: sample 19 is in rank 1's micro-batch {17, 19}
    assert "WARNING: step 3 (samples 16..23) left out" in done.stdout
    assert "came from samples [17, 19]" in done.stdout
    curves = read_metrics(run)
    assert sorted(curves["train/loss"]) == [1, 2, 4, 5, 6]
    assert curves["train/skipped_steps"][6] == 1
    progress = newest_complete(run).progress
    assert (progress.step, progress.applied, progress.samples) == (6, 5, 48)


@pytest.mark.slow  # a run of two ranks
def test_a_row_of_sick_steps_ends_at_the_checkpoint_before_it(sick):
    from pretrain.checkpoints import CheckpointConfig

    done, run = sick(
        range(24, 40), steps=8, health=HealthConfig(patience=2), checkpoint=CheckpointConfig(every=2, keep=9)
    )
    assert done.returncode == 0, done.stderr
    assert "back to" in done.stdout
    assert "samples 24..39 are left out for good" in done.stdout
    batches = [list(range(first, first + 8)) for first in (0, 8, 16, 40, 48, 56, 64, 72)]
    assert list(trained_on(run).values()) == batches
    health = newest_complete(run).progress.health
    assert (health.skipped_steps, health.left_out, health.rollbacks) == (2, [[24, 40]], 0)


@pytest.mark.slow  # a run of two ranks
def test_without_a_checkpoint_to_go_back_to_the_run_ends_with_an_error(sick):
    done, _ = sick(range(0, 999), steps=8, health=HealthConfig(patience=2))
    assert done.returncode != 0
    assert "there is no checkpoint from before them to go back to" in done.stderr


@pytest.mark.slow  # a run of two ranks
def test_a_spike_is_left_out_when_asked_for(sick):
    done, run = sick(range(43, 44), scale=50.0, steps=8, health=HealthConfig(spike=6.0, spike_memory=4))
    assert done.returncode == 0, done.stderr
    assert "WARNING: step 6 (samples 40..47) left out" in done.stdout
    assert sorted(read_metrics(run)["train/loss"]) == [1, 2, 3, 4, 5, 7, 8]
