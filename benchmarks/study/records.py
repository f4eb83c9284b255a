"""What is known of every job: cells/JOB/cell.json, written when an attempt at it ends."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from data_pipeline import write_json
from eval import read_json
from launch import LaunchError

from .budgets import Budget
from .commands import Home
from .conversion.budget import Conversion
from .plan import Job, work

JOB_FILE, SETTINGS_FILE = "cell.json", "study.json"  # the former as version 0.1 called it: studies go on

Status = Literal["done", "failed", "stopped", "not run"]


@dataclass
class Record:
    """A job's state. `stopped`: it ran out of time and goes on where it was when it is run again."""

    status: Status = "not run"
    why: str = ""
    """Of what was not done."""
    seconds: float = 0.0
    """Of all attempts."""
    rate: float | None = None
    """Peak learning rate of a pretraining."""
    date: str = ""
    commands: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


def read_record(home: Home, job: Job) -> Record:
    """What there is, or a record of a job that was not run."""
    path = home.folder(job.name) / JOB_FILE
    return Record(**read_json(path)) if path.is_file() else Record()


def write_record(home: Home, job: Job, record: Record) -> None:
    """Atomically, with today's date."""
    record.date = time.strftime("%Y-%m-%d")
    write_json(home.folder(job.name) / JOB_FILE, asdict(record))


def claim_home(budget: Budget | Conversion, home: Home, tasks: Sequence[str]) -> None:
    """Make `home` this study's, or find that it is.

    Raises:
        LaunchError: it holds something else, or a study of other settings.
    """
    settings = asdict(budget) | {"tasks": list(tasks), "tokens_dir": str(home.tokens_dir)}
    if home.source is not None:
        settings["source"] = str(home.source)
    for name in ("minutes", "speeds", "jobs"):  # they change how long it takes, not what is measured
        del settings[name]
    path = home.path / SETTINGS_FILE
    if path.is_file():
        there = read_json(path)
        changed = [name for name, value in settings.items() if there.get(name) != _plain(value)]
        if changed:
            raise LaunchError(
                f"output={home.path} is a study with other {', '.join(changed)}: choose another folder, or go on with "
                "the options it was begun with"
            )
        return
    if home.path.exists() and any(home.path.iterdir()):
        raise LaunchError(f"output={home.path} holds something else than a study: choose another folder")
    write_json(path, settings)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def choose_rate(tried: Mapping[float, Mapping[str, float]]) -> float:
    """The learning rate whose result has the lowest `validation_loss`, or the best `score`; of equal ones the smallest.

    One that diverged scores no number, and is never the best.
    """

    def cost(rate: float) -> float:
        found = tried[rate]
        value = -found["score"] if "score" in found else found["validation_loss"]
        return value if math.isfinite(value) else math.inf

    return min(sorted(tried), key=cost)


def estimate(
    budget: Budget | Conversion, job: Job, done: Mapping[Job, float], work: Callable[..., float] = work
) -> float:
    """Seconds that `job` will take: at the pace of the finished jobs of its kind, or else of the budget's `speeds`.

    Args:
        done: seconds of the jobs that are finished.
        work: what the time of a job is proportional to.
    """
    speeds = budget.speeds
    amount = work(budget, job)
    alike = {one: seconds for one, seconds in done.items() if one.kind == job.kind}
    if not amount:
        return statistics.fmean(alike.values()) if alike else speeds.start + speeds.study
    if job.kind == "pretrain" and not alike:
        alike = {one: seconds for one, seconds in done.items() if one.kind == "rate"}
    busy = sum(max(seconds - speeds.start, 1.0) for seconds in alike.values())
    pace = sum(work(budget, one) for one in alike) / busy if alike else _expected_pace(budget, job)
    return speeds.start + amount / pace


def _expected_pace(budget: Budget | Conversion, job: Job) -> float:
    return budget.speeds.examples if job.kind in ("tune", "finetune") else budget.speeds.tokens
