"""Ranks of `acn pretrain` that never get out of a step."""

import os
import time
from pathlib import Path
from typing import Any

from launch import cli
from launch.ranks import run_local_ranks
from pretrain import trainer
from pretrain.stop import StopRequest


def launch(folder: Path, config: Path) -> int:
    """Start two of them; step 4 begins with the files in-step-RANK, a signal leaves seen-RANK."""
    return run_local_ranks(2, _stuck_rank, (folder, config))


def _stuck_rank(work: tuple[Path, Path]) -> int:
    folder, config = work
    rank = os.environ["RANK"]
    inputs_of, handle = trainer.model_inputs, StopRequest._handle

    def wait_in_step(batch: Any, device: Any) -> Any:
        if batch.samples.min() < 3 * 8:
            return inputs_of(batch, device)
        (folder / f"in-step-{rank}").touch()
        while True:
            time.sleep(0.01)

    def tell(request: StopRequest, number: int, frame: Any) -> None:
        try:
            handle(request, number, frame)
        finally:
            (folder / f"seen-{rank}").touch()

    trainer.model_inputs, StopRequest._handle = wait_in_step, tell  # type: ignore[method-assign]
    return cli.main(["pretrain", "--config", str(config)])
