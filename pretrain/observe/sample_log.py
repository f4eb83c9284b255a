"""Which samples every optimizer step was made of, for auditing: RUN/samples/rank-00000.jsonl."""

import json
import os
from pathlib import Path

import torch


class SampleLog:
    """Appends {"step", "samples"} for each step of one rank; the lines of all ranks together are the global batches."""

    def __init__(self, run: Path, rank: int):
        folder = run / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"rank-{rank:05d}.jsonl").open("a", buffering=1)

    def add(self, step: int, samples: list[torch.Tensor]) -> None:
        """Note the sample ids of the micro-batches of optimizer step `step` (1-based, as in the metrics)."""
        self._file.write(json.dumps({"step": step, "samples": torch.cat(samples).tolist()}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def forget_after(run: Path, step: int) -> None:
    """Drop what was noted of steps after `step`: they are done again, possibly by another number of ranks."""
    for path in sorted((run / "samples").glob("rank-*.jsonl")):
        aside = path.with_suffix(".tmp")
        aside.write_text("".join(line for line in path.read_text().splitlines(True) if _belongs(line, step)))
        os.replace(aside, path)


def _belongs(line: str, step: int) -> bool:
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except ValueError:  # torn by a kill
        return False
