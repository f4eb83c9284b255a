"""A reversible model in `acn pretrain`: every ZeRO stage on two ranks, resumed, exported, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from modeling import AcnConfig, AcnForMaskedLM
from pretrain import ModelConfig, PretrainError, check_run
from pretrain.checkpoints import CheckpointConfig
from pretrain.distil import AnnealConfig
from pretrain.observe import ProbesConfig
from tests.pretrain.conftest import continued, tiny, write_recipe
from tests.pretrain.distil.conftest import save_residual
from tests.processes import run_acn

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 16, "connectivity": "reversible",
}  # fmt: skip
PLAIN = ModelConfig(**SIZES)
DROPPED = ModelConfig(**SIZES, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["train/loss"] for row in rows if "train/loss" in row]


def trained(prepared: Path, run: Path, ranks: int = 2, **fields) -> Path:
    path = write_recipe(run, tiny(prepared, run, **{"model": PLAIN} | fields), nproc_per_node=ranks)
    done = run_acn("pretrain", "--config", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    return run


def test_all_zero_stages_train_the_same_model_on_two_ranks(prepared, tmp_path):
    """Also the norms of the gradients by layer, which listen to the streams between layers."""
    runs = [
        trained(prepared, tmp_path / f"stage-{stage}", zero_stage=stage, probes=ProbesConfig(every=3))
        for stage in (0, 1, 2, 3)
    ]
    curves = [losses(run) for run in runs]
    assert len(curves[0]) == 6
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], rel=1e-5)
    probed = []
    for run in runs:
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        probed.append([value for row in rows for name, value in sorted(row.items()) if name.startswith("probe/")])
    assert len(probed[0]) >= 12
    for values in probed[1:]:
        assert values == pytest.approx(probed[0], rel=1e-3)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_resumed_run_with_dropout_ends_as_one_that_was_not_stopped(prepared, tmp_path, stage):
    fields = {"model": DROPPED, "zero_stage": stage, "checkpoint": CheckpointConfig(every=3, keep=9)}
    whole = trained(prepared, tmp_path / "whole", **fields)
    continued(whole, tmp_path / "again", 3)
    again = trained(prepared, tmp_path / "again", **fields)
    assert losses(again)[-3:] == pytest.approx(losses(whole)[-3:], rel=1e-6)
    exported = AcnForMaskedLM.from_pretrained(again / "model")
    assert exported.config.connectivity == "reversible"
    shallow = AcnForMaskedLM.from_pretrained(again / "model", num_hidden_layers=1)
    ids = torch.randint(5, 60, (2, 9))
    assert torch.equal(shallow(ids).logits, exported(ids, depth=1).logits)


def test_compiled_layers_train_the_same_model(prepared, tmp_path):
    eager = trained(prepared, tmp_path / "eager", ranks=1)
    compiled = trained(prepared, tmp_path / "compiled", ranks=1, compile=True)
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"activation_checkpointing": True},
            "activation_checkpointing=true does not go with model.connectivity",
        ),
        ({"compile": "graphs"}, "compile=graphs does not go with model.connectivity=reversible"),
        ({"anneal": AnnealConfig(share=0.5)}, "anneal.share=0.5 is for model.connectivity acn"),
        ({"carry_shortcuts": True, "init_from": "x"}, "is for model.connectivity acn, not reversible"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tiny_run, fields, message):
    with pytest.raises(PretrainError) as caught:
        check_run(tiny_run(model=PLAIN, **fields), world_size=1)
    assert message in str(caught.value)


def test_weights_of_other_layers_are_refused_both_ways(tiny_run, prepared, tmp_path):
    other, own = save_residual(prepared, tmp_path / "residual"), tmp_path / "reversible"
    shutil.copytree(other, own)
    AcnForMaskedLM(AcnConfig.from_pretrained(other, connectivity="reversible")).save_pretrained(own)
    with pytest.raises(PretrainError, match=r"connectivity=reversible cannot begin with weights of connectivity resid"):
        check_run(tiny_run(model=ModelConfig(connectivity="reversible"), init_from=str(other)), world_size=1)
    with pytest.raises(PretrainError, match=r"connectivity=acn cannot begin with weights of connectivity reversible"):
        check_run(tiny_run(model=ModelConfig(), init_from=str(own)), world_size=1)
    check_run(tiny_run(model=ModelConfig(connectivity="reversible"), init_from=str(own)), world_size=1)
