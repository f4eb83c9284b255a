"""The masked-language-model head decodes what it must and no more."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from modeling import AcnConfig, AcnForMaskedLM


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
