"""A teacher that does not fit, and an annealing that cannot end, are refused before anything runs."""

import json
from pathlib import Path

import pytest
from transformers import GPT2Config

from pretrain import ModelConfig, PretrainError, check_run
from pretrain.distil import AnnealConfig, TeacherConfig
from tests.pretrain.distil.conftest import SIZES, save_residual
from tests.pretrain.test_courses import write_marker


def taught_by(folder: Path) -> dict:
    return {"model": ModelConfig(**SIZES), "teacher": TeacherConfig(weight=1.0, model=str(folder))}


def refused(config) -> str:
    with pytest.raises(PretrainError) as caught:
        check_run(config, world_size=1)
    assert not Path(config.output).exists()
    return str(caught.value)


def test_a_teacher_of_the_corpuss_tokenizer_and_the_models_width_passes(tiny_run, residual):
    check_run(tiny_run(**taught_by(residual)), world_size=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 24}, "hidden_size=24, the model 16: set model.hidden_size to the teacher's"),
        ({"max_position_embeddings": 8}, "max_position_embeddings=8, the corpus seq_length=16: prepare shorter blocks"),
    ],
)
def test_a_teacher_of_other_sizes_is_refused(tiny_run, prepared, tmp_path, fields, message):
    folder = save_residual(prepared, tmp_path / "teacher", **fields)
    assert f"teacher.model: {folder} has {message}" in refused(tiny_run(**taught_by(folder)))


def test_a_teacher_of_another_vocabulary_or_tokenizer_is_refused(tiny_run, prepared, residual, tmp_path):
    fix = "prepare the corpus with `acn prepare --tokenizer` and the teacher's name or folder"
    folder = save_residual(prepared, tmp_path / "teacher")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert f"{folder} has another tokenizer than the corpus: {fix}" in refused(tiny_run(**taught_by(folder)))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    assert f"{folder} has vocab_size=50, the corpus {config['vocab_size']}: {fix}" in refused(
        tiny_run(**taught_by(folder))
    )


def test_what_is_no_teacher_at_all_is_refused(tiny_run, prepared, tmp_path):
    assert "teacher.model=/nowhere is not there" in refused(tiny_run(**taught_by(Path("/nowhere"))))
    GPT2Config().save_pretrained(tmp_path / "gpt")
    assert "is of model_type 'gpt2', which is none of acn, bert" in refused(tiny_run(**taught_by(tmp_path / "gpt")))
    folder = save_residual(prepared, tmp_path / "teacher")
    for file in folder.glob("*token*"):
        file.unlink()
    assert "cannot be loaded" in refused(tiny_run(**taught_by(folder)))


def test_the_default_teacher_is_checked_once_as_what_the_run_starts_from(tiny_run, prepared, tmp_path):
    folder = save_residual(prepared, tmp_path / "start", max_position_embeddings=8)
    config = tiny_run(model=ModelConfig(), init_from=str(folder), teacher=TeacherConfig(weight=1.0))
    assert "teacher.model" not in refused(config)


def test_an_annealing_that_leaves_no_step_without_shortcuts_is_refused(tiny_run):
    check_run(tiny_run(steps=10, anneal=AnnealConfig(share=0.9)), world_size=1)
    message = "anneal.share=0.95 of 10 steps leaves none at scale 0"
    assert message in refused(tiny_run(steps=10, anneal=AnnealConfig(share=0.95)))


def test_a_checkpoint_with_a_projection_goes_on_with_a_teacher_and_one_without_does_not(tiny_run, residual, tmp_path):
    with_teacher = taught_by(residual)
    for before, now, held in ((with_teacher, {}, "has"), ({}, with_teacher, "lacks")):
        fields = {"model": ModelConfig(**SIZES), "output": str(tmp_path / held)}
        write_marker(tiny_run(**fields | before))
        check_run(tiny_run(**fields | before), world_size=1)
        with pytest.raises(PretrainError, match=f"{held} the states of the projection that only a run with a teacher"):
            check_run(tiny_run(**fields | now), world_size=1)


def test_a_residual_run_begins_an_acn_but_no_hybrid(tiny_run, tmp_path):
    source = tiny_run(output=str(tmp_path / "source"), model=ModelConfig(**SIZES, connectivity="residual"))
    write_marker(source)
    check_run(tiny_run(model=ModelConfig(**SIZES), init_from=source.output), world_size=1)
    hybrid = tiny_run(model=ModelConfig(**SIZES, connectivity="hybrid"), init_from=source.output)
    with pytest.raises(PretrainError, match="connectivity=hybrid, but"):
        check_run(hybrid, world_size=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_from": None}, "carry_shortcuts=true needs a residual model to start from: name it in init_from"),
        ({"anneal": AnnealConfig(share=0.5)}, "carry_shortcuts=true does not go with anneal.share"),
        (
            {"model": ModelConfig(connectivity="residual")},
            "carry_shortcuts=true is for model.connectivity acn, not residual",
        ),
    ],
)
def test_shortcuts_that_nothing_can_carry_are_refused(tiny_run, residual, fields, message):
    run = {"model": ModelConfig(), "init_from": str(residual), "carry_shortcuts": True}
    assert message in refused(tiny_run(**run | fields))
    check_run(tiny_run(**run), world_size=1)


@pytest.mark.parametrize("connectivity", ["acn", "residual"])
def test_only_a_residual_run_has_shortcuts_to_carry(tiny_run, tmp_path, connectivity):
    source = tiny_run(output=str(tmp_path / "source"), model=ModelConfig(**SIZES, connectivity=connectivity))
    write_marker(source)
    run = tiny_run(model=ModelConfig(**SIZES), init_from=source.output, carry_shortcuts=True)
    if connectivity == "residual":
        check_run(run, world_size=1)
    else:
        assert "carry_shortcuts: what init_from names has connectivity acn, and no shortcuts to carry" in refused(run)


def test_a_model_of_one_head_cannot_carry(tiny_run, prepared, tmp_path):
    folder = save_residual(prepared, tmp_path / "one", num_attention_heads=1)
    run = tiny_run(model=ModelConfig(), init_from=str(folder), carry_shortcuts=True)
    assert "carry_shortcuts needs two attention heads at least: set anneal.share instead" in refused(run)
