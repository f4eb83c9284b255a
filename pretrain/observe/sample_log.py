"""Which samples every optimizer step was made of, for auditing: RUN/samples/rank-00000.jsonl."""

import json
from pathlib import Path
from typing import IO

import torch
import torch.distributed as dist

from data_pipeline import write_text


class SampleLog:
    """Appends {"step", "samples"} for each step of one rank; the lines of all ranks together are the global batches.

    Args:
        wanted: False: only forgets what earlier starts of the run noted.
    """

    def __init__(self, run: Path, wanted: bool):
        self._run, self._wanted = run, wanted
        self._file: IO[str] | None = None

    def go_on_after(self, step: int) -> None:
        """Note the steps after `step`, in place of what was noted of them. A collective.

        Rank 0 rewrites everyone's files, which may be those of another number of ranks: nobody may have one open.
        """
        if self._file is not None:
            self._file.close()
        dist.barrier()
        if dist.get_rank() == 0:
            _forget_after(self._run, step)
        dist.barrier()
        if self._wanted:
            path = self._run / "samples" / f"rank-{dist.get_rank():05d}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", buffering=1)

    def add(self, step: int, samples: list[torch.Tensor]) -> None:
        """Note the sample ids of the micro-batches of optimizer step `step` (1-based, as in the metrics)."""
        if self._file is not None:
            self._file.write(json.dumps({"step": step, "samples": torch.cat(samples).tolist()}) + "\n")


def _forget_after(run: Path, step: int) -> None:
    for path in sorted((run / "samples").glob("rank-*.jsonl")):
        write_text(path, "".join(line for line in path.read_text().splitlines(True) if _belongs(line, step)))


def _belongs(line: str, step: int) -> bool:
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError, RecursionError):  # torn by a kill, or by other hands
        return False
