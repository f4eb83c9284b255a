"""Text made on the spot, for benchmarks to which the meaning of words is nothing."""

import json
import random
from pathlib import Path

from data_pipeline.corpus import CorpusConfig, PrepareConfig, prepare_corpus
from data_pipeline.folder import Packing


def write_text(file: Path, megabytes: float, words: int = 20_000) -> Path:
    """Documents of `words` different words with Zipf's frequencies, as JSON lines."""
    rng = random.Random(0)
    letters = "eeeeetttaaaoooiiinnnssshhhrrrdddlllcccuuummmwwwfffggyyppbbvk"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(words)]
    weights = [1 / rank for rank in range(1, words + 1)]
    written = 0
    with file.open("w") as stream:
        while written < megabytes * 1e6:
            text = " ".join(rng.choices(vocabulary, weights, k=rng.randint(50, 1500)))
            written += stream.write(json.dumps({"text": text}) + "\n")
    return file


def prepared_corpus(
    folder: Path, megabytes: float, vocab_size: int, seq_length: int, packing: Packing = "blocks"
) -> Path:
    """A prepared corpus below `folder`, as `acn prepare` writes it; the one that is there, if asked again."""
    output = folder / f"tokens-{vocab_size}-{seq_length}-{packing}"
    if output.exists():
        return output
    text = folder / f"text-{vocab_size}.jsonl"
    if not text.exists():
        write_text(text, megabytes, words=2 * vocab_size)
    corpus = CorpusConfig(train=str(text), validation_fraction=0.1)
    config = PrepareConfig(corpus, str(output), vocab_size=vocab_size, seq_length=seq_length, packing=packing)
    prepare_corpus(config, say=lambda line: None)
    return output
