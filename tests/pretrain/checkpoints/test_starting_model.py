"""A run that starts from a model of the BERT line or of this family: its sizes, its weights, its tokenizer."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, GPT2Config, RobertaConfig

from modeling import AcnConfig, AcnForMaskedLM, load_model
from pretrain import ModelConfig, PretrainError, check_run, with_sizes
from pretrain.checkpoints.starting_model import StartingModel, find_starting_model
from pretrain.observe.figures import read_metrics
from pretrain.optim.optimizers import OptimConfig
from tests.pretrain.conftest import continued

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40}
PLAIN = ModelConfig(connectivity="residual")  # what no size was given for


@pytest.fixture
def bert(prepared: Path, tmp_path: Path) -> Path:
    """A BERT of the corpus's tokenizer, with a few spare rows of embeddings, as checkpoints have them."""
    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")
    torch.manual_seed(1)
    config = BertConfig(
        **SIZES, vocab_size=len(tokenizer) + 3, max_position_embeddings=20, layer_norm_eps=1e-6, initializer_range=0.2
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("connectivity", ["acn", "hybrid", "residual"])
def test_sizes_come_from_the_model_and_the_connectivity_from_the_options(tiny_run, bert, connectivity):
    model = ModelConfig(connectivity=connectivity, hidden_dropout_prob=0.1)
    config = check_run(tiny_run(init_from=str(bert), model=model), world_size=1)
    assert {name: getattr(config.model, name) for name in SIZES} == SIZES
    assert config.model.max_position_embeddings == 20
    assert config.model.connectivity == connectivity
    assert config.model.hidden_dropout_prob == 0.1
    assert with_sizes(config) == config


def test_sizes_that_say_otherwise_are_refused_by_name(tiny_run, bert):
    model = ModelConfig(hidden_size=32, num_hidden_layers=3, hidden_act="relu", position_embedding_type="rope")
    with pytest.raises(PretrainError) as caught:
        check_run(tiny_run(init_from=str(bert), model=model), world_size=1)
    named = {problem.field for problem in caught.value.problems}
    assert named == {"model.hidden_size", "model.hidden_act", "model.position_embedding_type"}
    assert f"model.hidden_size=32 is not {bert}'s, which has 24: leave it out" in str(caught.value)


def test_another_tokenizer_than_the_corpuss_is_refused(tiny_run, bert):
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"])}
    from transformers import BertTokenizer

    BertTokenizer(vocab=words).save_pretrained(bert)
    with pytest.raises(PretrainError, match=f"another tokenizer than that of `data`: prepare .*--tokenizer {bert}"):
        check_run(tiny_run(init_from=str(bert), model=PLAIN), world_size=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT2Config(), "is of model_type 'gpt2', which is none of acn, bert, roberta, xlm-roberta, camembert, distil"),
        (RobertaConfig(is_decoder=True), "is_decoder=True"),
        (None, "is neither a run or checkpoint .* nor a model folder"),
    ],
)
def test_what_no_run_can_start_from_is_said_beside_the_other_mistakes(tiny_run, tmp_path, config, message):
    folder = tmp_path / "other"
    folder.mkdir()
    if config is not None:
        config.save_pretrained(folder)
    with pytest.raises(PretrainError, match=message) as caught:
        check_run(tiny_run(init_from=str(folder), model=PLAIN, global_batch_size=7), world_size=2)
    assert len(caught.value.problems) > 1


def test_missing_weights_are_no_start_and_a_missing_head_is_a_new_one(bert):
    whole = BertForMaskedLM.from_pretrained(bert)
    start = find_starting_model(str(bert))
    fields = start.fields | {"connectivity": "hybrid", "hybrid_init": 0.7}
    model = AcnForMaskedLM(AcnConfig(**fields))
    assert start.give_weights(model) == f"{bert} (bert, residual)"
    assert torch.equal(model.head.dense.weight, whole.cls.predictions.transform.dense.weight)
    assert [layer.shortcut.scale.item() for layer in model.acn.layers] == pytest.approx([0.7] * 3)

    BertModel(whole.config).save_pretrained(bert)
    model = AcnForMaskedLM(AcnConfig(**fields))
    before = model.head.dense.weight.clone()
    assert "no masked-language-model head: a new one" in StartingModel(start.folder).give_weights(model)
    assert torch.equal(model.head.dense.weight, before)

    kept = {name: value for name, value in whole.state_dict().items() if "layer.1.attention" not in name}
    whole.save_pretrained(bert, state_dict=kept)
    with pytest.raises(PretrainError, match=r"weights are missing|has no weights"):
        StartingModel(start.folder).give_weights(model)


def test_a_run_begins_at_the_bert_keeps_what_it_inherited_and_is_resumed_without_it(acn, recipe, bert, tmp_path):
    still = {"init_from": str(bert), "model": PLAIN, "optim": OptimConfig(lr=1e-12)}
    done = acn("pretrain", "--config", str(recipe(**still)))
    assert done.returncode == 0, done.stderr
    assert f"starting from {bert} (bert, residual)" in done.stdout
    exported = AcnForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert exported.config.layer_norm_eps == 1e-6
    original, new = load_model(AcnForMaskedLM, bert)
    assert new == []
    assert exported.config.vocab_size == original.config.vocab_size
    for name, value in original.state_dict().items():
        torch.testing.assert_close(exported.state_dict()[name], value, atol=1e-6, rtol=0)
    ids = torch.randint(5, 40, (2, 12))
    with torch.no_grad():
        theirs = BertForMaskedLM.from_pretrained(bert)(ids).logits
        assert (exported.eval()(ids).logits - theirs).abs().max() <= 1e-5

    resumed = continued(tmp_path / "run", tmp_path / "resumed", step=3)
    shutil.rmtree(bert)
    done = acn("pretrain", "--config", str(recipe("resumed", **still)))
    assert done.returncode == 0, done.stderr
    before, after = (read_metrics(folder)["train/loss"] for folder in (tmp_path / "run", resumed))
    assert after == {step: loss for step, loss in before.items() if step > 3}

    # and a second phase on it goes on with what it had inherited
    sizes = ModelConfig(connectivity="residual", **SIZES, max_position_embeddings=20)
    done = acn("pretrain", "--config", str(recipe("second", init_from=str(resumed), model=sizes)))
    assert done.returncode == 0, done.stderr
    assert AcnForMaskedLM.from_pretrained(tmp_path / "second" / "model").config.layer_norm_eps == 1e-6
