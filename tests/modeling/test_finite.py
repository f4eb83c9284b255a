"""A model that computes no numbers is told from one that does, whatever its head."""

import pytest
import torch

from modeling import CONNECTIVITIES, AcnForMaskedLM, divergence
from tests.modeling.conftest import HEADS


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_sound_model_has_not_diverged_and_is_left_as_it_was(tiny_config, head, connectivity):
    model = head(tiny_config(connectivity=connectivity)).train()
    random = torch.get_rng_state()
    assert divergence(model) is None
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_weight_that_is_no_number_is_named(tiny_config, head, value, dtype):
    model = head(tiny_config()).to(dtype)
    name, weight = list(model.named_parameters())[-1]
    weight.data.flatten()[-1] = value
    assert divergence(model) == f"weights are infinite or NaN ({name})"


@pytest.mark.parametrize("head", HEADS)
def test_weights_too_large_to_compute_with_are_found(tiny_config, head):
    model = head(tiny_config())
    for weight in model.parameters():
        weight.data.copy_(torch.randn_like(weight) * 1e30)
    assert "infinities or NaN" in divergence(model)


def test_the_shortest_model_is_asked_with_what_it_takes(tiny_config):
    assert divergence(AcnForMaskedLM(tiny_config(max_position_embeddings=2))) is None
