"""How fast the data pipeline is, as ratios measured in one run: `python -m benchmarks.data --json out.json`.

Every comparison alternates its two sides and reports medians of CPU seconds of this process, so that other work on
the machine disturbs both alike. Without --corpus the text is made here: words drawn with Zipf's frequencies.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one core against one core
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq

from benchmarks.corpus import write_text
from benchmarks.data_plan import plan_growth
from benchmarks.timing import Benchmark, Goal, Report, Step, interleave, ratio
from data_pipeline import Manifest
from data_pipeline.corpus import CorpusConfig, PrepareConfig, iter_documents, prepare_corpus
from data_pipeline.stream import MaskingConfig, StreamConfig, TokenStream

Work = Callable[[], float]
"""Does something and returns how many units of it, always as many."""

BATCH = 256
SAMPLE_FAR = 10**9


def measure(options: argparse.Namespace, report: Report) -> None:
    """Every comparison on one prepared corpus, then planning."""
    megabytes = 2.0 if options.quick else options.megabytes
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corpus = options.corpus or str(write_text(work / "text.jsonl", megabytes))
        prepared = first_prepare(work, corpus)
        results: dict[str, Any] = {
            "corpus": options.corpus or f"{megabytes:g} MB of random words, seed 0",
            "prepare": against_encoding(work, corpus, prepared, options.rounds),
            "stream": against_reading(prepared, options.rounds),
            "datasets": against_datasets(prepared, options.rounds),
            "first_batch": first_batches(prepared, options.rounds),
        }
    results["plan"] = plan_growth((3,) if options.quick else (3, 4, 5, 6))
    rows = [
        [name, *(f"{figure}={value:.4g}" for figure, value in found.items())]
        for name, found in results.items()
        if isinstance(found, dict) and "ratio" in found
    ]
    report.show(f"per CPU second; {results['corpus']}", ["comparison", "this", "against", "ratio"], rows)
    first = results["first_batch"]
    print(f"first batch: {first['sample_0_ms']:.0f} ms at sample 0, {first['sample_1e9_ms']:.0f} ms at sample 10^9")
    stream = results["stream"]
    report.goals += [
        Goal("tokenize + pack + write over bare encode_batch_fast, MB/s", results["prepare"]["ratio"], 0.85),
        Goal("masked int64 batches, million tokens per CPU second", stream["stream_tokens_per_s"] / 1e6, 10),
        Goal("masked int64 batches over bare row group -> numpy", stream["ratio"], 0.1),
        Goal("masked batches over datasets + collator + DataLoader", results["datasets"]["ratio"], 20),
    ]
    report.results |= results


def first_prepare(work: Path, corpus: str) -> Path:
    """Train a tokenizer and prepare the corpus once."""
    config = PrepareConfig(CorpusConfig(train=corpus), str(work / "prepared"), vocab_size=8192, tokenizer_sample_mb=8)
    prepare_corpus(config, say=lambda line: None)
    return Path(config.output)


def alternate(this: Work, against: Work, names: tuple[str, str], rounds: int) -> dict[str, float]:
    """Units of work per CPU second of both sides under their names, and the median of the rounds' ratios."""
    units: dict[str, float] = {}

    def counted(name: str, work: Work) -> None:
        units[name] = work()

    sides = dict(zip(names, (this, against), strict=True))
    cases: dict[str, Step] = {name: partial(counted, name, work) for name, work in sides.items()}
    times = interleave(cases, rounds, warmup=1, clock=time.process_time)
    speeds = {name: units[name] / timing.median for name, timing in times.items()}
    ours, theirs = names
    return speeds | {"ratio": units[ours] / units[theirs] * ratio(times[theirs], times[ours])}


def against_encoding(work: Path, corpus: str, prepared: Path, rounds: int) -> dict[str, float]:
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
        prepare_corpus(config, say=lambda line: None)
        return megabytes

    def bare() -> float:
        for start in range(0, len(texts), 256):
            backend.encode_batch_fast(texts[start : start + 256], add_special_tokens=False)
        return megabytes

    return alternate(whole, bare, ("prepare_mb_per_s", "encode_batch_fast_mb_per_s"), rounds)


def stream_tokens(prepared: Path, tokens: int) -> float:
    """Take masked int64 batches from the stream; returns the tokens taken."""
    batches = TokenStream(prepared, StreamConfig(), MaskingConfig()).micro_batches(0, BATCH)
    taken = 0
    while taken < tokens:
        taken += next(batches).input_ids.numel()
    batches.close()
    return taken


def against_reading(prepared: Path, rounds: int) -> dict[str, float]:
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

    ours = partial(stream_tokens, prepared, max(split.tokens, 10_000_000))
    return alternate(ours, bare, ("stream_tokens_per_s", "read_tokens_per_s"), rounds)


def against_datasets(prepared: Path, rounds: int) -> dict[str, float]:
    """The stream against the usual way: `datasets` streaming, shuffle buffer, collator, DataLoader."""
    from datasets import load_dataset
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    manifest = Manifest.load(prepared)
    files = [str(prepared / shard.file) for shard in manifest.split("train").shards]
    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")

    def stream_by_datasets() -> float:
        rows = load_dataset("parquet", data_files=files, split="train", streaming=True).rename_column(
            "tokens", "input_ids"
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        loader = DataLoader(rows.shuffle(seed=0, buffer_size=1000), batch_size=BATCH, collate_fn=collator)
        return sum(batch["input_ids"].numel() for batch in islice(loader, 60))

    ours = partial(stream_tokens, prepared, 5_000_000)
    return alternate(ours, stream_by_datasets, ("stream_tokens_per_s", "datasets_tokens_per_s"), rounds)


def first_batches(prepared: Path, rounds: int) -> dict[str, float]:
    """Milliseconds from opening the stream to its first batch of 32 blocks, at the beginning and far on."""
    found: dict[int, list[float]] = {0: [], SAMPLE_FAR: []}
    for turn in range(4 * rounds + 1):
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


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", help="text to use: files or a glob, as corpus.train of `acn prepare`")
    parser.add_argument("--megabytes", type=float, default=16, help="size of the text made here (2 with --quick)")


BENCHMARK = Benchmark("data", __doc__, measure, rounds=3, add_options=_add_options)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
