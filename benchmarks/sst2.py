"""What fine-tuning is measured on: SST-2 or a stand-in of its lengths, and a model with a tokenizer of these words.

The stand-in has random words; its sentences are as long as SST-2's, whose training examples are phrases and much
shorter than those of its validation split. Nothing is learned from it, and nothing else that takes time differs.
"""

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import TokenizersBackend

from data_pipeline.tokenizer import SPECIAL_TOKENS
from eval import quiet_transformers
from modeling import AcnConfig, AcnForMaskedLM

SPLITS = {"train": 5000, "validation": 872}
# words of the shortest sentence, of every tenth of the sentences, and of the longest
WORDS = {
    "train": (1, 2, 3, 4, 5, 7, 9, 12, 15, 21, 52),
    "validation": (2, 9, 11, 14, 16, 19, 21, 24, 27, 32, 47),
}
DIFFERENT_WORDS = 14_800
STAND_IN = "random words in sentences as long as SST-2's"
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Shape:
    """An encoder of random weights."""

    hidden: int
    layers: int
    vocab: int = 30_522
    """BERT's; as many rows has the embedding, however many words the tokenizer knows."""


def sentences(split: str, rng: random.Random) -> Columns:
    """The stand-in for a split of SST-2: both have the same words, by Zipf's law."""
    spell = random.Random("words")
    words = ["".join(spell.choices("etaoinshrdlcumwfgypbvk", k=spell.randint(2, 8))) for _ in range(DIFFERENT_WORDS)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    size = SPLITS[split]
    lengths = np.interp(np.linspace(0, 10, size), range(11), WORDS[split]).round().astype(int).tolist()
    rng.shuffle(lengths)
    texts = [" ".join(rng.choices(words, weights, k=length)) for length in lengths]
    return {"sentence": texts, "label": [rng.randrange(2) for _ in texts], "idx": list(range(size))}


def read_split(glue_dir: Path, split: str) -> Columns:
    """So many examples of SST-2 as it was published, evenly spread over the file."""
    table = pq.read_table(glue_dir / "sst2" / f"{split}.parquet", columns=["sentence", "label", "idx"])
    size = min(SPLITS[split], len(table))
    return table.take(pa.array(np.linspace(0, len(table) - 1, size).round().astype(int))).to_pydict()


def write_task(folder: Path, glue_dir: Path | None, divisor: int = 1) -> str:
    """Write FOLDER/sst2/SPLIT.parquet; returns what the sentences are.

    Args:
        glue_dir: has the real one; None: the stand-in.
        divisor: leave out all but each so-many-th.
    """
    (folder / "sst2").mkdir(parents=True)
    for seed, split in enumerate(SPLITS):
        columns = sentences(split, random.Random(seed)) if glue_dir is None else read_split(glue_dir, split)
        kept = {name: values[::divisor] for name, values in columns.items()}
        pq.write_table(pa.table(kept), folder / "sst2" / f"{split}.parquet")
    return STAND_IN if glue_dir is None else "SST-2"


def tokenizer_of(task: Path) -> Any:
    """BERT's kind of tokenizer, whose words are those of the training split and whose pieces are letters."""
    count = Counter(w for s in pq.read_table(task / "train.parquet")["sentence"].to_pylist() for w in s.lower().split())
    letters = sorted({letter for word in count for letter in word})
    pieces = [*SPECIAL_TOKENS.values(), *letters, *(f"##{letter}" for letter in letters), *sorted(count)]
    core = Tokenizer(WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    frame = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return TokenizersBackend(tokenizer_object=core, **SPECIAL_TOKENS, model_input_names=names, model_max_length=512)


def write_model(folder: Path, connectivity: str, shape: Shape, task: Path) -> Path:
    """A model folder as `acn pretrain` leaves it, with random weights and no dropout."""
    torch.manual_seed(0)
    config = AcnConfig(
        vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers, connectivity=connectivity,
        num_attention_heads=max(1, shape.hidden // 64), intermediate_size=4 * shape.hidden,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with quiet_transformers():
        AcnForMaskedLM(config).save_pretrained(folder)
        tokenizer_of(task).save_pretrained(folder)
    return folder
