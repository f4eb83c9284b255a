"""The encoder computes the equations it claims."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from modeling import CONNECTIVITIES, AcnForMaskedLM, AcnForSequenceClassification, AcnModel
from tests.modeling.reference import gelu, layer_norm, read_outs


def as_numpy(tensors):
    return {name: value.detach().numpy() for name, value in tensors.items()}


def randomised(model):
    """Norms and biases away from their initial ones and zeros, so that leaving one out shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_every_read_out_equals_the_equations_in_float64(tiny_config, batch, connectivity, attention):
    config = tiny_config(connectivity=connectivity)
    model = randomised(AcnModel(config)).double()
    model.set_attn_implementation(attention)
    hidden_states = model(**batch, output_hidden_states=True).hidden_states
    expected = read_outs(
        as_numpy(model.state_dict()),
        as_numpy(batch),
        connectivity,
        4,
        config.num_attention_heads,
        config.layer_norm_eps,
    )
    assert len(hidden_states) == len(expected) == 5
    for ours, reference in zip(hidden_states, expected, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), reference, atol=1e-12)


def test_the_masked_language_model_head_equals_the_equations(tiny_config, batch):
    config = tiny_config()
    model = randomised(AcnForMaskedLM(config)).double()
    weights = as_numpy(model.state_dict())
    encoder = {name.removeprefix("acn."): value for name, value in weights.items()}
    y = read_outs(encoder, as_numpy(batch), "acn", 4, 3, config.layer_norm_eps)[-1]
    transformed = gelu(y @ weights["head.dense.weight"].T + weights["head.dense.bias"])
    transformed = layer_norm(transformed, weights["head.norm.weight"], weights["head.norm.bias"], 1e-12)
    expected = transformed @ weights["acn.embeddings.word_embeddings.weight"].T + weights["decoder.bias"]
    np.testing.assert_allclose(model(**batch).logits.detach().numpy(), expected, atol=1e-12)


def test_the_classifier_reads_the_pooled_first_token(tiny_config, batch):
    model = randomised(AcnForSequenceClassification(tiny_config(num_labels=3))).double()
    weights = as_numpy(model.state_dict())
    encoder = {name.removeprefix("acn."): value for name, value in weights.items()}
    first = read_outs(encoder, as_numpy(batch), "acn", 4, 3, 1e-12)[-1][:, 0]
    pooled = np.tanh(first @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
    expected = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
    np.testing.assert_allclose(model(**batch).logits.detach().numpy(), expected, atol=1e-12)


def bert_twin(model):
    """transformers' BertForMaskedLM with the weights of a residual AcnForMaskedLM."""
    c = model.config
    bert = BertForMaskedLM(
        BertConfig(
            vocab_size=c.vocab_size, hidden_size=c.hidden_size, num_hidden_layers=c.num_hidden_layers,
            num_attention_heads=c.num_attention_heads, intermediate_size=c.intermediate_size,
            max_position_embeddings=c.max_position_embeddings,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
    rename = {
        "acn.embeddings": "bert.embeddings", "attention.out_proj": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm", "mlp.up_proj": "intermediate.dense",
        "mlp.down_proj": "output.dense", "mlp_norm": "output.LayerNorm", "acn.layers": "bert.encoder.layer",
        "head.dense": "cls.predictions.transform.dense", "head.norm": "cls.predictions.transform.LayerNorm",
        "decoder.": "cls.predictions.decoder.",
    }  # fmt: skip
    weights = {}
    for name, value in model.state_dict().items():
        for ours, theirs in rename.items():
            name = name.replace(ours, theirs)
        if "qkv_proj" in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                weights[name.replace("qkv_proj", f"self.{part}")] = piece
        else:
            weights[name] = value
    weights["cls.predictions.bias"] = weights["cls.predictions.decoder.bias"]
    missing, unexpected = bert.load_state_dict(weights, strict=False)
    assert not unexpected
    assert [name for name in missing if "position_ids" not in name] == []
    return bert.eval()


def test_residual_is_transformers_bert(tiny_config, batch):
    model = randomised(AcnForMaskedLM(tiny_config(connectivity="residual")))
    theirs = bert_twin(model)(**batch, output_hidden_states=True)
    ours = model(**batch, output_hidden_states=True)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=2e-5, rtol=1e-5)
    for y, x in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(y, x, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rope", [True, False])
def test_rope_and_gated_units_equal_the_equations(tiny_config, batch, connectivity, rope):
    fields = {"position_embedding_type": "rope", "rope_theta": 50.0} if rope else {"gated_mlp": True}
    config = tiny_config(connectivity=connectivity, **fields)
    model = randomised(AcnModel(config)).double()
    expected = read_outs(
        as_numpy(model.state_dict()),
        as_numpy(batch),
        connectivity,
        4,
        config.num_attention_heads,
        config.layer_norm_eps,
        rope_theta=config.rope_theta if rope else None,
        gated=not rope,
    )
    np.testing.assert_allclose(model(**batch).last_hidden_state.detach().numpy(), expected[-1], atol=1e-12)


def with_weights_of(model, source):
    """`model`, whose only own weights are the hybrid scalars, with the other weights of `source`."""
    missing, unexpected = model.load_state_dict(source.state_dict(), strict=False)
    assert not unexpected
    assert all(name.endswith("shortcut.scale") for name in missing)
    return model.eval()


def test_hybrid_at_zero_is_acn_bit_for_bit(tiny_config, batch):
    acn = randomised(AcnModel(tiny_config()))
    hybrid = with_weights_of(AcnModel(tiny_config(connectivity="hybrid", hybrid_init=0.0)), acn)
    for ours, theirs in zip(
        hybrid(**batch, output_hidden_states=True).hidden_states,
        acn(**batch, output_hidden_states=True).hidden_states,
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_hybrid_at_one_has_the_layers_of_residual_bit_for_bit(tiny_config, batch):
    residual = randomised(AcnModel(tiny_config(connectivity="residual")))
    hybrid = with_weights_of(AcnModel(tiny_config(connectivity="hybrid", hybrid_init=1.0)), residual)
    layers = residual(**batch, output_hidden_states=True).hidden_states
    sums = hybrid(**batch, output_hidden_states=True).hidden_states
    read_out = layers[0]
    assert torch.equal(sums[0], read_out)
    for x, y in zip(layers[1:], sums[1:], strict=True):
        read_out = read_out + x
        assert torch.equal(y, read_out)


def test_hybrid_learns_one_scalar_per_layer_that_no_optimizer_decays(tiny_config, batch):
    model = AcnModel(tiny_config(connectivity="hybrid", hybrid_init=0.25))
    scalars = {name: p for name, p in model.named_parameters() if name.endswith("shortcut.scale")}
    assert len(scalars) == 4
    model(**batch).last_hidden_state.square().sum().backward()
    for scalar in scalars.values():
        assert scalar.item() == 0.25
        assert scalar.numel() == 1
        assert scalar.ndim < 2  # what marks a parameter as not decayed
        assert scalar.grad.item() != 0


def test_acn_is_not_bert(tiny_config, batch):
    model = randomised(AcnForMaskedLM(tiny_config(connectivity="acn")))
    assert not torch.allclose(model(**batch).logits, bert_twin(model)(**batch).logits, atol=0.1)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_gradients_match_finite_differences(tiny_config, connectivity):
    config = tiny_config(num_hidden_layers=2, hidden_size=6, intermediate_size=8, connectivity=connectivity)
    model = randomised(AcnModel(config)).double()
    embeddings = torch.randn(1, 4, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: model(inputs_embeds=e).last_hidden_state, embeddings)
    if connectivity == "hybrid":
        scale = model.layers[0].shortcut.scale
        out = model(inputs_embeds=embeddings).last_hidden_state.sum()
        (slope,) = torch.autograd.grad(out, scale)
        with torch.no_grad():
            scale += 1e-6
            above = model(inputs_embeds=embeddings).last_hidden_state.sum()
            scale -= 2e-6
            below = model(inputs_embeds=embeddings).last_hidden_state.sum()
        torch.testing.assert_close(slope, ((above - below) / 2e-6).reshape(1), rtol=1e-5, atol=1e-6)


def test_identity_initialisation_adds_the_identity_to_the_attention_and_nothing_else(tiny_config):
    torch.manual_seed(3)
    plain = AcnModel(tiny_config()).state_dict()
    torch.manual_seed(3)
    shifted = AcnModel(tiny_config(identity_attention_init=True)).state_dict()
    for name, weight in plain.items():
        added = shifted[name] - weight
        expected = torch.zeros_like(weight)
        if name.endswith(("qkv_proj.weight", "out_proj.weight")):
            expected = torch.eye(12).repeat(len(weight) // 12, 1)
        torch.testing.assert_close(added, expected, atol=1e-6, rtol=0)


def test_identity_initialisation_leaves_loaded_weights_alone(tiny_config, tmp_path):
    model = AcnModel(tiny_config(identity_attention_init=True))
    model.save_pretrained(tmp_path)
    for name, weight in AcnModel.from_pretrained(tmp_path).state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
