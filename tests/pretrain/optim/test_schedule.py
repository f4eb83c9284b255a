"""The optimizer's groups and the learning rate."""

import pytest
import torch

from modeling import AcnConfig, AcnForMaskedLM
from pretrain.optim.optimizers import OptimConfig, build_optimizer, muon_matrices
from pretrain.optim.schedule import ScheduleConfig


def test_only_matrices_and_embeddings_decay():
    model = AcnForMaskedLM(AcnConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    decayed, plain = build_optimizer(model, OptimConfig(weight_decay=0.1)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all("bias" in names[id(p)] or "norm" in names[id(p)].lower() for p in plain["params"])
    assert not any("bias" in names[id(p)] or "norm" in names[id(p)].lower() for p in decayed["params"])
    assert len(plain["params"]) + len(decayed["params"]) == len(names)


def test_the_rate_rises_for_the_first_half_and_falls_for_the_second():
    factors = [ScheduleConfig(warmup_fraction=0.5).factor(step, 10) for step in range(10)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_step_has_a_positive_rate_of_at_most_the_peak(warmup, steps):
    factors = [ScheduleConfig(warmup).factor(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_bad_values_name_their_field():
    found = OptimConfig(lr=0, betas=(0.9, 1.0), grad_clip=-1).problems() + ScheduleConfig(2.0).problems()
    assert [problem.field for problem in found] == [
        "optim.lr",
        "optim.betas",
        "optim.grad_clip",
        "schedule.warmup_fraction",
    ]


def test_muon_takes_the_hidden_matrices_and_leaves_tables_and_vectors_to_adamw():
    model = AcnForMaskedLM(AcnConfig(vocab_size=40, hidden_size=8, num_hidden_layers=2, num_attention_heads=2))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = {names[id(p)] for p in muon_matrices(model)}
    projections = ("attention.qkv_proj", "attention.out_proj", "mlp.up_proj", "mlp.down_proj")
    expected = {f"acn.layers.{layer}.{name}.weight" for layer in range(2) for name in projections}
    assert taken == expected | {"head.dense.weight"}
    groups = build_optimizer(model, OptimConfig(name="muon")).param_groups
    assert sorted(names[id(p)] for group in groups for p in group["params"]) == sorted(names.values())
    assert {names[id(p)] for group in groups if group["use_muon"] for p in group["params"]} == taken


@pytest.mark.parametrize(
    ("config", "stage", "offloaded", "precision", "message"),
    [
        (OptimConfig(name="lamb"), 3, False, "fp32", "zero_stage=3"),
        (OptimConfig(name="lamb"), 1, True, "fp32", "offload.optimizer"),
        (OptimConfig(name="muon"), 1, False, "fp32", "optim.grad_clip=0.5"),
        (OptimConfig(name="muon", grad_clip=0), 2, False, "fp16", "precision=fp16"),
    ],
)
def test_an_optimizer_that_sharding_would_make_wrong_is_refused(config, stage, offloaded, precision, message):
    [problem] = config.sharding_problems(stage, offloaded, precision)
    assert message in str(problem)
    assert f"optim.name={config.name}" in str(problem)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon"])
def test_a_step_without_gradients_changes_nothing(name):
    model = AcnForMaskedLM(AcnConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    optimizer = build_optimizer(model, OptimConfig(name=name))
    model(torch.arange(10)[None], labels=torch.arange(10)[None]).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    optimizer.step()
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())
