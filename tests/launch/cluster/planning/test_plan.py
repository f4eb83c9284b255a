"""`acn plan`: what it adds up, what it advises, and how it refuses."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import Problem
from launch.cli import main
from launch.cluster.planning import PlanConfig, find_gpu, plan_run
from launch.cluster.planning.render import advice
from launch.cluster.planning.search import fits_on, largest
from launch.errors import LaunchError
from modeling import AcnConfig, AcnModel
from pretrain import ModelConfig, PretrainConfig
from pretrain.distil import TeacherConfig

BASE = ["plan", "--config", "acn-base"]


def planned(**given) -> PlanConfig:
    """A cluster and a recipe, from the fields of both."""
    cluster = {field.name for field in fields(PlanConfig)}
    recipe = {name: value for name, value in given.items() if name not in cluster} | {"output": ""}
    return PlanConfig(
        recipe=PretrainConfig(**{"data": "", **recipe}),
        **{name: value for name, value in given.items() if name in cluster},
    )


def test_the_papers_recipe_on_four_nodes():
    plan = plan_run(planned(nodes=4, gpus=8, gpu="H100", steps=38_000, micro_batch_size=256))
    assert plan.parameters == pytest.approx(111e6, rel=0.01)
    # 6 FLOPs per weight and token: those of eleven layers, of the last one's keys and values, and of the rest of it and
    # the head on 19 of 128 tokens; and attention
    targets = 19 / 128
    layers, head = (11 * 12 + 2 + 10 * targets) * 768**2, 768 * (768 + 32768) * targets
    attention = (11 + targets) * 2 * 128 * 768
    assert plan.flops_per_token == pytest.approx(6 * (layers + head) + 6 * attention, rel=0.01)
    assert plan.tokens_per_step == 2048 * 128
    assert (plan.micro_batch, plan.accumulation) == (64, 1)  # 64 blocks are a GPU's whole share
    compute = 2048 * 128 * plan.flops_per_token / (32 * 989e12 * 0.4)
    assert plan.tokens_per_second == pytest.approx(2048 * 128 / (compute + plan.step_time.exposed))
    acn, twin, half = plan.courses
    assert acn.tokens == twin.tokens == 2 * half.tokens == 38_000 * 2048 * 128
    assert acn.gpu_hours == pytest.approx(acn.tokens / plan.tokens_per_second / 3600 * 32)


def test_a_teacher_costs_its_forward_pass_and_a_copy_on_every_gpu(tmp_path):
    """BERT-base teaches the recipe's model of the same sizes: 6 FLOPs per weight and token, and 2 of the teacher."""
    config = AcnConfig(connectivity="residual", vocab_size=30522)
    config.save_pretrained(tmp_path)
    plain = plan_run(planned(gpus=8, vocab_size=30522, steps=100, micro_batch_size=64))
    sizes = {"gpus": 8, "vocab_size": 30522, "steps": 100, "micro_batch_size": 64}
    alone = TeacherConfig(weight=1.0, model=str(tmp_path), mlm_weight=0.0)
    plan = plan_run(planned(**sizes, teacher=alone))
    layers, attention, projection = 12 * 12 * 768**2, 12 * 2 * 128 * 768, 768**2
    assert plan.flops_per_token == pytest.approx(6 * (layers + attention + projection) + 2 * (layers + attention))
    both = plan_run(planned(**sizes, teacher=replace(alone, mlm_weight=1.0)))
    head = 768 * (768 + 30522) * 19 / 128
    assert both.flops_per_token == pytest.approx(plan.flops_per_token + 6 * head)
    encoder = sum(p.numel() for p in AcnModel(config, add_pooling_layer=False).parameters())
    assert {layout.teacher for layout in plan.layouts} == {2 * encoder}, "bf16, and no stage shards it"
    assert plan.parameters == plain.parameters + 768**2 + 3 * 768
    assert all(ours.total > theirs.total for ours, theirs in zip(both.layouts, plain.layouts, strict=True))
    with pytest.raises(LaunchError, match=r"teacher\.model=/nowhere is not there"):
        plan_run(planned(**sizes, teacher=replace(alone, model="/nowhere")))


def test_it_takes_the_measures_that_a_small_gpu_needs():
    roomy = plan_run(planned(gpus=1, gpu="H100", micro_batch_size=256))
    assert advice(roomy) == "Take --zero_stage 1 --micro_batch_size 256"
    tight = plan_run(planned(gpus=1, gpu="H100", gpu_memory=10, micro_batch_size=256))
    assert tight.best is not None
    assert tight.best.checkpointing
    assert "--activation_checkpointing true" in advice(tight)
    hopeless = plan_run(planned(gpus=1, gpu="H100", gpu_memory=3, micro_batch_size=2048))
    assert hopeless.best is None
    assert "make micro_batch_size smaller" in advice(hopeless)


def test_a_reversible_model_keeps_the_same_at_any_depth_and_computes_its_layers_once_more(capsys):
    plans = []
    for layers in (12, 48):
        model = ModelConfig(connectivity="reversible", num_hidden_layers=layers)
        plans.append(plan_run(planned(nodes=1, gpus=8, gpu="H100", steps=1000, model=model)))
    twin = plan_run(planned(nodes=1, gpus=8, gpu="H100", steps=1000, model=ModelConfig(connectivity="residual")))
    assert plans[0].best.activations == plans[1].best.activations < twin.best.activations
    assert not any(layout.checkpointing for layout in plans[0].layouts)
    assert plans[0].flops_per_token == twin.flops_per_token
    # eleven layers of 12 H^2 weights and their attention; the last one, limited to the masked positions, keeps its own
    assert plans[0].recomputed_flops_per_token == 11 * (2 * 12 * 768**2 + 4 * 128 * 768)
    hardware = plans[0].flops_per_token + plans[0].recomputed_flops_per_token
    assert plans[0].step_time.compute / twin.step_time.compute == pytest.approx(hardware / twin.flops_per_token)
    assert (twin.recomputed_flops_per_token, len(twin.courses), len(plans[0].courses)) == (0, 3, 1)
    assert main(["plan", "--config", "acn-base", "--options", "--model.connectivity reversible"]) == 0
    assert "computed again, which the times count" in " ".join(capsys.readouterr().out.split())


def test_a_price_follows_from_the_hours():
    plan = plan_run(planned(price_per_gpu_hour=2.0))
    assert all(course.price == pytest.approx(2 * course.gpu_hours) for course in plan.courses)


def test_a_prepared_corpus_says_its_vocabulary_and_length(prepared):
    model = ModelConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    plan = plan_run(planned(data=str(prepared), steps=None, epochs=2.0, gpus=1, global_batch_size=8, model=model))
    assert plan.seq_length == 16
    assert plan.vocab_size < 32768
    assert plan.steps is not None
    assert plan.courses[0].tokens == plan.steps * 8 * 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpu": "abacus"}, "give --gpu_memory and --gpu_tflops"),
        ({"gpu": "V100", "precision": "bf16"}, "give --gpu_tflops"),
        ({"steps": None, "epochs": 2.0}, "give --data"),
        ({"seq_length": 1024}, "max_position_embeddings=512 is below seq_length=1024"),
        ({"model": ModelConfig(hidden_size=30, num_attention_heads=4)}, "hidden_size=30 is not a multiple"),
    ],
)
def test_what_cannot_be_planned_says_why(fields, message):
    with pytest.raises(LaunchError, match=message):
        plan_run(planned(**fields))


def test_all_problems_are_said_together():
    with pytest.raises(LaunchError) as caught:
        plan_run(planned(nodes=3, mfu=1.5, gpu="abacus"))
    for part in ("mfu=1.5", "not a multiple of the 24 GPUs", "gpu=abacus"):
        assert part in str(caught.value)


def test_gpus_are_found_as_people_and_drivers_write_them():
    for name in ("H100", "NVIDIA H100 80GB HBM3", "h100"):
        gpu = find_gpu(name, "bf16")
        assert not isinstance(gpu, Problem)
        assert (gpu.memory, gpu.flops) == (80e9, 989e12)
    light = find_gpu("L4", "bf16")
    assert not isinstance(light, Problem)
    assert light.flops == 121e12


def test_the_command_prints_the_tables_and_writes_json(tmp_path, capsys):
    assert main([*BASE, "--nodes", "4", "--gpus", "8", "--gpu", "H100", "--json", str(tmp_path / "plan.json")]) == 0
    printed = capsys.readouterr().out
    parts = ("111.2 million", "3, checkpointing, offload", "Take --zero_stage 1", "residual, half the tokens")
    for part in (*parts, "Step time by number of GPUs, ZeRO stage 1", "1,024", "360 GB/s per GPU within a node"):
        assert part in printed
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["best"]["stage"] == 1
    assert len(plan["layouts"]) == 14
    assert [time["ranks"] for time in plan["other_sizes"]] == [8, 16, 64, 128, 256, 512, 1024]
    assert plan["tokens_per_second"] == plan["step_time"]["tokens_per_second"]


def test_a_search_without_a_gpu_is_refused(capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main([*BASE, "--find_micro_batch", "true"]) == 2
    assert "no GPU" in capsys.readouterr().err


@given(room=st.integers(0, 5000), limit=st.integers(1, 4096))
def test_the_search_finds_the_largest_power_of_two_that_fits(room, limit):
    expected = max([0, *(2**k for k in range(13) if 2**k <= min(room, limit))])
    assert largest(lambda size: size <= room, limit) == expected


def test_a_trial_is_a_real_training_step():
    import torch

    from modeling import AcnConfig

    config = AcnConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=50)
    for checkpointing in (False, True):
        fits = fits_on(torch.device("cpu"), config, 8, 2, torch.float32, checkpointing)
        assert fits(4)
