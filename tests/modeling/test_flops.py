"""The analytic cost is what torch's counter counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling import CONNECTIVITIES, AcnForMaskedLM, AcnForSequenceClassification, forward_flops, parameters_by_depth
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


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_parameters_of_every_depth(tiny_config, connectivity):
    fields = {"connectivity": connectivity, "gated_mlp": True}
    counts = parameters_by_depth(AcnForSequenceClassification(tiny_config(**fields)))
    for depth in range(5):
        model = AcnForSequenceClassification(tiny_config(**fields)).truncate(depth)
        assert counts[depth] == sum(p.numel() for p in model.parameters())
