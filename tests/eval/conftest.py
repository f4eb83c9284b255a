"""Small models, tokenizers, data and a tracker for the tests of this room."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import TokenizersBackend
from transformers.utils import logging

from eval import FinetuneConfig
from modeling import AcnConfig, AcnForMaskedLM, AcnForSequenceClassification

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ["good", "fine", "great"], ["bad", "poor", "awful"]
FILLER = ["the", "film", "book", "was", "a", "and", "very", "plot", "actor", "long"]


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Words split at white space, [CLS] and [SEP] around them, token types for pairs."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *GOOD, *BAD, *FILLER])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return TokenizersBackend(
        tokenizer_object=core,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def small_config(tokenizer: Any) -> Callable[..., AcnConfig]:
    """A three-layer configuration; keyword arguments override. Large initial weights make depths differ."""

    def make(**overrides: Any) -> AcnConfig:
        values = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 24,
            "initializer_range": 0.2,
        }
        return AcnConfig(**values | overrides)

    return make


@pytest.fixture(scope="session")
def classifier(small_config: Callable[..., AcnConfig]) -> Callable[..., AcnForSequenceClassification]:
    """A randomly initialised classifier in evaluation mode."""

    def make(**overrides: Any) -> AcnForSequenceClassification:
        torch.manual_seed(overrides.pop("seed", 0))
        return AcnForSequenceClassification(small_config(**overrides)).eval()

    return make


@pytest.fixture(scope="session")
def pretrained(
    tmp_path_factory: pytest.TempPathFactory, small_config: Callable[..., AcnConfig], tokenizer: Any
) -> Path:
    """A folder as pretraining exports it: masked language model and tokenizer."""
    folder = tmp_path_factory.mktemp("run") / "model"
    torch.manual_seed(0)
    AcnForMaskedLM(small_config(initializer_range=0.1)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_split(glue_dir: Path, task: str, split: str, columns: dict[str, list]) -> None:
    (glue_dir / task).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), glue_dir / task / f"{split}.parquet")


@pytest.fixture(scope="session")
def save_split() -> Callable[[Path, str, str, dict[str, list]], None]:
    """Writes GLUE_DIR/TASK/SPLIT.parquet from columns."""
    return write_split


def _sentiment(rng: random.Random, size: int) -> dict[str, list]:
    labels = [rng.randrange(2) for _ in range(size)]
    sentences = []
    for label in labels:
        words = rng.choices(FILLER, k=rng.randint(2, 8))
        words.insert(rng.randrange(len(words) + 1), rng.choice(GOOD if label else BAD))
        sentences.append(" ".join(words))
    return {"sentence": sentences, "label": labels, "idx": list(range(size))}


@pytest.fixture(scope="session")
def glue_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sst2 and a task of our own, `docpair` (do two sentences share their sentiment word), stsb with float labels."""
    folder, rng = tmp_path_factory.mktemp("glue"), random.Random(0)
    for split, size in (("train", 320), ("validation", 80)):
        one = _sentiment(rng, size)
        two = _sentiment(rng, size)
        write_split(folder, "sst2", split, one)
        pair = {"sentence1": one["sentence"], "sentence2": two["sentence"]}
        same = [int(a == b) for a, b in zip(one["label"], two["label"], strict=True)]
        write_split(folder, "docpair", split, pair | {"label": same})
        write_split(folder, "stsb", split, pair | {"label": [5.0 * a for a in same]})
    return folder


class RecordingTracker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.opened = 0
        self.figures: list[Path] = []
        self.settings: dict[str, Any] = {}

    def log_settings(self, values: dict[str, Any]) -> None:
        self.settings |= values

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((step, values))

    def open(self) -> "RecordingTracker":
        """What `finetune` is given."""
        self.opened += 1
        return self

    def log_figure(self, path: Path, artifact_path: str) -> None:
        self.figures.append(path)

    def series(self, name: str) -> dict[int, float]:
        return {step: values[name] for step, values in self.metrics if name in values}


@pytest.fixture
def tracker() -> RecordingTracker:
    return RecordingTracker()


@pytest.fixture(scope="session")
def make_tracker() -> type[RecordingTracker]:
    """The tracker's class, for fixtures that live longer than one test."""
    return RecordingTracker


@pytest.fixture(scope="module")
def config(pretrained: Path, glue_dir: Path) -> FinetuneConfig:
    """A fine-tuning on sst2 that learns it."""
    return FinetuneConfig(
        model=str(pretrained),
        tasks="sst2",
        output="",
        glue_dir=str(glue_dir),
        epochs=3,
        learning_rate=3e-3,
        batch_size=16,
        max_length=16,
    )
