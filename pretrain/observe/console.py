"""What the user of a run sees while it goes on: lines here, a live panel in `launch.console`."""

import math
from collections.abc import Mapping
from typing import Protocol

from data_pipeline import duration


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
        if "train/learning_rate" in metrics:
            self.say(training_line(step, steps, metrics))
        if "validation/loss" in metrics or "validation/match" in metrics:
            self.say(validation_line(step, metrics))


def training_line(step: int, steps: int, metrics: Mapping[str, float]) -> str:
    """One line for one logging step; the loss of steps that were all left out is nan."""
    parts = [f"step {step:>{len(str(steps))}}/{steps}", f"loss {metrics.get('train/loss', math.nan):.4f}"]
    forms = {
        "train/accuracy": "accuracy {:.4f}",
        "train/match": "match {:.4f}",
        "train/shortcut_scale": "shortcuts {:.3f}",
        "train/learning_rate": "lr {:.2e}",
        "train/tokens_per_second": "{:,.0f} tokens/s",
        "train/mfu": "MFU {:.1%}",
    }
    parts += [form.format(metrics[name]) for name, form in forms.items() if name in metrics]
    if "train/seconds_left" in metrics:
        parts.append(f"{duration(metrics['train/seconds_left'])} left")
    return "  ".join(parts)


def validation_line(step: int, metrics: Mapping[str, float]) -> str:
    """One line for one validation, with the depth at which the model could be cut now and the match with a teacher."""
    parts = [f"step {step}"]
    if "validation/loss" in metrics:
        parts += [
            f"validation loss {metrics['validation/loss']:.4f}",
            f"masked accuracy {metrics['validation/accuracy']:.4f}",
            f"best cut: depth {metrics['validation/cut_depth']:.0f} at {metrics['validation/cut_accuracy']:.4f}",
        ]
    if "validation/match" in metrics:
        parts.append(f"validation match {metrics['validation/match']:.4f}")
    return "  ".join(parts)
