"""How planning grows with the corpus: manifests of 10^3 to 10^6 shards, read by 4,096 ranks.

Each size is measured in a process of its own: `python -m benchmarks.data_plan SHARDS` prints one JSON line.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_pipeline import BlockReader, Manifest, Order, Shard, Split, Vocabulary
from data_pipeline.lanes import plan_windows

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


def plan_growth() -> list[dict[str, float]]:
    """One measurement for each size."""
    commands = ([sys.executable, "-m", "benchmarks.data_plan", str(10**power)] for power in (3, 4, 5, 6))
    return [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for command in commands]


def measure(shards: int) -> dict[str, float]:
    """Plan the next batch of random ranks after a resume at random samples, in a corpus of so many shards."""
    before = _memory()
    manifest = _manifest(shards)
    loaded = _memory()
    began = time.perf_counter()
    files = NoFiles()
    reader = BlockReader(".", "train", manifest, files=files, rank=0, world_size=RANKS)
    opened = time.perf_counter() - began
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
        "shards": shards,
        "tokens": reader.blocks * SEQ_LENGTH,
        "plan_ms_median": float(np.median(times)),
        "plan_ms_most": float(np.max(times)),
        "open_ms": 1e3 * opened,
        "imports_mb": before,
        "manifest_mb": loaded - before,
        "plan_mb": _memory() - loaded,
        "process_mb": _memory(),
        **_loading(manifest),
    }


def _manifest(shards: int) -> Manifest:
    blocks = SHARD_CELLS * CELL
    found = [Shard(f"train/shard-{number:05d}.parquet", f"{number:064x}", 1, blocks) for number in range(shards)]
    split = Split(found, shards * blocks, shards * blocks * SEQ_LENGTH, shards, 0)
    return Manifest(
        SEQ_LENGTH, "uint16", CELL, Vocabulary("", 32768, 4, 0, 2, 3, 1, (0, 1, 2, 3, 4)), {}, {"train": split}
    )


def _loading(manifest: Manifest) -> dict[str, float]:
    """Seconds to parse the manifest's JSON, and the process's peak memory after it, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        manifest.save(folder)
        file = Path(folder) / "manifest.json"
        size = file.stat().st_size / 1e6
        began = time.perf_counter()
        json.loads(file.read_text(encoding="utf-8"))
        return {"json_mb": size, "json_parse_s": time.perf_counter() - began, "peak_with_json_mb": _peak()}


def _memory() -> float:
    """Resident memory of this process now, MB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
