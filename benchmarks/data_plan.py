"""How planning grows with the corpus: manifests of 10^3 to 10^6 shards, read by 4,096 ranks.

Each size is measured in a process of its own: `python -m benchmarks.data_plan DIR` loads DIR/manifest.json, plans, and
prints one JSON line.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_pipeline import TOKENIZER_FOLDER, Manifest, Shard, Split, Vocabulary, train_tokenizer, vocabulary_of
from data_pipeline.stream import BlockReader, Order, plan_windows

RANKS, LANES, WINDOW, CELL, SHARD_CELLS, MICRO_BATCH = 4096, 8192, 4, 512, 153, 32
SEQ_LENGTH = 128  # a million shards of 153 * 512 blocks are 10 trillion tokens


class NoFiles:
    """Shards that are never opened."""

    keep_open = 1

    def __init__(self) -> None:
        self.announced: list[Shard] = []

    def check(self, shard: Shard) -> None:
        """There is nothing to look at."""

    def announce(self, shards: Iterable[Shard]) -> None:
        """Note what would be fetched."""
        self.announced += shards

    def open(self, shard: Shard) -> None:
        """Planning opens nothing."""
        raise AssertionError(shard.file)

    def name(self, shard: Shard) -> str:
        """Its name."""
        return shard.file

    def close(self) -> None:
        """Nothing to close."""


def plan_growth(powers: Sequence[int]) -> list[dict[str, float]]:
    """One measurement for each size, 10^power shards."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["a few words for a tokenizer that nobody will use"], 64, SEQ_LENGTH)
        tokenizer.save_pretrained(Path(folder) / TOKENIZER_FOLDER)
        found = []
        for power in powers:
            _write_manifest(Path(folder), 10**power, vocabulary_of(tokenizer))
            command = [sys.executable, "-m", "benchmarks.data_plan", folder]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    return found


def measure(folder: Path) -> dict[str, float]:
    """Plan the next batch of random ranks after a resume at random samples; times in ms, memory in MB."""
    imports = _memory("VmRSS")
    began = time.perf_counter()
    manifest = Manifest.load(folder)
    load_ms, loaded, load_peak = 1e3 * (time.perf_counter() - began), _memory("VmRSS"), _memory("VmHWM")
    began = time.perf_counter()
    files = NoFiles()
    reader = BlockReader(".", "train", manifest, files=files, rank=0, world_size=RANKS)
    open_ms = 1e3 * (time.perf_counter() - began)
    rng = np.random.default_rng(0)
    times = []
    for _ in range(20):
        epoch_seed, rank = int(rng.integers(1 << 30)), int(rng.integers(RANKS))
        start = int(rng.integers(3 * reader.blocks // RANKS)) * RANKS
        began = time.perf_counter()
        order = Order(reader.blocks, LANES, WINDOW, epoch_seed, CELL)
        samples = start + rank + RANKS * np.arange(MICRO_BATCH)
        order.locate(samples)
        plan = plan_windows(order, start, rank, RANKS)
        for _ in range(LANES // RANKS):  # the windows that the rank has to read first
            reader.announce(next(plan).ids)
        times.append(1e3 * (time.perf_counter() - began))
    return {
        "shards": len(manifest.split("train").shards),
        "tokens": reader.blocks * SEQ_LENGTH,
        "plan_ms_median": float(np.median(times)),
        "plan_ms_most": float(np.max(times)),
        "open_ms": open_ms,
        "load_manifest_ms": load_ms,
        "manifest_and_plan_mb": _memory("VmRSS") - imports,
        "plan_mb": _memory("VmRSS") - loaded,
        "imports_mb": imports,
        "load_manifest_peak_mb": load_peak,
    }


def _write_manifest(folder: Path, shards: int, vocabulary: Vocabulary) -> None:
    blocks = SHARD_CELLS * CELL
    found = [Shard(f"train/shard-{number:05d}.parquet", f"{number:064x}", 1, blocks) for number in range(shards)]
    split = Split(found, shards * blocks, shards * blocks * SEQ_LENGTH, shards, 0)
    Manifest(SEQ_LENGTH, "uint16", CELL, vocabulary, {}, {"train": split}).save(folder)


def _memory(line: str) -> float:
    """Resident memory of this process, MB: now (VmRSS) or at its highest (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
