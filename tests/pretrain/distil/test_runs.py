"""Real runs that anneal shortcuts away and learn from a teacher."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from launch.cli import main
from modeling import AcnConfig, AcnForMaskedLM
from pretrain import ModelConfig, ValidationConfig
from pretrain.checkpoints import CheckpointConfig, newest_complete
from pretrain.distil import AnnealConfig, TeacherConfig
from pretrain.distil.anneal import Annealing
from pretrain.observe.figures import read_metrics
from pretrain.optim.config import EmaConfig, OptimConfig
from tests.modeling.test_remote_code import load_elsewhere
from tests.pretrain import held_rank
from tests.pretrain.conftest import continued, tiny, write_recipe
from tests.processes import run_acn, start, wait_until

ANNEAL = AnnealConfig(share=0.5, floor=0.1)
STEPS = 8  # scales 1, .56, .32, .18, then 0: the checkpoint of step 3 is in the middle
# eps: see tests/pretrain/checkpoints/test_resize.py
SETTINGS = {
    "model": ModelConfig(), "steps": STEPS, "anneal": ANNEAL, "optim": OptimConfig(lr=1e-2, eps=1e-6),
    "validation": ValidationConfig(every=1, blocks=10), "ema": EmaConfig(decay=0.9, every=1),
    "checkpoint": CheckpointConfig(every=3, keep=9),
}  # fmt: skip
RTOL = 2e-5
"""How far metrics of one run may differ between layouts: sums over ranks are made in another order."""
CURVES = (
    "train/loss", "train/match", "train/mlm_loss", "train/shortcut_scale", "validation/match_depth_00",
    "validation/match_depth_02", "validation_ema/match", "validation/loss_depth_01",
)  # fmt: skip


def beside(residual: Path) -> dict:
    """A conversion with both losses."""
    return SETTINGS | {"init_from": str(residual), "teacher": TeacherConfig(weight=1.0)}


@pytest.fixture(scope="module")
def whole(prepared, residual, tmp_path_factory) -> Path:
    """A finished conversion on one rank, ZeRO stage 1."""
    run = tmp_path_factory.mktemp("conversion") / "whole"
    done = run_acn("pretrain", "--config", str(write_recipe(run, tiny(prepared, run, **beside(residual)))))
    assert done.returncode == 0, done.stderr
    return run


def test_a_conversion_records_its_scale_and_the_match_of_every_depth(whole):
    curves = read_metrics(whole)
    scales = [0.1 ** (step / 4) for step in range(4)] + [0.0] * 4
    assert list(curves["train/shortcut_scale"].values()) == pytest.approx(scales)
    assert curves["validation/match"] == curves["validation/match_depth_02"]
    assert curves["validation/match"][STEPS] < curves["validation/match"][5], "it learns without shortcuts, too"
    assert sorted(curves["validation/accuracy_depth_02"]) == list(range(1, STEPS + 1))
    assert curves["train/loss"][STEPS] == pytest.approx(
        curves["train/match"][STEPS] + curves["train/mlm_loss"][STEPS], rel=1e-5
    )


@pytest.mark.parametrize(
    ("ranks", "stage"), [(2, 3), pytest.param(2, 0, marks=pytest.mark.slow), pytest.param(1, 2, marks=pytest.mark.slow)]
)
def test_the_curve_goes_on_in_the_middle_of_annealing_on_other_ranks_and_another_stage(
    acn, recipe, residual, whole, tmp_path, ranks, stage
):
    run = continued(whole, tmp_path / "resumed", step=3)
    done = acn("pretrain", "--config", str(recipe("resumed", ranks, zero_stage=stage, **beside(residual))))
    assert done.returncode == 0, done.stderr
    assert "at step 3" in done.stdout
    curves, after = read_metrics(whole), read_metrics(run)
    for name in CURVES:
        expected = {step: value for step, value in curves[name].items() if step > 3}
        assert after[name] == pytest.approx(expected, rel=RTOL), name


def test_a_longer_budget_that_brings_the_shortcuts_back_says_so(acn, recipe, residual, whole, tmp_path):
    """As a longer budget brings back the learning rate."""
    continued(whole, tmp_path / "longer", step=6)
    longer = beside(residual) | {"steps": 14, "validation": ValidationConfig(every=0, blocks=10)}
    done = acn("pretrain", "--config", str(recipe("longer", **longer)))
    assert done.returncode == 0, done.stderr
    assert "WARNING: the shortcuts are back at scale 0.139; the checkpoint was trained at 0" in done.stdout
    assert newest_complete(tmp_path / "longer").progress.shortcut_scale == 0


def test_a_run_killed_in_the_middle_of_annealing_ends_with_the_same_bits(acn, recipe, residual, whole, tmp_path):
    config = recipe("killed", **beside(residual))
    run = start(held_rank.launch, tmp_path, config, 4, merge_stderr=True)
    wait_until(lambda: len(list(tmp_path.glob("held-?"))) == 1, run)
    run.signal_group(signal.SIGKILL)
    run.wait()
    again = acn("pretrain", "--config", str(config))
    assert again.returncode == 0, again.stderr
    assert "at step 3" in again.stdout
    killed = tmp_path / "killed"
    curves, after = read_metrics(whole), read_metrics(killed)
    assert all(after[name] == curves[name] for name in CURVES)
    for folder in ("model", "model-ema"):
        ours, theirs = (load_file(path / folder / "model.safetensors") for path in (killed, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_what_is_left_is_a_plain_acn_that_loads_without_the_project(prepared, residual, whole, tmp_path):
    """No word of teacher, projection or scale in any of its files, and the code beside it is the family's."""
    content = json.loads((whole / "model" / "config.json").read_text())
    assert content["connectivity"] == "acn"
    assert not {"anneal", "teacher", "shortcut_scale", "projection"} & content.keys()
    for folder in ("model", "model-ema"):
        names = load_file(whole / folder / "model.safetensors").keys()
        assert names == load_file(residual / "model.safetensors").keys()
        assert not any("projection" in name or "shortcut" in name for name in names)
    inputs = {"input_ids": torch.randint(5, 50, (2, 9))}
    model = AutoModel.from_pretrained(whole / "model").eval()
    expected = model(**inputs, output_hidden_states=True).hidden_states
    elsewhere = shutil.copytree(whole / "model", tmp_path / "folders" / "AcnModel")
    torch.save((inputs, [read_out.detach() for read_out in expected], "AutoModel"), elsewhere / "case.pt")
    assert "loaded AcnModel" in load_elsewhere(tmp_path / "folders", tmp_path)


def test_what_is_exported_in_the_middle_says_that_it_is_a_hybrid_and_computes_what_was_trained(
    whole, residual, tmp_path, capsys
):
    checkpoint = whole / "checkpoints" / "step-0000003"
    assert main(["export", str(checkpoint), str(tmp_path / "middle")]) == 0
    assert "it is a hybrid: its shortcuts are annealed, at scale 0.316" in capsys.readouterr().out
    found = AutoModelForMaskedLM.from_pretrained(tmp_path / "middle").eval()
    assert found.config.connectivity == "hybrid"
    scale = newest_complete(whole).progress.shortcut_scale
    assert scale == 0
    weights = {name: value for name, value in found.state_dict().items() if not name.endswith("shortcut.scale")}
    plain = AcnForMaskedLM(AcnConfig(**found.config.to_dict() | {"connectivity": "acn"})).eval()
    plain.load_state_dict(weights)
    Annealing(ANNEAL, [plain], torch.device("cpu")).set(ANNEAL.scale(2 / STEPS))
    ids = torch.randint(5, 50, (2, 9))
    torch.testing.assert_close(found(ids).logits, plain(ids).logits)


@pytest.mark.parametrize("begun", [{"anneal": ANNEAL}, {"anneal": AnnealConfig(), "carry_shortcuts": True}], ids=str)
def test_a_match_alone_is_the_same_at_every_stage(acn, recipe, residual, tmp_path, begun):
    """The head for masked tokens gets no gradient then, which no stage may stumble over."""
    alone = SETTINGS | begun | {"init_from": str(residual), "teacher": TeacherConfig(weight=1.0, mlm_weight=0.0)}
    curves = []
    for ranks, stage in ((1, 0), (2, 3)):
        name = f"stage{stage}"
        done = acn("pretrain", "--config", str(recipe(name, ranks, zero_stage=stage, **alone)))
        assert done.returncode == 0, done.stderr
        assert f"step {STEPS}  validation match" in done.stdout
        carried = "shortcuts: carried by 1 of 2 heads and 12 of 24 units of every layer"
        assert (carried in done.stdout) == ("carry_shortcuts" in begun)
        curves.append(read_metrics(tmp_path / name))
        assert "validation/accuracy" not in curves[-1]
    for name in ("train/loss", "train/match", "validation/match_depth_01", "validation_ema/match_depth_02"):
        assert curves[1][name] == pytest.approx(curves[0][name], rel=RTOL), name
    assert curves[0]["train/loss"] == curves[0]["train/match"]
