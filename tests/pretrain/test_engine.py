"""DeepSpeed's configuration is generated from ours, and any key of it can be overridden."""

import json

from pretrain.deepspeed_options import OffloadConfig, merged, overrides
from pretrain.engine import deepspeed_config


def test_dotted_keys_open_up_and_text_becomes_numbers():
    given = {"zero_optimization": {"reduce_bucket_size": "1e6", "sub.overlap": "true"}, "a.b.c": "x", "a.b.d": 3}
    assert overrides(given) == {
        "zero_optimization": {"reduce_bucket_size": 1_000_000, "sub": {"overlap": True}},
        "a": {"b": {"c": "x", "d": 3}},
    }


def test_merging_wins_key_by_key_and_changes_nothing_it_was_given():
    below = {"zero": {"stage": 1, "bucket": 5}, "x": 1}
    assert merged(below, {"zero": {"bucket": 6}}) == {"zero": {"stage": 1, "bucket": 6}, "x": 1}
    assert below == {"zero": {"stage": 1, "bucket": 5}, "x": 1}


def test_the_generated_configuration_follows_the_recipe(tiny_run):
    offload, override = OffloadConfig(optimizer="cpu"), {"bf16.check_grad_overflow": "false"}
    config = tiny_run(zero_stage=3, precision="bf16", offload=offload, deepspeed=override)
    settings = deepspeed_config(config, world_size=2, parameters=1000)
    assert settings["gradient_accumulation_steps"] == 2
    assert settings["zero_optimization"]["stage"] == 3
    assert settings["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}
    assert settings["zero_optimization"]["reduce_bucket_size"] == 1024
    assert settings["bf16"] == {"enabled": True, "check_grad_overflow": False}
    assert settings["data_types"] == {"grad_accum_dtype": "fp32"}


def test_an_override_reaches_deepspeed_and_is_saved_with_the_run(acn, recipe, tmp_path):
    option = "--deepspeed.zero_optimization.reduce_bucket_size"
    done = acn("pretrain", "--config", str(recipe("run", steps=1)), option, "2e3")
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "run" / "deepspeed.json").read_text())
    assert saved["zero_optimization"]["reduce_bucket_size"] == 2000
