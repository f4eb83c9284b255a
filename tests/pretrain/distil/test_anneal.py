"""The scale of annealed shortcuts, and the layers that have them."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from modeling import AcnForMaskedLM
from pretrain.budget import Plan
from pretrain.distil import AnnealConfig
from pretrain.distil.anneal import Annealing
from tests.modeling.reference import read_outs
from tests.pretrain.distil.conftest import residual_config

CPU = torch.device("cpu")
SHAPES = ("linear", "cosine", "geometric")


def acn(seed: int = 0, **fields) -> AcnForMaskedLM:
    torch.manual_seed(seed)
    config = residual_config(**fields)
    config.connectivity = "acn"
    return AcnForMaskedLM(config)


def annealed(scale: float, **fields) -> AcnForMaskedLM:
    model = acn(**fields)
    Annealing(AnnealConfig(share=0.5), [model], CPU).set(scale)
    return model


def test_the_scale_over_a_run_of_ten_steps():
    def scales(**fields) -> list[float]:
        plan = Plan(8, 1e-3, steps=10, anneal=AnnealConfig(share=0.4, **fields))
        return [plan.shortcut_scale(step, 0.0) for step in range(10)]

    assert scales(shape="linear") == pytest.approx([1, 0.75, 0.5, 0.25, *[0] * 6])
    assert scales(shape="cosine", start=2.0) == pytest.approx([2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, *[0] * 6])
    assert scales(shape="geometric", floor=1 / 16) == pytest.approx([1, 1 / 2, 1 / 4, 1 / 8, *[0] * 6])
    assert scales(shape="geometric")[4:] == [0.0] * 6, "exactly nothing"
    assert [AnnealConfig().scale(fraction) for fraction in (0.0, 0.5, 1.0)] == [0.0] * 3, "off unless asked for"


def test_a_budget_of_hours_anneals_by_the_clock():
    plan = Plan(8, 1e-3, seconds=100.0, anneal=AnnealConfig(share=0.5, shape="linear"))
    assert [plan.shortcut_scale(step, seconds) for step, seconds in ((0, 0.0), (7, 25.0), (8, 50.0))] == [1, 0.5, 0]


@given(st.sampled_from(SHAPES), st.floats(0.01, 0.99), st.floats(0.1, 3), st.floats(0, 1), st.floats(0, 1))
def test_the_scale_only_goes_down_and_is_gone_after_its_share(shape, share, start, one, other):
    config = AnnealConfig(share=share, start=start, shape=shape)
    assert config.scale(0.0) == start
    earlier, later = (config.scale(fraction) for fraction in sorted((one, other)))
    assert start >= earlier >= later >= 0
    assert (later == 0) == (max(one, other) >= share)


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_annealed_layers_are_the_equations_in_float64(scale):
    model = annealed(scale).double().eval()
    ids, types = torch.randint(5, 53, (3, 11)), torch.randint(0, 2, (3, 11))
    weights = {name: value.detach().numpy() for name, value in model.acn.state_dict().items()}
    weights |= {f"layers.{layer}.shortcut.scale": np.array([np.float32(scale)], np.float64) for layer in range(2)}
    inputs = {"input_ids": ids.numpy(), "token_type_ids": types.numpy(), "attention_mask": np.ones((3, 11))}
    expected = read_outs(weights, inputs, "hybrid", layers=2, heads=2, eps=1e-12)
    found = model.acn(ids, token_type_ids=types, output_hidden_states=True).hidden_states
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.detach().numpy(), theirs, rtol=1e-12, atol=1e-12)


def test_at_scale_one_every_layer_is_a_berts():
    """Only the read-out differs: the sum of what a residual model's layers give."""
    model = annealed(1.0).eval()
    twin = AcnForMaskedLM(residual_config()).eval()
    twin.load_state_dict(model.state_dict())
    ids = torch.randint(5, 53, (2, 9))
    layers = twin.acn(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(model.acn(ids).last_hidden_state, sum(layers[1:], layers[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_scale_zero_it_is_an_acn_bit_for_bit(dtype):
    ids, positions = torch.randint(5, 53, (2, 9)), torch.tensor([[1, 4], [2, 3]])
    found = []
    for model in (acn(), annealed(0.0)):
        model.to(dtype).train()
        outputs = model(ids, masked_positions=positions, labels=ids.gather(1, positions))
        outputs.loss.backward()
        found.append([outputs.logits, *(p.grad for p in model.parameters())])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_the_scale_comes_and_goes_and_is_no_state():
    model, twin = acn(), acn()
    annealing = Annealing(AnnealConfig(share=0.5), [model], CPU)
    assert model.state_dict().keys() == twin.state_dict().keys()
    ids = torch.randint(5, 53, (2, 9))
    plain = twin.acn(ids).last_hidden_state
    for scale, is_plain in ((1.0, False), (0.0, True), (0.5, False), (0.0, True)):  # a run may go back
        annealing.set(scale)
        assert torch.equal(model.acn(ids).last_hidden_state, plain) == is_plain


def test_the_precision_of_the_layers_stays():
    model = annealed(0.3).bfloat16()
    assert model.acn(torch.randint(5, 53, (2, 9))).last_hidden_state.dtype == torch.bfloat16


def test_a_run_without_annealing_keeps_its_layers():
    model = acn()
    before = [layer.shortcut for layer in model.acn.layers]
    Annealing(AnnealConfig(), [model], CPU).set(0.0)
    assert [layer.shortcut for layer in model.acn.layers] == before


def test_compiled_layers_are_compiled_once_for_all_scales_and_once_for_none():
    model = acn()
    annealing = Annealing(AnnealConfig(share=0.5), [model], CPU)
    counter = CompileCounter()
    for layer in model.acn.layers:
        layer.compile(backend=counter, dynamic=False)
    ids = torch.randint(5, 53, (2, 9))
    counts = []
    for scale in (1.0, 0.5, 0.25, 0.0, 0.0):
        annealing.set(scale)
        model.acn(ids)
        counts.append(counter.frame_count)
    once = counts[0]
    assert counts == [once, once, once, 2 * once, 2 * once]
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("fields", "connectivity", "message"),
    [
        ({"share": 1.0}, "acn", r"anneal.share=1.0 must be at least 0 and below 1"),
        ({"share": -0.1}, "acn", r"anneal.share=-0.1 must be"),
        ({"share": 0.5}, "residual", "anneal.share=0.5 is for model.connectivity acn.* not residual: set model.conn"),
        ({"share": 0.5, "start": 0.0}, "acn", "anneal.start=0.0 must be above 0"),
        ({"share": 0.5, "floor": 2.0}, "acn", "anneal.floor=2.0 must be above 0 and below anneal.start=1.0"),
        ({"share": 0.5, "shape": "linear", "floor": 0.1}, "acn", "anneal.floor=0.1 is for anneal.shape geometric"),
        ({"shape": "linear"}, "acn", "anneal.share=0.0 anneals nothing: set it"),
        ({"share": 0.5, "shape": "sqrt"}, "acn", "anneal.shape=sqrt is unknown: use linear, cosine or geometric"),
    ],
)
def test_what_cannot_be_annealed_is_refused_by_name(fields, connectivity, message):
    assert any(re.match(message, str(problem)) for problem in AnnealConfig(**fields).problems(connectivity))
