"""What a running fine-tuning tells: metrics to the tracker, and a line now and then to whoever watches."""

import math
import re
import time
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data_pipeline import duration

from .errors import Diverged


class Tracker(Protocol):
    """Where metrics go. The caller opens it, with the parameters of the run, and hands it down."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Log numbers at a step."""

    def log_settings(self, values: dict[str, Any]) -> None:
        """Record what the configuration left open, by the names of its options, and what else the run depends on."""

    def log_figure(self, path: Path, artifact_path: str) -> None:
        """Log a picture file under a folder of the run's artifacts."""


class ProgressCallback(TrainerCallback):
    """Logs `TASK/loss` and `TASK/learning_rate`, prints a line about every `interval` seconds, stops on a NaN loss."""

    def __init__(self, task: str, tracker: Tracker, interval: float = 10.0):
        self.task = task
        self.tracker = tracker
        self.interval = interval
        self.loss = math.nan
        self.started = self.printed = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.started = self.printed = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return  # the Trainer's closing summary
        self.loss = float(logs["loss"])
        if not math.isfinite(self.loss):
            raise Diverged(
                f"{self.task}: the loss is {self.loss} at step {state.global_step}, training diverged: "
                "lower learning_rate"
            )
        values = {f"{self.task}/loss": self.loss, f"{self.task}/learning_rate": float(logs["learning_rate"])}
        self.tracker.log_metrics(values, step=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.monotonic()
        if now - self.printed < self.interval:
            return
        self.printed = now
        left = (now - self.started) / state.global_step * (state.max_steps - state.global_step)
        print(
            f"{self.task}: step {state.global_step}/{state.max_steps}, loss {self.loss:.3f}, {duration(left)} left",
            flush=True,
        )


class NoTracker:
    """Hears nothing: what the ranks other than the first are given."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Nothing to do."""

    def log_settings(self, values: dict[str, Any]) -> None:
        """Nothing to do."""

    def log_figure(self, path: Path, artifact_path: str) -> None:
        """Nothing to do."""


class Prefixed:
    """Tells another tracker, with a name in front of every number and setting: several trainings in one record."""

    def __init__(self, tracker: Tracker, name: str):
        self.tracker = tracker
        self.name = re.sub(r"[^\w.:-]+", " ", name)  # as names of metrics may be

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """As NAME/METRIC."""
        self.tracker.log_metrics({f"{self.name}/{key}": value for key, value in values.items()}, step=step)

    def log_settings(self, values: dict[str, Any]) -> None:
        """As NAME/SETTING."""
        self.tracker.log_settings({f"{self.name}/{key}": value for key, value in values.items()})

    def log_figure(self, path: Path, artifact_path: str) -> None:
        """As it is: a file's path tells whose it is."""
        self.tracker.log_figure(path, artifact_path)


class Progress:
    """Counts the steps of some work and says about every `interval` seconds how long it will take."""

    def __init__(self, work: str, total: int, interval: float = 5.0):
        self.work, self.total, self.interval = work, total, interval
        self.done = 0
        self.started = self.printed = time.monotonic()

    def step(self, name: str) -> None:
        """The step `name` is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.printed < self.interval and self.done < self.total:
            return
        self.printed = now
        left = (now - self.started) / self.done * (self.total - self.done)
        print(f"{self.work}: {self.done}/{self.total} ({name}), {duration(left)} left", flush=True)
