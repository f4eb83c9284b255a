"""Models of the BERT line where this family's are asked for: fine-tuned, swept, cut, studied and asked as they are."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer, RobertaTokenizer, XLMRobertaTokenizer

from eval import EvalError, FinetuneConfig, TaskResults, read_results, run_suite
from eval.compress import CompressConfig, compress_model
from eval.glue.encoding import encode
from eval.models import load_finetuned, load_for_task, load_tokenizer, model_origin, read_model_config, save_model
from eval.predict import PredictConfig, predict_file
from eval.studies import StudyConfig, run_studies
from eval.tasks import find_task
from modeling import MODEL_TYPES, AcnForSequenceClassification
from tests.eval.conftest import BAD, FILLER, GOOD

WORDS = [*GOOD, *BAD, *FILLER]
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 26, "initializer_range": 0.1, "pad_token_id": 1, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
DISTILBERT = {
    "dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 24, "pad_token_id": 1,
    "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "initializer_range": 0.1,
}  # fmt: skip


def wordpieces() -> Any:
    vocabulary = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})


def bytes_of_words() -> Any:
    """RoBERTa's: byte-level, </s></s> between the two texts of a pair."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return RobertaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


def sentence_pieces() -> Any:
    """XLM-RoBERTa's: unigrams with a mark for the space."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS), "<mask>"]
    return XLMRobertaTokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)])


TOKENIZERS = {"roberta": bytes_of_words, "camembert": sentence_pieces, "xlm-roberta": sentence_pieces}


def write_original(folder: Path, model_type: str, head: str = "ForMaskedLM", **fields: Any) -> Any:
    """A model of transformers' own class with a tokenizer of its kind, as it is on the Hub."""
    tokenizer = TOKENIZERS.get(model_type, wordpieces)()
    sizes = (
        DISTILBERT
        if model_type == "distilbert"
        else SMALL | ({"embedding_size": 32} if model_type == "electra" else {})
    )
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **sizes | fields, vocab_size=len(tokenizer))
    model = getattr(transformers, MODEL_TYPES[model_type].classes + head)(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.fixture
def options(glue_dir: Path, tmp_path: Path) -> dict[str, Any]:
    return {"tasks": "docpair", "output": str(tmp_path / "out"), "glue_dir": str(glue_dir), "epochs": 1.0,
            "batch_size": 16, "learning_rate": 2e-3, "max_train_samples": 48, "speed": False,
            "precision": "fp32"}  # fmt: skip


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_model_of_the_line_is_tokenized_and_scored_as_by_its_own_classes(model_type, glue_dir, tmp_path):
    original = write_original(tmp_path / "theirs", model_type, "ForSequenceClassification")
    folder = str(tmp_path / "theirs")
    config = read_model_config(folder)
    tokenizer, theirs = load_tokenizer(folder, config), TOKENIZERS.get(model_type, wordpieces)()
    task = find_task("docpair", str(glue_dir))
    texts = ["a good film", "the very long book was awful and the plot was bad"], ["a", "the actor was good"]
    pairs = datasets.Dataset.from_dict(dict(zip(task.columns, texts, strict=True)) | {"label": [0, 1]})
    rows = encode(task, pairs, tokenizer, max_length=20)
    assert rows["input_ids"] == theirs(*texts, truncation=True, max_length=20)["input_ids"]
    batch = tokenizer.pad({name: rows[name] for name in tokenizer.model_input_names}, return_tensors="pt")
    assert not batch["attention_mask"].all()
    with torch.no_grad():
        expected = original(**batch).logits
        assert (load_finetuned(folder)(**batch).logits - expected).abs().max() <= 1e-5
        save_model(tmp_path / "ours", load_finetuned(folder), tokenizer)
        again = AutoTokenizer.from_pretrained(tmp_path / "ours")
        assert dict(again(*texts)) == {name: tokenizer(*texts)[name] for name in again.model_input_names}
        assert {"pad": again.pad_token_id, "mask": again.mask_token} == {"pad": 1, "mask": theirs.mask_token}
        ours = AcnForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
        inputs = again(*texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
        assert (ours(**inputs).logits - expected).abs().max() <= 1e-5


def test_a_bert_is_fine_tuned_swept_cut_and_studied_without_a_conversion_step(options, make_tracker, tmp_path):
    write_original(tmp_path / "bert", "bert")
    results = run_suite(FinetuneConfig(model=str(tmp_path / "bert"), **options), make_tracker().open)[0]
    assert results.connectivity == "residual"
    assert results.origin is not None
    assert vars(results.origin) == {"model_type": "bert", "hub_name": None, "revision": None}
    assert read_results(tmp_path / "out" / "docpair") == results
    assert results.settings is not None
    assert len(results.settings["weights"]) == 1
    model = load_finetuned(str(tmp_path / "out" / "docpair"))
    assert len(results.depth_scores) == model.config.num_hidden_layers + 1 == 4

    small = CompressConfig(str(tmp_path / "out" / "docpair"), str(tmp_path / "small"), depth=2, force=True)
    cut = compress_model(small)
    assert cut.checked_score == results.depth_scores[2]
    assert cut.origin == results.origin
    study = StudyConfig("similarity", str(tmp_path / "bert"), str(tmp_path / "studies"), "docpair",
                        options["glue_dir"], max_eval_samples=8)  # fmt: skip
    assert run_studies(study, make_tracker().open)[0]["connectivity"] == "residual"


def test_fine_tuning_begins_at_berts_encoder_and_pooler_and_is_the_same_from_a_converted_folder(tmp_path, glue_dir):
    bert = write_original(tmp_path / "bert", "bert", "Model")
    task = find_task("docpair", str(glue_dir))
    model = load_for_task(str(tmp_path / "bert"), task)
    assert torch.equal(model.pooler.dense.weight, bert.pooler.dense.weight)
    assert torch.equal(model.acn.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight)
    assert list(model.config.id2label.values()) == list(task.labels or ())


def test_a_classifier_of_the_line_labels_texts_as_it_would_itself(tmp_path):
    names = {"id2label": {0: "BAD", 1: "GOOD"}, "label2id": {"BAD": 0, "GOOD": 1}}
    original = write_original(tmp_path / "model", "distilbert", "ForSequenceClassification", **names)
    texts = ["the film was good and fine", "a bad plot", "the actor was awful and the book was very long"]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n")
    asked = PredictConfig(
        str(tmp_path / "model"), str(tmp_path / "texts"), str(tmp_path / "out.jsonl"), precision="fp32"
    )
    predict_file(asked)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    with torch.no_grad():
        for text, answer in zip(texts, answers, strict=True):
            inputs = wordpieces()(text, return_tensors="pt", return_token_type_ids=False)
            expected = original(**inputs).logits[0].softmax(-1).numpy()
            assert answer["label"] == names["id2label"][int(expected.argmax())]
            np.testing.assert_allclose(list(answer["scores"].values()), expected, atol=1e-5)


def test_other_models_are_refused_with_what_can_be_given(tmp_path, options, make_tracker):
    transformers.GPT2Config().save_pretrained(tmp_path)
    known = "acn, bert, roberta, xlm-roberta, camembert, distilbert, electra"
    with pytest.raises(EvalError, match=f"is of model_type 'gpt2', which is none of {known}: give one of these"):
        run_suite(FinetuneConfig(model=str(tmp_path), **options), make_tracker().open)
    transformers.ElectraConfig(embedding_size=8, hidden_size=16, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(EvalError, match="embedding_size=8 is not hidden_size=16"):
        read_model_config(str(tmp_path))


def test_a_model_without_results_cannot_be_cut_and_the_message_says_what_gives_them(tmp_path):
    write_original(tmp_path / "model", "roberta", "ForSequenceClassification")
    with pytest.raises(
        EvalError, match=r"has no results.json, by which it could be cut: give OUTPUT/TASK of `acn glue"
    ):
        compress_model(CompressConfig(str(tmp_path / "model"), str(tmp_path / "small"), depth=2))
    assert not (tmp_path / "small").exists()


def test_weights_that_are_missing_are_no_model(tmp_path, glue_dir):
    bert = write_original(tmp_path, "bert")
    kept = {name: value for name, value in bert.state_dict().items() if ".layer.1.output" not in name}
    bert.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(EvalError, match=r"layers\.1\.mlp"):
        load_for_task(str(tmp_path), find_task("docpair", str(glue_dir)))
    assert model_origin(str(tmp_path)).model_type == "bert"
    assert TaskResults.__dataclass_fields__["origin"].default is None, "old files have none"
