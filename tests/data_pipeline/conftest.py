"""Small corpora and prepared folders."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import Manifest
from data_pipeline.corpus.packing import BlockPacker
from data_pipeline.shards import TOKENIZER_FOLDER, ShardWriter, dtype_for
from data_pipeline.tokenizer import train_tokenizer, vocabulary_of

PHRASE = "the of a in house river stone water bright Café naïve walking walked talks under over green seven"


def _texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(PHRASE.split(), k=rng.randint(5, 60))).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="session")
def texts() -> Callable[..., list[str]]:
    """texts(count, seed=0): documents of random words."""
    return _texts


@pytest.fixture(scope="session")
def tokenizer():
    """A small trained tokenizer."""
    return train_tokenizer(_texts(200), vocab_size=120, seq_length=16)


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_prepared(tokenizer, tokenizer_folder, tmp_path_factory) -> Callable[..., Path]:
    """make_prepared(blocks, validation=20, cell=8, shard_row_groups=3): a prepared folder of random tokens.

    Block b of a split carries its own number in its second token, modulo 90.
    """

    def make(blocks: int, validation: int = 20, cell: int = 8, shard_row_groups: int = 3) -> Path:
        folder = tmp_path_factory.mktemp("prepared")
        shutil.copytree(tokenizer_folder, folder / TOKENIZER_FOLDER)
        vocabulary, length = vocabulary_of(tokenizer), 16
        dtype, splits = dtype_for(vocabulary.vocab_size), {}
        for split, count in (("train", blocks), ("validation", validation)):
            writer = ShardWriter(folder, split, length, dtype, cell, shard_row_groups)
            packer = BlockPacker(writer, vocabulary, length, cell, dtype)
            ids = np.random.default_rng(count).integers(5, vocabulary.vocab_size, (count, length - 2))
            ids[:, 0] = 5 + np.arange(count) % 90
            packer.add([ids.reshape(-1).tolist()])
            splits[split] = packer.finish()
        Manifest(length, dtype, cell, vocabulary, {}, splits).save(folder)
        return folder

    return make
