"""What the ranks of `test_run_ahead.py` do: whole trainings in one process, with the host waiting or running ahead."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pretrain import PretrainConfig, StopRequest, Training, init_distributed
from pretrain.observe.console import LineConsole


class Silent(LineConsole):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Metrics:
    """A tracker that keeps the curves."""

    def __init__(self) -> None:
        self.curves: dict[str, dict[int, float]] = {}

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, {})[step] = value

    def log_tags(self, tags: dict[str, str]) -> None:
        pass

    log_figure = log_model = log_tags


def begin(config: PretrainConfig) -> tuple[Training, Metrics, Silent]:
    """A training in a process group that is there already."""
    metrics, console = Metrics(), Silent()
    Path(config.output).mkdir(parents=True, exist_ok=True)
    return Training(config, torch.device("cpu"), lambda: metrics, console), metrics, console


def sicken(training: Training, samples: set[int]) -> None:
    """Make the loss NaN for micro-batches with one of `samples`."""
    inner = training.engine.forward
    batches = iter(())

    def forward(*args: Any, **inputs: Any) -> Any:
        outputs = inner(*args, **inputs)
        if samples & set(training.current.tolist()):
            outputs.loss = outputs.loss * math.nan
        return outputs

    del batches
    training.engine.forward = forward


def result(training: Training, metrics: Metrics, console: Silent) -> dict[str, Any]:
    """What two trainings that are the same have in common."""
    weights = {name: value.detach().clone() for name, value in training.engine.module.state_dict().items()}
    names = ("train/loss", "train/accuracy", "train/gradient_norm", "train/skipped_steps", "validation/loss")
    return {
        "weights": weights,
        "curves": {name: metrics.curves.get(name) for name in names},
        "progress": (training.progress.step, training.progress.samples, training.progress.applied),
        "health": training.progress.health,
        "warnings": [line for line in console.lines if "WARNING" in line],
    }


def train(config: PretrainConfig, before: Callable[[Training], None] = lambda _: None) -> dict[str, Any]:
    training, metrics, console = begin(config)
    before(training)
    training.fit()
    return result(training, metrics, console)


def train_all(work: tuple[list[tuple[str, PretrainConfig]], Path]) -> int:
    """Train with every configuration, and write the results by name to a file, on rank 0."""
    configs, file = work
    init_distributed(600.0)
    results = {name: train(config) for name, config in configs}
    if dist.get_rank() == 0:
        torch.save(results, file)
    dist.barrier()
    dist.destroy_process_group()
    return 0


__all__ = ["StopRequest", "begin", "result", "sicken", "train", "train_all"]
