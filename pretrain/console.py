"""What the user of a run sees while it goes on: lines here, a live panel in `launch.console`."""

from collections.abc import Mapping
from typing import Protocol

from .meter import duration


class Console(Protocol):
    """Where rank 0 tells how the run is going; the caller of `pretrain` hands it in."""

    def say(self, line: str) -> None:
        """Tell something once."""

    def progress(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Show what was just measured at `step` of `steps`: of training, validation or a checkpoint."""


class LineConsole:
    """One line for every logging step and validation, for logs and whoever is not at a terminal."""

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)

    def progress(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Print the line of a logging step or of a validation; other measurements have none."""
        if "train/loss" in metrics:
            self.say(training_line(step, steps, metrics))
        if "validation/loss" in metrics:
            self.say(validation_line(step, metrics))


def training_line(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """One line for one logging step."""
    return (
        f"step {step:>{len(str(steps))}}/{steps}  loss {metrics['train/loss']:.4f}  "
        f"accuracy {metrics['train/accuracy']:.4f}  lr {metrics['train/learning_rate']:.2e}  "
        f"{metrics['train/tokens_per_second']:,.0f} tokens/s  MFU {metrics['train/mfu']:.1%}  "
        f"{duration(metrics['train/seconds_left'])} left"
    )


def validation_line(step: int, metrics: Mapping[str, float]) -> str:
    """One line for one validation, with the depth at which the model could be cut now."""
    return (
        f"step {step}  validation loss {metrics['validation/loss']:.4f}  "
        f"masked accuracy {metrics['validation/accuracy']:.4f}  "
        f"best cut: depth {metrics['validation/cut_depth']:.0f} at {metrics['validation/cut_accuracy']:.4f}"
    )
