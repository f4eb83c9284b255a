"""Everything wrong with a run is said at once, before anything is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pretrain import ModelConfig, PretrainError, check_run
from pretrain.checkpoints import MARKER, CheckpointConfig
from pretrain.deepspeed_options import OffloadConfig
from pretrain.health import HealthConfig
from pretrain.optim.optimizers import OptimConfig


def test_a_sound_run_passes_and_nothing_is_written(tiny_run):
    config = tiny_run()
    check_run(config, world_size=2)
    assert not Path(config.output).exists()


def test_a_micro_batch_may_be_larger_than_a_ranks_share_of_the_global_batch(tiny_run):
    config = tiny_run(global_batch_size=8, micro_batch_size=64)
    check_run(config, world_size=2)
    assert config.micro_batch(world_size=2) == 4


def test_all_problems_are_reported_together(tiny_run):
    config = tiny_run(steps=0, optim=OptimConfig(lr=-1.0))
    with pytest.raises(PretrainError) as caught:
        check_run(config, world_size=1)
    assert "steps=0" in str(caught.value)
    assert "optim.lr=-1.0" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "world_size", "message"),
    [
        ({"data": "/nowhere"}, 1, "/nowhere does not exist"),
        ({"global_batch_size": 9}, 2, "global_batch_size=9 is not a multiple of the 2 ranks"),
        ({"micro_batch_size": 3}, 1, "micro_batch_size=3 does not divide"),
        ({"global_batch_size": 14, "micro_batch_size": 1}, 7, "7 ranks do not divide the 12 lanes"),
        ({"model": ModelConfig(connectivity="dense")}, 1, "connectivity='dense' is unknown"),
        ({"model": ModelConfig(hidden_size=30, num_attention_heads=4)}, 1, "hidden_size=30 is not a multiple"),
        ({"model": ModelConfig(max_position_embeddings=8)}, 1, "model.max_position_embeddings=8 is below"),
        ({"model": ModelConfig(hidden_act="jump")}, 1, "hidden_act='jump' is unknown"),
        ({"deepspeed": {"zero_optimization.stage": 3}}, 1, "deepspeed.zero_optimization.stage: set zero_stage instead"),
        ({"offload": OffloadConfig(parameters="cpu")}, 1, "offload.parameters=cpu needs zero_stage 3, not 1"),
        ({"offload": OffloadConfig(optimizer="nvme")}, 1, "offload.nvme_path is missing"),
        ({"checkpoint": CheckpointConfig(every=10, keep_every=15)}, 1, "keep_every=15 must be a multiple"),
        ({"health": HealthConfig(spike=-1.0)}, 1, "health.spike=-1.0 must be above 0"),
        ({"output": "runs[2]/a"}, 1, r"output=runs\[2\]/a has a sign of file name patterns"),
        ({"stop_after_hours": 0.0}, 1, "stop_after_hours=0.0 must be above 0"),
    ],
)
def test_each_mistake_is_named(tiny_run, overrides, world_size, message):
    with pytest.raises(PretrainError, match=message):
        check_run(tiny_run(**overrides), world_size)


def test_a_folder_that_is_not_a_run_is_left_alone(tiny_run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(PretrainError, match="is not a run of `acn pretrain`"):
        check_run(tiny_run(), world_size=1)


def test_a_checkpoint_of_another_run_is_not_continued(tiny_run, prepared):
    config = tiny_run()
    run = Path(config.output)
    _write_checkpoint(config, run)
    check_run(config, world_size=1)
    other = replace(config, model=replace(config.model, connectivity="residual"))
    with pytest.raises(PretrainError) as caught:
        check_run(other, world_size=1)
    assert "model: connectivity=residual" in str(caught.value)
    check_run(replace(config, zero_stage=2), world_size=2)  # another layout of the same run is welcome
    with pytest.raises(PretrainError, match="order: seed=9"):
        check_run(replace(config, stream=replace(config.stream, seed=9)), world_size=1)


def _write_checkpoint(config, run):
    """The marker of a checkpoint with no files: enough for the checks."""
    from dataclasses import asdict

    from data_pipeline import TokenStream
    from pretrain.check import first_progress

    stream = TokenStream(Path(config.data), config.stream, config.masking)
    progress = first_progress(config, stream, world_size=1)
    folder = run / "checkpoints" / "step-0000003"
    folder.mkdir(parents=True)
    (run / "config.yaml").write_text("")
    (folder / MARKER).write_text(json.dumps({"progress": asdict(progress), "files": {}}))
