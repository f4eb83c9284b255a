"""A residual model to learn from."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from modeling import AcnConfig, AcnForMaskedLM

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 16,
}  # fmt: skip


def residual_config(vocab_size: int = 53, **fields) -> AcnConfig:
    """Weights large enough for the layers to do something."""
    return AcnConfig(**(SIZES | fields), vocab_size=vocab_size, connectivity="residual", initializer_range=0.3)


def save_residual(tokens: Path, folder: Path, **fields) -> Path:
    """A model folder of the tokenizer of a prepared corpus, with random weights."""
    tokenizer = AutoTokenizer.from_pretrained(tokens / "tokenizer")
    torch.manual_seed(1)
    config = residual_config(len(tokenizer), pad_token_id=tokenizer.pad_token_id, **fields)
    AcnForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def residual(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual model of the tokenizer of `prepared`."""
    return save_residual(prepared, tmp_path_factory.mktemp("residual") / "model")


@pytest.fixture
def one_rank(tmp_path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
