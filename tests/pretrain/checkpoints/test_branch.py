"""A branch has other ranks, another ZeRO stage or another precision than the run that it leaves."""

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

from modeling import AcnForMaskedLM
from pretrain.checkpoints import CheckpointConfig
from pretrain.checkpoints.folder import open_checkpoint
from pretrain.checkpoints.states import State, convert, universal_states, unsharded_states
from pretrain.observe.figures import read_metrics
from pretrain.optim.optimizers import OptimConfig
from tests.pretrain.checkpoints.test_resize import RTOL, SETTINGS
from tests.pretrain.conftest import tiny, write_recipe
from tests.processes import run_acn

Layout = tuple[int, int, str]
"""Ranks, ZeRO stage, precision."""

STILL = OptimConfig(lr=1e-30, weight_decay=0.0, betas=(1 - 1e-15, 1 - 1e-15))
"""An optimizer of which a step changes neither the weights nor its moments."""

BF16_RTOL = 2e-3
"""How far the loss of one batch may differ where one of two runs computes in bf16, which has 8 bits."""

KINDS = tuple(product((0, 1, 2, 3), ("fp32", "bf16")))
LAYOUTS = [(1 + bool(stage), stage, precision) for stage, precision in KINDS]
PAIRS = [
    ((1 + (i + j) % 2, *before), (2 - (i + j) % 2, *after))
    for (i, before), (j, after) in product(enumerate(KINDS), enumerate(KINDS))
]
"""Every stage and precision onto every other and onto itself, from one rank to two and from two to one."""

FAST = [
    ((2, 1, "fp32"), (2, 3, "bf16")),
    ((1, 0, "bf16"), (2, 1, "bf16")),
    ((2, 3, "bf16"), (1, 0, "fp32")),
]
"""Each kind of conversion, more ranks, fewer ranks, as many, each precision left and reached."""

SAME = [
    ((1, 0, "fp32"), (1, 0, "fp32")),
    ((2, 1, "fp32"), (2, 1, "fp32")),
    ((2, 3, "bf16"), (2, 3, "bf16")),
]
"""The layout of the source, which DeepSpeed loads by itself, with the settings of the source's optimizer."""


def words(pair: tuple[Layout, Layout]) -> str:
    return "-onto-".join(f"{ranks}ranks.stage{stage}.{precision}" for ranks, stage, precision in pair)


@pytest.fixture(scope="module")
def source(prepared, tmp_path_factory) -> Callable[[Layout], Path]:
    """The run of four steps of a layout, with a checkpoint of the third; made when it is first asked for."""
    folder = tmp_path_factory.mktemp("sources")

    @cache
    def make(layout: Layout) -> Path:
        ranks, stage, precision = layout
        run = folder / words((layout,))
        fields = SETTINGS | {"zero_stage": stage, "precision": precision, "steps": 4}
        fields["checkpoint"] = CheckpointConfig(every=3, keep=9)
        done = run_acn("pretrain", "--config", str(write_recipe(run, tiny(prepared, run, **fields), ranks)))
        assert done.returncode == 0, done.stderr
        return run

    return make


def states(checkpoint: Path, scratch: Path) -> dict[str, State]:
    """The fp32 weights and moments in a checkpoint, flat; a tied weight under its first name only."""
    found = open_checkpoint(checkpoint)
    if found.progress.zero_stage == 0:
        parameters = dict(unsharded_states(found))
    else:
        convert(found, scratch)
        parameters = dict(universal_states(scratch))
    parameters = {name: parameters[name] for name in parameters.keys() - AcnForMaskedLM._tied_weights_keys.keys()}
    return {name: {key: value.flatten() for key, value in state.items()} for name, state in parameters.items()}


def assert_branches(data: Path, source: Callable[[Layout], Path], folder: Path, before: Layout, after: Layout) -> None:
    """One step of a branch whose optimizer stands still leaves what it took over, and begins with its source's loss."""
    left, (ranks, stage, precision) = source(before) / "checkpoints" / "step-0000003", after
    fields = SETTINGS | {"zero_stage": stage, "precision": precision, "steps": 4, "optim": STILL}
    run = folder / words((before, after))
    recipe = write_recipe(run, tiny(data, run, **fields, branch_from=str(left)), ranks)
    done = run_acn("pretrain", "--config", str(recipe))
    assert done.returncode == 0, done.stderr
    expected, found = states(left, folder / "before"), states(run / "checkpoints" / "step-0000004", folder / "after")
    assert found.keys() == expected.keys()
    for name, state in expected.items():
        assert state.keys() == {"fp32", "exp_avg", "exp_avg_sq"}
        for key, value in state.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-6, atol=1e-14, msg=f"{key} of {name}")
    ours, theirs = (read_metrics(path)["train/loss"][4] for path in (run, source(before)))
    assert ours == pytest.approx(theirs, rel=RTOL if precision == before[2] == "fp32" else BF16_RTOL)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-0000004"], "nothing else is left"


@pytest.mark.parametrize("pair", FAST, ids=words)
def test_a_branch_begins_with_the_weights_and_moments_of_its_source(prepared, source, tmp_path, pair):
    assert_branches(prepared, source, tmp_path, *pair)


@pytest.mark.parametrize("pair", SAME, ids=words)
def test_a_branch_of_the_same_layout_has_the_settings_of_its_own_optimizer(prepared, source, tmp_path, pair):
    """Those of its source would move the weights and decay the moments."""
    assert_branches(prepared, source, tmp_path, *pair)


@pytest.mark.slow  # 16 runs and a branch for each of 72 pairs
@pytest.mark.parametrize("pair", [*PAIRS, *((layout, layout) for layout in LAYOUTS)], ids=words)
def test_every_stage_and_precision_branches_onto_every_other(prepared, source, tmp_path, pair):
    assert_branches(prepared, source, tmp_path, *pair)
