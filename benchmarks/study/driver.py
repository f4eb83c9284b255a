"""Running a plan: job after job, each once, within the budget's time and that of this call."""

import json
import re
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.timing import machine
from data_pipeline import duration, write_json
from launch import processor, provenance_tags
from pretrain import EXIT_STOPPED

from .budgets import Budget
from .commands import Home
from .conversion.budget import Conversion
from .plan import Job, Kind
from .process import OUT_OF_TIME
from .records import Record, choose_rate, estimate, read_record, write_record
from .rules import CLAIM, Rules

CLAIM_FILE = "claim.json"
LEAST_SECONDS = 60.0
"""A job that can be continued is not begun for less."""
RESUMABLE = ("pretrain", "finetune", "study")


class Execute(Protocol):
    """What `Processes` does."""

    def __call__(self, command: Sequence[str], log: Path, seconds: float) -> int:
        """Run a command and return its exit code."""

    def end(self) -> None:
        """End whatever runs."""


@dataclass
class Study:
    """A plan in its folder."""

    budget: Budget | Conversion
    home: Home
    jobs: list[Job]
    processes: Execute
    rules: Rules = CLAIM
    records: dict[str, Record] = field(default_factory=dict)
    waiting: list[Job] = field(default_factory=list)
    """Jobs that this call may still begin."""
    running: dict[str, float] = field(default_factory=dict)
    """Names of the jobs that run now, with their estimates in seconds."""
    out_of_time: bool = False

    def __post_init__(self) -> None:
        self.records = {job.name: read_record(self.home, job) for job in self.jobs}

    def run(self, seconds: float, only: Kind | None = None) -> int:
        """Run what is not done; the exit code: 0, 1 when a job failed, 75 when time ran out with jobs left.

        As many jobs as `budget.jobs` run side by side, each once those that it needs are done.

        Args:
            seconds: of this call.
            only: jobs of this kind only.
        """
        deadline = time.monotonic() + seconds
        self.waiting = [
            job for job in self.jobs
            if self.records[job.name].status != "done" and (only is None or job.kind == only)
        ]  # fmt: skip
        self.out_of_time = False
        attempts: dict[Future[None], Job] = {}
        with ThreadPoolExecutor(self.budget.jobs) as pool:
            try:
                while True:
                    while len(attempts) < self.budget.jobs and (job := self._next(deadline)) is not None:
                        self._say(job)
                        left = min(deadline - time.monotonic(), self._budget_left())
                        self.running[job.name] = self._estimate(job)
                        attempts[pool.submit(self._attempt, job, left)] = job
                    if not attempts:
                        break
                    for attempt in wait(attempts, return_when=FIRST_COMPLETED).done:
                        self._end(attempts.pop(attempt), attempt, deadline)
            except BaseException:
                self.processes.end()
                raise
        self.write_claim()
        if any(record.status == "failed" for record in self.records.values()):
            return 1
        return EXIT_STOPPED if self.out_of_time else 0

    def _next(self, deadline: float) -> Job | None:
        """The first job that can be begun now, taken from those that wait; None where there is none."""
        for job in list(self.waiting):
            if {*job.after} & {*self.running, *(one.name for one in self.waiting)}:
                continue
            left, expected = deadline - time.monotonic(), self._estimate(job)
            if why := self._obstacle(job):
                self._keep(job, self.records[job.name], why)
            elif left < (min(expected, LEAST_SECONDS) if job.kind in RESUMABLE else expected):
                self._stop()
                return None
            else:
                self.waiting.remove(job)
                return job
            self.waiting.remove(job)
        return None

    def _end(self, job: Job, attempt: Future[None], deadline: float) -> None:
        """What follows an attempt."""
        del self.running[job.name]
        attempt.result()  # raises what the attempt raised
        self.write_claim()
        if self.records[job.name].status == "stopped" and deadline - time.monotonic() < LEAST_SECONDS:
            self._stop()

    def _stop(self) -> None:
        """Begin nothing more in this call."""
        self.out_of_time = True
        self.waiting = []

    def _attempt(self, job: Job, seconds: float) -> None:
        """One attempt at a job; its record tells how it ended."""
        started = time.monotonic()
        record = self.records[job.name]
        record.rate = self._rate(job)
        log = self.home.folder(job.name) / "log.txt"
        hours = max(seconds - LEAST_SECONDS / 2, 1.0) / 3600 if job.kind == "pretrain" else None
        lines = self.rules.commands(self.budget, job, self.home, record.rate, hours)
        record.commands = [
            self._shown(line) for line in self.rules.commands(self.budget, job, self.home, record.rate, None)
        ]
        code = OUT_OF_TIME
        try:
            code = self._execute_all(lines, log, started + seconds)
        finally:  # whatever ends it leaves a record of the time that was spent
            record.status, record.why = self._outcome(job, record, code)
            record.seconds = round(record.seconds + time.monotonic() - started, 1)
            write_record(self.home, job, record)
        print(
            f"{job.name}: {record.status} after {duration(record.seconds)}{record.why and ': ' + record.why}",
            flush=True,
        )

    def _execute_all(self, lines: Sequence[Sequence[str]], log: Path, deadline: float) -> int:
        """One command after the other; the exit code of the first that failed, or 0."""
        for line in lines:
            if code := self.processes(line, log, deadline - time.monotonic()):
                return code
        return 0

    def _outcome(self, job: Job, record: Record, code: int) -> tuple[Any, str]:
        if code in (EXIT_STOPPED, OUT_OF_TIME):
            return "stopped", "ended before it was finished: it goes on when the command is run again"
        log = self.home.folder(job.name) / "log.txt"
        if code:
            return "failed", f"exit code {code}, see {self._hidden(str(log))}: {_last_line(log)}"
        try:
            record.result = self.rules.collect(job, self.home)
        except (OSError, LookupError, ValueError) as error:
            return "failed", f"its result cannot be read: {self._hidden(repr(error))}"
        return "done", ""

    def _keep(self, job: Job, record: Record, why: str) -> None:
        """Remember why a job was passed over."""
        if record.status != "failed":
            record.status = "stopped" if record.seconds else "not run"
        record.why = why
        print(f"{job.name}: not run: {why}", flush=True)

    def _obstacle(self, job: Job) -> str:
        """Why `job` cannot be begun, or an empty string."""
        needed = [name for name in job.after if self.records[name].status != "done"]
        rates = [name for name in job.after if name.startswith("rate/")]
        if rates and set(needed) < set(rates):  # a diverged rate is an answer, too
            needed = [name for name in needed if self.records[name].status != "failed"]
        if needed:
            return f"it needs {', '.join(needed)}"
        expected, left = sum(map(self._estimate, self._together(job))), max(0.0, self._budget_left())
        if expected > left:
            whole = f"{duration(left)} left of {self.budget.minutes:g} minutes"
            return f"about {duration(expected)}, twins included, do not fit the {whole}"
        return ""

    def _together(self, job: Job) -> list[Job]:
        """The jobs that are paid for with `job`: half a pair of twins, or a learning rate alone, shows nothing."""
        if job.kind not in ("rate", "pretrain"):
            return [job]
        group = next(group for group in self.budget.groups if job.arm in group)
        return [
            one
            for one in self.jobs
            if one.kind in ("rate", "pretrain")
            and one.arm in group
            and (one.seed, one.longer) == (job.seed, job.longer)
            and self.records[one.name].status != "done"
            and one.name not in self.running
        ]

    def _budget_left(self) -> float:
        """Seconds of jobs, `budget.jobs` of which run at a time."""
        used = sum(record.seconds for record in self.records.values()) + sum(self.running.values())
        return self.budget.minutes * 60 * self.budget.jobs - used

    def _estimate(self, job: Job) -> float:
        """Seconds, less those that an interrupted attempt has had."""
        done = {one: self.records[one.name].seconds for one in self.jobs if self.records[one.name].status == "done"}
        whole = estimate(self.budget, job, done, self.rules.work)
        record = self.records[job.name]
        spent = record.seconds if record.status == "stopped" else 0.0
        return max(whole - spent, self.budget.speeds.start)

    def _rate(self, job: Job) -> float | None:
        """The peak learning rate of a training: the one to try, or the best of those that were tried for it."""
        if job.rate is not None or job.kind not in ("pretrain", "finetune"):
            return job.rate
        if job.kind == "pretrain" and self.budget.only_rate is not None:
            return self.budget.only_rate
        tried = {
            one.rate: self.records[one.name].result
            for one in self.jobs
            if one.name in job.after and one.rate is not None and self.records[one.name].status == "done"
        }
        return choose_rate(tried) if tried else None

    def _say(self, job: Job) -> None:
        used = sum(record.seconds for record in self.records.values()) / self.budget.jobs
        print(
            f"{self.jobs.index(job) + 1}/{len(self.jobs)}  {job.name}: about {duration(self._estimate(job))}; "
            f"{duration(used)} of {self.budget.minutes:g} minutes used",
            flush=True,
        )

    def lines(self) -> list[str]:
        """The plan for a person: job, state, estimate, and the time up to there of all jobs together."""
        shown, total = [], sum(record.seconds for record in self.records.values())
        for job in self.jobs:
            record = self.records[job.name]
            expected = 0.0 if record.status == "done" else self._estimate(job)
            total += expected
            shown.append(f"{record.status:8} {duration(expected):>8} {duration(total):>8}  {job.name}")
        return shown

    def _shown(self, command: Sequence[str]) -> str:
        """As a user would type it, in any folder of any machine."""
        words = ["python" if word == sys.executable else word for word in command]
        return self._hidden(shlex.join(words))

    def _hidden(self, text: str) -> str:
        """Folders of this machine by the names of the options that gave them."""
        folders = {
            self.home.path: "OUTPUT",
            self.home.tokens_dir: "TOKENS",
            self.home.glue_dir: "GLUE",
            self.home.source: "SOURCE",
        }
        for folder, name in folders.items():
            if folder is not None:  # a whole path, or its beginning: `run` is also the name of a folder inside
                text = re.sub(rf"(?<![\w./-]){re.escape(str(folder))}(?![\w.-])", name, text)
        return text

    def write_claim(self) -> Path:
        """OUTPUT/claim.json: every job with its result, and what it was measured on."""
        jobs = []
        for job in self.jobs:
            record = self.records[job.name]
            arm = {} if job.arm is None else vars(job.arm)
            about = {"name": job.name, "kind": job.kind, **arm, "seed": job.seed, "longer": job.longer}
            jobs.append(about | {"task": job.task, "tried_rate": job.rate} | vars(record))
        budget = {name: value for name, value in asdict(self.budget).items() if name not in ("groups", "speeds")}
        where = machine() | {"processor": processor(), "commit": provenance_tags().get("git.commit")}
        if torch.cuda.is_available():
            where["gpu"] = torch.cuda.get_device_name()
        path = self.home.path / CLAIM_FILE
        write_json(path, json.loads(json.dumps({"budget": budget, "machine": where, "cells": jobs})))
        return path


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
