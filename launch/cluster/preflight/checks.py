"""What a check is, and how several are made without one of them keeping the others, or another rank, waiting."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from pretrain import PretrainConfig

from ...tracking import TrackingConfig
from .config import PreflightConfig
from .findings import Finding, fault, listed
from .job import Job, Place

Facts = dict[str, Any]
"""What a check measured at one place: JSON values."""
ERROR = "check failed"
"""The fact that is there instead of all others when a check raised or hung."""


@dataclass
class Site:
    """One rank's view of the job while it is checked."""

    config: PretrainConfig
    """The recipe that is to be trained."""
    tracking: TrackingConfig
    limits: PreflightConfig
    job: Job
    device: torch.device
    until: float
    """`time.monotonic()` at which all must be done."""
    cleanup: ExitStack = field(default_factory=ExitStack)
    """What to undo after the last check."""
    hung: bool = False
    """A check did not return: its thread is still there."""

    def left(self) -> float:
        """Seconds until all must be done."""
        return max(0.0, self.until - time.monotonic())


@dataclass(frozen=True)
class Answer:
    """What a check measured, and where."""

    place: Place
    facts: Facts
    per_node: bool

    @property
    def where(self) -> str:
        """The node or the rank, for messages."""
        return self.place.node if self.per_node else self.place.name


@dataclass(frozen=True)
class Check:
    """One subject: measured in its places, judged on rank 0 with the answers of all of them side by side."""

    name: str
    scope: Literal["rank", "node", "job"]
    """Measured on every rank, on the first rank of every node, or on rank 0."""
    measure: Callable[[Site], Facts]
    """Returns what it finds; what it raises becomes a fault of this check."""
    judge: Callable[[Sequence[Answer], Site], list[Finding]]
    """Gets the answers of the places where the measuring worked."""
    seconds: float = 10.0
    """The longest that measuring takes."""
    needs: tuple[str, ...] = ()
    """Checks without a fault before which this one makes no sense; "everybody" is that no rank was lost."""
    fix: str = "fix what the error names; if it is this check's own mistake, please report it"
    """What to do when measuring fails."""

    def is_mine(self, job: Job) -> bool:
        """Whether this rank measures."""
        return {"rank": True, "node": job.speaks_for_node, "job": job.me.rank == 0}[self.scope]


def measure(checks: Sequence[Check], site: Site) -> dict[str, Facts]:
    """The facts of several checks at this rank, made side by side; each has its own time, and its own errors."""
    began = time.monotonic()
    running = [(check, _Measurement(check, site)) for check in checks if check.is_mine(site.job)]
    facts = {}
    for check, measurement in running:
        limit = min(check.seconds, site.until - began)
        measurement.join(max(0.0, began + limit - time.monotonic()))
        if measurement.is_alive():
            site.hung = True
            facts[check.name] = {ERROR: f"no end within {limit:.0f} s"}
        else:
            facts[check.name] = measurement.facts
    return facts


class _Measurement(threading.Thread):
    """A daemon: a call that never returns, such as one on a dead file server, must not keep the process alive."""

    def __init__(self, check: Check, site: Site) -> None:
        super().__init__(name=f"preflight {check.name}", daemon=True)
        self._check, self._site = check, site
        self.facts: Facts = {}
        self.start()

    def run(self) -> None:
        try:
            device = self._site.device
            if device.type == "cuda" and device.index < torch.cuda.device_count():
                torch.cuda.set_device(device)  # a thread starts with device 0
            self.facts = self._check.measure(self._site)
        except Exception as error:  # a check that fails is a finding, whatever it died of
            self.facts = {ERROR: f"{type(error).__name__}: {reason(error)}"}


def reason(error: Exception) -> str:
    """The message of an exception in one line, without the place in the source that gloo begins with."""
    return re.sub(r"^\[[^]]*] ", "", " ".join(str(error).split()))[:200]


def judge(check: Check, given: Sequence[Mapping[str, Facts] | None], site: Site) -> list[Finding]:
    """The findings of one check from the facts of all ranks, None for those of ranks that were lost."""
    per_node = check.scope != "rank"
    asked = {"rank": site.job.places, "node": site.job.firsts, "job": site.job.places[:1]}[check.scope]
    answers, findings = [], []
    for place in asked:
        facts = given[place.rank]
        if facts is None:
            continue
        answer = Answer(place, facts[check.name], per_node)
        if ERROR in answer.facts:
            findings.append(fault(check.name, answer.where, f"the check failed: {answer.facts[ERROR]}", check.fix))
        else:
            answers.append(answer)
    if answers:
        try:
            findings += check.judge(answers, site)
        except Exception as error:  # as above: nothing may hide the other rows
            message = f"the check failed: {type(error).__name__}: {error}"
            findings.append(fault(check.name, answers[0].where, message, "please report it"))
    return findings


def named(answers: Sequence[Answer], everyone: Sequence[Answer]) -> str:
    """The places of `answers`, which are some of `everyone`, as a user would call them."""
    if len(answers) == len(everyone) > 1:
        return f"all {len(answers)} {'nodes' if answers[0].per_node else 'ranks'}"
    if answers[0].per_node:
        return listed(answer.place.node for answer in answers)
    ranks: dict[str, list[str]] = {}
    for answer in answers:
        ranks.setdefault(answer.place.node, []).append(str(answer.place.rank))
    return listed(f"{node} rank {listed(numbers)}" for node, numbers in ranks.items())


def usual(values: Sequence[Hashable]) -> Hashable:
    """The value that most have; of two that equally many have, the one of the first."""
    return Counter(values).most_common(1)[0][0]


def groups(answers: Sequence[Answer], value: Callable[[Facts], Hashable]) -> dict[Hashable, list[Answer]]:
    """Answers by a value, which those of a healthy job share."""
    found: dict[Hashable, list[Answer]] = {}
    for answer in answers:
        found.setdefault(value(answer.facts), []).append(answer)
    return found


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
