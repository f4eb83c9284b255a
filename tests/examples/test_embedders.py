"""A folder of this family in sentence-transformers: encoded, trained, saved and loaded at any depth, as others are."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from modeling import AcnConfig, AcnForMaskedLM, AcnModel
from tests.conftest import sentences

pytest.importorskip("sentence_transformers", reason="needs the extra: pip install 'acn-lm[embed]'")
LAYERS, WIDTH = 4, 32
TEXTS = ["the dog ran under the big tree", "the cat", "and then it was there", "the dog and the cat sat here"]


@pytest.fixture(scope="module", params=["acn", "residual", "hybrid"])
def folder(request, tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """RUN/model of a pretraining."""
    folder, tokenizer = tmp_path_factory.mktemp("run") / "model", AutoTokenizer.from_pretrained(prepared / "tokenizer")
    torch.manual_seed(0)
    config = AcnConfig(
        connectivity=request.param, vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, intermediate_size=64, max_position_embeddings=24, initializer_range=0.1,
        hybrid_init=0.5,
    )  # fmt: skip
    AcnForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def embedder(folder: Path, depth: int | None = None) -> Any:
    """The folder as sentence-transformers takes one that is no embedder yet: it adds the mean over the tokens."""
    from sentence_transformers import SentenceTransformer

    cut = {} if depth is None else {"config_kwargs": {"num_hidden_layers": depth}}
    return SentenceTransformer(str(folder), device="cpu", **cut)


@torch.no_grad()
def mean_read_outs(folder: Path, depth: int) -> torch.Tensor:
    """(N, H): the mean of y_depth over the real tokens, written out, one text at a time."""
    model, tokenizer = AcnModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    read_outs = [
        model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[depth] for text in TEXTS
    ]
    return torch.cat([y.mean(1) for y in read_outs])


@pytest.mark.parametrize("depth", range(LAYERS + 1))
def test_a_pretrained_folder_encodes_at_any_depth(folder, depth):
    cut = embedder(folder, depth)
    assert len(cut[0].auto_model.layers) == depth
    assert cut.get_embedding_dimension() == WIDTH
    vectors = torch.tensor(cut.encode(TEXTS, batch_size=2))
    torch.testing.assert_close(vectors, mean_read_outs(folder, depth), atol=1e-5, rtol=1e-4)
    if depth == LAYERS:
        whole = torch.tensor(embedder(folder).encode(TEXTS))
        torch.testing.assert_close(whole, vectors, atol=1e-5, rtol=0)  # other batches, so other padding


def trained(folder: Path, place: Path) -> Any:
    """The embedder of a folder after a few steps on pairs that are alike where their animal is."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    model = embedder(folder)
    first, second = (sentences(48, seed=seed).splitlines() for seed in (5, 15))
    alike = [float(a.split()[1] == b.split()[1]) for a, b in zip(first, second, strict=True)]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(place), max_steps=4, learning_rate=1e-3, per_device_train_batch_size=16, save_strategy="no",
        report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    pairs = datasets.Dataset.from_dict({"sentence1": first, "sentence2": second, "score": alike})
    SentenceTransformerTrainer(model, arguments, train_dataset=pairs, loss=CoSENTLoss(model)).train()
    return model.eval()


def test_a_trained_embedder_is_saved_and_comes_back_whole_and_at_every_depth(folder, tmp_path):
    model = trained(folder, tmp_path / "scratch")
    before, after = torch.tensor(embedder(folder).encode(TEXTS)), torch.tensor(model.encode(TEXTS))
    assert (before - after).abs().max() > 1e-3, "it was trained"
    model.save_pretrained(str(tmp_path / "saved"))
    torch.testing.assert_close(torch.tensor(embedder(tmp_path / "saved").encode(TEXTS)), after, atol=1e-6, rtol=0)
    for depth in range(LAYERS):
        vectors = torch.tensor(embedder(tmp_path / "saved", depth).encode(TEXTS))
        torch.testing.assert_close(vectors, mean_read_outs(tmp_path / "saved", depth), atol=1e-5, rtol=1e-4)
    small = embedder(tmp_path / "saved", 3)
    small.save_pretrained(str(tmp_path / "small"))
    assert AcnConfig.from_pretrained(tmp_path / "small").num_hidden_layers == 3
    torch.testing.assert_close(
        torch.tensor(embedder(tmp_path / "small").encode(TEXTS)), torch.tensor(small.encode(TEXTS)), atol=1e-6, rtol=0
    )


def test_a_converted_encoder_embeds_as_the_original_does(folder, prepared, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")
    bert = BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=2,
                                num_attention_heads=2, intermediate_size=64, max_position_embeddings=24))  # fmt: skip
    bert.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    AcnModel.from_bert(bert, "residual").save_pretrained(tmp_path / "ours")
    shutil.copytree(prepared / "tokenizer", tmp_path / "ours", dirs_exist_ok=True)
    ours, theirs = (torch.tensor(embedder(tmp_path / name).encode(TEXTS)) for name in ("ours", "bert"))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
