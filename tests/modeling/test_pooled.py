"""In training, heads on the pooled [CLS] read-out have the last layer compute that position only, exactly."""

import pytest
import torch

from modeling import AcnForMultipleChoice, AcnForSequenceClassification, AcnModel
from tests.modeling.conftest import inputs_of

POOLED = (AcnForSequenceClassification, AcnForMultipleChoice)
CASES = [
    {"connectivity": "acn"},
    {"connectivity": "residual"},
    {"connectivity": "hybrid", "hybrid_init": 0.5},
    {"connectivity": "acn", "position_embedding_type": "rope", "gated_mlp": True},
]
LABELS = {"AcnForSequenceClassification": torch.tensor([0, 2, 1]), "AcnForMultipleChoice": torch.tensor([2])}


def learned(model, inputs, depth):
    """Loss, logits and gradients of a training step."""
    model.zero_grad()
    outputs = model(**inputs, depth=depth)
    outputs.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return outputs.loss.detach(), outputs.logits.detach(), gradients


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fields", CASES)
@pytest.mark.parametrize("head", POOLED)
def test_a_training_step_is_that_of_all_positions(tiny_config, batch, head, fields, attention, embedded):
    model = head(tiny_config(num_labels=3, **fields)).double().train()  # no dropout: training differs in nothing else
    model.set_attn_implementation(attention)
    inputs = inputs_of(head, batch) | {"labels": LABELS[head.__name__]}
    if embedded:
        ids = inputs.pop("input_ids")
        inputs["inputs_embeds"] = model.get_input_embeddings()(ids).detach()
    for depth in (4, 1, 0):
        loss, logits, gradients = learned(model.train(), inputs, depth)
        whole_loss, whole_logits, expected = learned(model.eval(), inputs, depth)
        torch.testing.assert_close(loss, whole_loss)
        torch.testing.assert_close(logits, whole_logits)
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("head", POOLED)
def test_only_in_training_the_last_layer_computes_cls_alone(tiny_config, batch, head):
    model = head(tiny_config(num_labels=3))
    shapes = []
    for layer in model.acn.layers:
        layer.mlp.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    inputs = inputs_of(head, batch)
    model.train()(**inputs)
    assert shapes == [(3, 9, 12)] * 3 + [(3, 1, 12)]
    del shapes[:]
    model.eval()(**inputs)
    assert shapes == [(3, 9, 12)] * 4
    del shapes[:]
    list(model.train().depth_logits(**inputs))  # every depth is pooled
    assert shapes == [(3, 9, 12)] * 4


@pytest.mark.parametrize("recorded", ["output_hidden_states", "output_attentions"])
@pytest.mark.parametrize("head", POOLED)
def test_what_is_recorded_in_training_is_of_all_positions(tiny_config, batch, head, recorded):
    model = head(tiny_config(num_labels=3)).double().train()
    model.set_attn_implementation("eager")
    inputs = inputs_of(head, batch)
    outputs = model(**inputs, **{recorded: True})
    if recorded == "output_hidden_states":
        assert [tuple(states.shape) for states in outputs.hidden_states] == [(3, 9, 12)] * 5
    else:
        assert [tuple(weights.shape) for weights in outputs.attentions] == [(3, 3, 9, 9)] * 4
    torch.testing.assert_close(outputs.logits, model(**inputs).logits)


def test_gradient_checkpointing_and_the_bare_encoder_agree_with_it(tiny_config, batch):
    model = AcnForSequenceClassification(tiny_config(num_labels=3)).double().train()
    inputs = batch | {"labels": LABELS["AcnForSequenceClassification"]}
    _, _, expected = learned(model, inputs, 4)
    model.gradient_checkpointing_enable()
    _, _, found = learned(model, inputs, 4)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    bare = AcnModel(tiny_config(num_labels=3), add_pooling_layer=False).double().train()
    assert bare(**batch).last_hidden_state.shape == (3, 9, 12)
