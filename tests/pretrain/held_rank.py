"""`acn pretrain` with ranks that are held at a step until they get a signal, so that no test has to hurry."""

import itertools
import os
import time
from functools import partial
from pathlib import Path

from launch import cli
from launch.verbs import pretrain as verb
from pretrain.stop import StopRequest


def launch(folder: Path, config: Path, step: int, for_good: bool = False) -> int:
    """Run `acn pretrain --config CONFIG`; once `step` steps are made, its ranks leave the files held-RANK and wait.

    A signal leaves seen-RANK, and lets them go on unless they are held for good.
    """
    verb._run_rank = partial(_held_rank, folder, step, for_good)  # type: ignore[assignment]
    return cli.main(["pretrain", "--config", str(config)])


def _held_rank(folder: Path, step: int, for_good: bool, args: verb.Args) -> int:
    rank, steps, code = os.environ["RANK"], itertools.count(1), StopRequest.code

    def hold(request: StopRequest) -> int:
        """Stands where the ranks agree on whether to stop, at the end of every step."""
        if next(steps) == step:
            (folder / f"held-{rank}").touch()
            while not code(request):
                time.sleep(0.01)
            (folder / f"seen-{rank}").touch()
            while for_good:
                time.sleep(0.01)
        return code(request)

    StopRequest.code = hold  # type: ignore[method-assign]
    return verb._run_rank(args)
