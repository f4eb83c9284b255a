"""The masked-language-model head decodes what it must and no more."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from modeling import AcnConfig, AcnForMaskedLM, AcnModel
from modeling.modeling_acn import gather_positions


@pytest.fixture
def targets(batch):
    """Two masked positions a sequence, and the same targets as full-length labels."""
    positions = torch.tensor([[0, 4], [1, 5], [0, 2]])
    labels = batch["input_ids"].gather(1, positions)
    full = torch.full_like(batch["input_ids"], -100).scatter(1, positions, labels)
    return positions, labels, full


def test_masked_positions_and_sparse_prediction_give_the_dense_loss(tiny_config, batch, targets):
    positions, labels, full = targets
    model = AcnForMaskedLM(tiny_config()).double().eval()
    dense = model(**batch, labels=full)
    assert dense.logits.shape == (3, 9, 53)
    expected = F.cross_entropy(dense.logits.flatten(0, 1), full.flatten())
    torch.testing.assert_close(dense.loss, expected.float())  # transformers computes its losses in fp32
    gathered = model(**batch, labels=labels, masked_positions=positions)
    assert gathered.logits.shape == (3, 2, 53)
    torch.testing.assert_close(gathered.loss, dense.loss)
    model.config.sparse_prediction = True
    sparse = model(**batch, labels=full)
    assert sparse.logits.shape == (6, 53)
    torch.testing.assert_close(sparse.loss, dense.loss)
    assert model(**batch).logits.shape == (3, 9, 53)


def test_ignored_targets_do_not_change_the_loss(tiny_config, batch, targets):
    positions, labels, _ = targets
    model = AcnForMaskedLM(tiny_config()).double().eval()
    padded = model(**batch, masked_positions=F.pad(positions, (0, 3)), labels=F.pad(labels, (0, 3), value=-100))
    torch.testing.assert_close(padded.loss, model(**batch, masked_positions=positions, labels=labels).loss)


def test_the_decoder_is_tied_also_after_saving(tiny_config, tmp_path):
    model = AcnForMaskedLM(tiny_config())
    model.save_pretrained(tmp_path)
    for tied in (model, AcnForMaskedLM.from_pretrained(tmp_path)):
        assert tied.decoder.weight is tied.acn.embeddings.word_embeddings.weight
    untied = AcnForMaskedLM(tiny_config(tie_word_embeddings=False))
    assert untied.decoder.weight is not untied.acn.embeddings.word_embeddings.weight


def test_padding_does_not_change_what_is_not_padding(tiny_config, batch):
    model = AcnForMaskedLM(tiny_config()).double().eval()
    padded = model(**batch).logits
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
        torch.testing.assert_close(padded[row : row + 1, :length], model(**alone).logits)


def test_bad_architectures_name_the_field():
    with pytest.raises(StrictDataclassError, match="connectivity='dense'"):
        AcnConfig(connectivity="dense")
    with pytest.raises(StrictDataclassError, match=r"hidden_size=10.*num_attention_heads=4"):
        AcnConfig(hidden_size=10, num_attention_heads=4)
    with pytest.raises(StrictDataclassError, match="num_hidden_layers=-1"):
        AcnConfig(num_hidden_layers=-1)


def test_exactly_one_kind_of_input_is_taken(tiny_config, batch):
    model = AcnForMaskedLM(tiny_config())
    with pytest.raises(ValueError, match="exactly one"):
        model(attention_mask=batch["attention_mask"])


READ_OUT_CASES = [
    {"connectivity": "acn"},
    {"connectivity": "residual"},
    {"connectivity": "hybrid", "hybrid_init": 0.5},
    {"connectivity": "feedforward", "position_embedding_type": "rope"},
    {"connectivity": "acn", "position_embedding_type": "rope", "gated_mlp": True},
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("rows", ["whole", "padded", "packed"])
@pytest.mark.parametrize("fields", READ_OUT_CASES)
def test_reading_out_some_positions_gives_their_read_outs_and_gradients(tiny_config, batch, fields, rows, attention):
    """The last layer of a masked language model computes the other positions as keys and values only."""
    model = AcnModel(tiny_config(**fields)).double()
    model.set_attn_implementation(attention)
    positions = torch.tensor([[0, 4], [5, 1], [0, 0]])
    inputs = {"input_ids": batch["input_ids"]}
    if rows == "padded":
        inputs = dict(batch)
    elif rows == "packed":
        inputs["seq_idx"] = (torch.arange(9) > 3).long().expand(3, -1)
    for depth in (4, 2, 0):
        results = []
        for some in (False, True):
            model.zero_grad()
            if some:
                read_out = model(**inputs, depth=depth, read_out_positions=positions).last_hidden_state
            else:
                read_out = gather_positions(model(**inputs, depth=depth).last_hidden_state, positions)
            read_out.square().sum().backward()
            gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            results.append((read_out.detach(), gradients))
        (whole, expected), (some, found) = results
        torch.testing.assert_close(some, whole)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_in_training_the_last_layer_of_a_masked_language_model_computes_its_targets_only(tiny_config, batch, targets):
    positions, labels, _ = targets
    model = AcnForMaskedLM(tiny_config())
    shapes = []
    for layer in model.acn.layers:
        layer.mlp.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    model.train()(**batch, labels=labels, masked_positions=positions)
    assert shapes == [(3, 9, 12)] * 3 + [(3, 2, 12)]
    del shapes[:]
    model.eval()(**batch, labels=labels, masked_positions=positions)
    assert shapes == [(3, 9, 12)] * 4


def test_recorded_read_outs_are_of_all_positions(tiny_config, batch, targets):
    positions, labels, _ = targets
    model = AcnForMaskedLM(tiny_config()).double().train()
    recorded = model(**batch, labels=labels, masked_positions=positions, output_hidden_states=True)
    assert [tuple(states.shape) for states in recorded.hidden_states] == [(3, 9, 12)] * 5
    torch.testing.assert_close(recorded.logits, model(**batch, masked_positions=positions).logits)
    with pytest.raises(ValueError, match="read_out_positions does not go with"):
        model.acn(**batch, read_out_positions=positions, output_hidden_states=True)
