"""How fast the data pipeline is, as ratios measured in one run: `python -m benchmarks.data --json out.json`.

Every comparison alternates its two sides and reports medians of CPU seconds of this process, so that other work on
the machine disturbs both alike. Without --corpus the text is made here: words drawn with Zipf's frequencies.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one core against one core
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.data_plan import plan_growth
from data_pipeline import (
    CorpusConfig,
    Manifest,
    MaskingConfig,
    PrepareConfig,
    StreamConfig,
    TokenStream,
    iter_documents,
    prepare,
)

BATCH = 256
SAMPLE_FAR = 10**9


def main() -> None:
    """Measure everything and print, or write, the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--corpus", help="text to use: files or a glob, as corpus.train of `acn prepare`")
    parser.add_argument("--megabytes", type=float, default=16, help="size of the text made here")
    parser.add_argument("--repeats", type=int, default=5, help="alternations of each comparison")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}",
        "corpus": args.corpus or f"{args.megabytes:g} MB of random words, seed 0",
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corpus = args.corpus or str(write_text(work / "text.jsonl", args.megabytes))
        prepared = first_prepare(work, corpus)
        figures["prepare"] = against_encoding(work, corpus, prepared, args.repeats)
        figures["stream"] = against_reading(prepared, args.repeats)
        figures["datasets"] = against_datasets(prepared, args.repeats)
        figures["first_batch"] = first_batches(prepared, args.repeats)
    figures["plan"] = plan_growth()
    text = json.dumps(figures, indent=1)
    print(text)
    if args.json:
        aside = args.json.with_name(args.json.name + ".partial")
        aside.write_text(text + "\n")
        os.replace(aside, args.json)


def write_text(file: Path, megabytes: float) -> Path:
    """Documents of words with Zipf's frequencies, as JSON lines."""
    rng = random.Random(0)
    letters = "eeeeetttaaaoooiiinnnssshhhrrrdddlllcccuuummmwwwfffggyyppbbvk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    written = 0
    with file.open("w") as stream:
        while written < megabytes * 1e6:
            text = " ".join(rng.choices(words, weights, k=rng.randint(50, 1500)))
            written += stream.write(json.dumps({"text": text}) + "\n")
    return file


def first_prepare(work: Path, corpus: str) -> Path:
    """Train a tokenizer and prepare the corpus once."""
    config = PrepareConfig(CorpusConfig(train=corpus), str(work / "prepared"), vocab_size=8192, tokenizer_sample_mb=8)
    prepare(config, say=lambda line: None)
    return Path(config.output)


def alternate(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median speed of each side: units of work per CPU second, each side returning its units."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, work in sides.items():
            began = time.process_time()
            units = work()
            if turn:  # the first is warm-up
                speeds[name].append(units / (time.process_time() - began))
    return {name: statistics.median(found) for name, found in speeds.items()}


def against_encoding(work: Path, corpus: str, prepared: Path, repeats: int) -> dict[str, float]:
    """Tokenize + pack + write, with reading the text, against bare encode_batch_fast of the same text in memory."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")
    backend = tokenizer.backend_tokenizer
    texts = [text for source in CorpusConfig(train=corpus).sources("train") for text in iter_documents(source)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    numbers = iter(range(1_000_000))

    def whole() -> float:
        output = str(work / f"again-{next(numbers)}")
        config = PrepareConfig(CorpusConfig(train=corpus), output, tokenizer=str(prepared / "tokenizer"))
        prepare(config, say=lambda line: None)
        return megabytes

    def bare() -> float:
        for start in range(0, len(texts), 256):
            backend.encode_batch_fast(texts[start : start + 256], add_special_tokens=False)
        return megabytes

    speeds = alternate({"prepare": whole, "encode_batch_fast": bare}, repeats)
    return {
        "prepare_mb_per_s": speeds["prepare"],
        "encode_batch_fast_mb_per_s": speeds["encode_batch_fast"],
        "ratio": speeds["prepare"] / speeds["encode_batch_fast"],
        "goal": 0.85,
    }


def stream_tokens(prepared: Path, tokens: int) -> float:
    """Take masked int64 batches from the stream; returns the tokens taken."""
    batches = TokenStream(prepared, StreamConfig(), MaskingConfig()).micro_batches(0, BATCH)
    taken = 0
    while taken < tokens:
        taken += next(batches).input_ids.numel()
    batches.close()
    return taken


def against_reading(prepared: Path, repeats: int) -> dict[str, float]:
    """An epoch of masked batches, opening and prefetching included, against every row group once as a numpy view."""
    manifest = Manifest.load(prepared)
    split = manifest.split("train")

    def bare() -> float:
        tokens = 0
        for shard in split.shards:
            file = pq.ParquetFile(prepared / shard.file)
            for group in range(file.metadata.num_row_groups):
                column = file.read_row_group(group, use_threads=False).column(0)
                tokens += column.combine_chunks().flatten().to_numpy(zero_copy_only=True).size
        return tokens

    wanted = max(split.tokens, 10_000_000)
    speeds = alternate({"stream": lambda: stream_tokens(prepared, wanted), "read": bare}, repeats)
    return {
        "stream_tokens_per_s": speeds["stream"],
        "read_tokens_per_s": speeds["read"],
        "ratio": speeds["stream"] / speeds["read"],
        "goal_tokens_per_s": 10e6,
        "goal": 0.1,
    }


def against_datasets(prepared: Path, repeats: int) -> dict[str, float]:
    """The stream against the usual way: `datasets` streaming, shuffle buffer, collator, DataLoader."""
    from datasets import load_dataset
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    manifest = Manifest.load(prepared)
    files = [str(prepared / shard.file) for shard in manifest.split("train").shards]
    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")

    def usual() -> float:
        rows = load_dataset("parquet", data_files=files, split="train", streaming=True).rename_column(
            "tokens", "input_ids"
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        loader = DataLoader(rows.shuffle(seed=0, buffer_size=1000), batch_size=BATCH, collate_fn=collator)
        return sum(batch["input_ids"].numel() for batch in islice(loader, 60))

    speeds = alternate({"stream": lambda: stream_tokens(prepared, 5_000_000), "datasets": usual}, repeats)
    return {
        "stream_tokens_per_s": speeds["stream"],
        "datasets_tokens_per_s": speeds["datasets"],
        "ratio": speeds["stream"] / speeds["datasets"],
        "goal": 20,
    }


def first_batches(prepared: Path, repeats: int) -> dict[str, float]:
    """Milliseconds from opening the stream to its first batch of 32 blocks, at the beginning and far on."""
    found: dict[int, list[float]] = {0: [], SAMPLE_FAR: []}
    for turn in range(4 * repeats + 1):
        for start, times in found.items():
            began = time.perf_counter()
            batches = TokenStream(prepared, StreamConfig(), MaskingConfig()).micro_batches(start, 32)
            next(batches)
            if turn:
                times.append(1e3 * (time.perf_counter() - began))
            batches.close()
    near, far = (np.array(times) for times in found.values())
    return {
        "sample_0_ms": float(np.median(near)),
        "sample_1e9_ms": float(np.median(far)),
        "sample_0_spread_ms": float(np.percentile(near, 75) - np.percentile(near, 25)),
        "sample_1e9_spread_ms": float(np.percentile(far, 75) - np.percentile(far, 25)),
    }


if __name__ == "__main__":
    main()
