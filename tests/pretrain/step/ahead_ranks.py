"""What the ranks of `test_run_ahead.py` do: whole trainings in one process, with the host waiting or running ahead."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from launch.ranks import run_local_ranks
from pretrain import PretrainConfig, StopRequest, Training, init_distributed
from pretrain.distil import lessons
from pretrain.observe.console import LineConsole
from tests.pretrain.step.waits import Waits

Case = tuple[PretrainConfig, str, Any]
"""A run, and what happens to it: the name of a function of DOINGS and its argument."""


class Silent(LineConsole):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Curves:
    """A tracker that keeps the metrics."""

    def __init__(self) -> None:
        self.found: dict[str, dict[int, float]] = {}

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.found.setdefault(name, {})[step] = value

    def log_tags(self, tags: Any) -> None:
        pass

    log_figure = log_model = log_tags


def begin(config: PretrainConfig) -> tuple[Training, Curves, Silent]:
    """A training in a process group that is there already."""
    curves, console = Curves(), Silent()
    Path(config.output).mkdir(parents=True, exist_ok=True)
    return Training(config, torch.device("cpu"), lambda: curves, console), curves, console


@contextmanager
def plainly(training: Training, _: None) -> Iterator[None]:
    yield


@contextmanager
def sick(training: Training, samples: range) -> Iterator[None]:
    """The loss of micro-batches with one of `samples` is NaN."""
    inputs_of, ill = lessons.model_inputs, False

    def remember(batch: Any, device: torch.device) -> dict[str, Any]:
        nonlocal ill
        ill = any(int(sample) in samples for sample in batch.samples)
        return inputs_of(batch, device)

    def hook(module: Any, args: Any, output: Any) -> Any:
        if ill and module.training:
            output.loss = output.loss * math.nan
        return output

    handle = training.engine.module.register_forward_hook(hook)
    with mock.patch.object(lessons, "model_inputs", remember):
        yield
    handle.remove()


@contextmanager
def stopped(training: Training, step: int) -> Iterator[None]:
    """SIGTERM comes while `step` is under way."""
    inner = training.train_step

    def train_step() -> None:
        if training.progress.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        inner()

    training.train_step = train_step  # type: ignore[method-assign]
    yield


DOINGS: dict[str, Callable[[Training, Any], Any]] = {"plainly": plainly, "sick": sick, "stopped": stopped}


def train(case: Case) -> dict[str, Any]:
    """Train to the end, and return what two trainings that are the same have in common."""
    config, doing, what = case
    training, curves, console = begin(config)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    with DOINGS[doing](training, what):
        finished = training.fit()
    for number, handler in before.items():
        signal.signal(number, handler)
    names = ("train/loss", "train/accuracy", "train/gradient_norm", "train/skipped_steps", "validation/loss")
    return {
        "weights": {name: value.detach().clone() for name, value in training.engine.module.state_dict().items()},
        "curves": {name: curves.found.get(name) for name in names},
        "progress": vars(training.progress) | {"seconds": None},
        "finished": finished,
        "warnings": [line.replace(config.output, "RUN") for line in console.lines if "WARNING" in line],
    }


def launch(ranks: int, cases: dict[str, Case], file: Path) -> int:
    """Train every case on so many ranks; rank 0 writes the results by name."""
    return run_local_ranks(ranks, _train_all, (cases, file))


def _train_all(work: tuple[dict[str, Case], Path]) -> int:
    cases, file = work
    init_distributed(600.0)
    results = {name: train(case) for name, case in cases.items()}
    if dist.get_rank() == 0:
        torch.save(results, file)
    dist.barrier()
    dist.destroy_process_group()
    return 0


def launch_waits(configs: dict[str, PretrainConfig], planted: bool, file: Path) -> int:
    """Find the waits in three steps of each run; with `planted`, one of the steps reads its loss."""
    return run_local_ranks(1, _find_waits, (configs, planted, file))


def _find_waits(work: tuple[dict[str, PretrainConfig], bool, Path]) -> int:
    configs, planted, file = work
    init_distributed(600.0)
    found = {}
    for name, config in configs.items():
        training, _, _ = begin(config)
        steps, host = training.step, set()
        batches = training.micro_batches

        def of_the_host(source: Any = batches, seen: set[int] = host) -> Iterator[Any]:
            for batch in source:
                seen |= {value.data_ptr() for value in vars(batch).values()}
                yield batch

        training.micro_batches = of_the_host()  # type: ignore[assignment]
        if planted:
            training.step = lambda steps=steps: (float(next(steps.engine.module.parameters()).sum()), steps())[1]  # type: ignore[assignment]
        with StopRequest(training.folder, None) as request:
            for _ in range(2):
                training.advance(request)
            with Waits(lambda tensor, seen=host: tensor.data_ptr() in seen) as waits:
                for _ in range(3):
                    training.advance(request)
        batches.close()
        found[name] = waits.found
    torch.save(found, file)
    dist.destroy_process_group()
    return 0
