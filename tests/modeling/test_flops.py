"""The analytic cost is what torch's counter counts."""

from copy import deepcopy
from dataclasses import MISSING, fields

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling import (
    CONNECTIVITIES,
    AcnConfig,
    AcnForMaskedLM,
    AcnForSequenceClassification,
    Architecture,
    forward_flops,
    parameters_by_depth,
    tensor_sizes,
)
from modeling.flops import layer_flops


def counted(model, **inputs):
    model.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "fields", [{}, {"gated_mlp": True}, {"position_embedding_type": "rope"}, {"num_attention_heads": 2, "head_dim": 4}]
)
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_flops_of_every_depth_and_head(tiny_config, fields, connectivity):
    config = tiny_config(connectivity=connectivity, num_labels=3, **fields)
    ids = torch.randint(5, 53, (1, 9))
    positions = torch.tensor([[1, 4]])
    for depth in range(5):
        classifier = AcnForSequenceClassification(config).eval()
        assert counted(classifier, input_ids=ids, depth=depth) == forward_flops(config, 9, depth, num_labels=3)
        masked = AcnForMaskedLM(config)
        expected = forward_flops(config, 9, depth, masked_positions=2)
        assert counted(masked.train(), input_ids=ids, masked_positions=positions, depth=depth) == expected
    assert forward_flops(config, 9) == forward_flops(config, 9, depth=4)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_in_training_a_classifiers_last_layer_costs_what_one_position_does(tiny_config, connectivity):
    config = tiny_config(connectivity=connectivity, num_labels=3)
    ids = torch.randint(5, 53, (1, 9))
    for depth in range(1, 5):
        classifier = AcnForSequenceClassification(config).train()
        expected = forward_flops(config, 9, depth, num_labels=3) - layer_flops(config, 9) + layer_flops(config, 9, 1)
        assert counted(classifier, input_ids=ids, depth=depth) == expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"gated_mlp": True},
        {"position_embedding_type": "rope"},
        {"num_attention_heads": 2, "head_dim": 4},
        {"tie_word_embeddings": False},
        {"type_vocab_size": 1},
        {"max_position_embeddings": 7, "gated_mlp": True, "tie_word_embeddings": False, "pad_token_id": None},
    ],
)
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_parameters_are_those_of_the_model(tiny_config, given, connectivity):
    config = tiny_config(connectivity=connectivity, num_labels=3, **given)
    with torch.device("meta"):
        for labels, kind in ((0, AcnForMaskedLM), (3, AcnForSequenceClassification)):
            counts = parameters_by_depth(config, labels)
            assert sorted(tensor_sizes(config, labels)) == sorted(p.numel() for p in kind(config).parameters())
            for depth in range(5):
                model = kind(deepcopy(config)).truncate(depth)
                assert counts[depth] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_the_fields_that_count_are_enough(tiny_config, connectivity):
    """An `Architecture` costs what the `AcnConfig` with its fields does, and has that one's defaults."""
    config = tiny_config(connectivity=connectivity, gated_mlp=True)
    plain = Architecture(**{field.name: getattr(config, field.name) for field in fields(Architecture)})
    assert forward_flops(plain, 9, masked_positions=2) == forward_flops(config, 9, masked_positions=2)
    assert (tensor_sizes(plain), plain.head_width) == (tensor_sizes(config), config.head_width)
    defaults = {field.name: field.default for field in fields(Architecture) if field.default is not MISSING}
    assert defaults == {name: getattr(AcnConfig(), name) for name in defaults}
