"""All checks in their order, on all ranks."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pretrain import PretrainConfig

from ...tracking import TrackingConfig
from . import collectives, compute, data, devices, network, recipe, storage, tracking, versions
from .checks import Check, Facts, Site, judge, measure
from .config import PreflightConfig
from .findings import Finding, fault, merged, skipped
from .job import ArrivalError, Place, join

# What a rank does alone comes first, and next to each other what neither waits for nor slows the other.
STAGES: tuple[tuple[Check, ...], ...] = (
    (
        versions.VERSIONS,
        versions.CONFIG,
        versions.ENVIRONMENT,
        recipe.RECIPE,
        devices.DEVICES,
        storage.SPACE,
        storage.WRITING,
        data.DATA,
        tracking.MLFLOW,
        network.ADDRESS,
    ),
    (compute.COMPUTE,),
    (storage.SHARED, network.PORTS),
    (network.CLOCK,),
    (collectives.CONNECT,),
    (collectives.ALL_REDUCE,),
    (collectives.PAIRS,),
)
_SLACK_SECONDS = 3.0


@dataclass(frozen=True)
class Outcome:
    """What preflight comes to on this rank."""

    passed: bool
    """Whether there is no fault, which all ranks know."""
    findings: list[Finding]
    """On rank 0, or where this rank has something of its own to say."""
    places: list[Place]
    """The ranks of the job; empty when they did not find each other."""
    measured: dict[str, dict[str, Facts]]
    """By rank and check what was measured; on rank 0."""
    seconds: float
    hung: bool
    """A thread of a check, in a call that does not return, is still there."""


def preflight(
    config: PretrainConfig,
    tracking: TrackingConfig,
    limits: PreflightConfig,
    tell: Callable[[Outcome], None],
) -> Outcome:
    """Make all checks with the other ranks of the job that RANK, WORLD_SIZE and MASTER_* describe.

    Every wait is bounded: for the ranks to meet by `limits.arrival_seconds`, from then on by `limits.seconds`.

    Args:
        tell: shows the outcome, on rank 0 and where there is something to say. It is called before any rank leaves: a
            launcher ends rank 0 as soon as another one has left with an error.

    Raises:
        LaunchError: a variable of the launcher is missing.
        LostError: rank 0 stopped answering.
    """
    began = time.monotonic()
    try:
        job, arrival = join(limits.arrival_seconds)
    except ArrivalError as error:
        outcome = Outcome(False, error.findings, [], {}, time.monotonic() - began, hung=False)
        if error.findings:
            tell(outcome)
        error.dismiss()
        return outcome
    site = Site(config, tracking, limits, job, _device(), until=time.monotonic() + limits.seconds)
    findings, measured = _all_stages(site)
    findings = merged([arrival, *findings]) if job.me.rank == 0 else []
    passed = all(row.level != "fault" for row in findings)
    outcome = Outcome(passed, findings, job.places, measured, time.monotonic() - began, site.hung)
    if job.me.rank == 0:
        tell(outcome)
        job.announce("passed", passed)
    outcome = replace(outcome, passed=bool(job.hear("passed", site.left() + _SLACK_SECONDS)))
    job.farewell()
    return outcome


def _all_stages(site: Site) -> tuple[list[Finding], dict[str, dict[str, Facts]]]:
    """On rank 0 all findings, and what was measured by rank and check."""
    findings: list[Finding] = []
    measured: dict[str, dict[str, Facts]] = {}
    failed: set[str] = set()
    with site.cleanup:
        for number, stage in enumerate(STAGES):
            found, given = _stage(f"stage/{number}", stage, site, failed)
            findings += found
            for place, facts in zip(site.job.places, given, strict=False):
                measured.setdefault(str(place.rank), {}).update(facts or {})
    return findings, measured


def _device() -> torch.device:
    """As in pretraining: this rank's GPU where there are any."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _stage(
    key: str, stage: Sequence[Check], site: Site, failed: set[str]
) -> tuple[list[Finding], Sequence[dict[str, Facts] | None]]:
    """Measure everywhere, judge on rank 0, and tell everybody what has failed, by which later checks are left out.

    Returns:
        On rank 0 the findings, and the facts of all ranks, None for lost ones.
    """
    job = site.job
    before = set(job.lost)
    possible = [check for check in stage if not failed.intersection(check.needs)]
    facts = measure(possible, site)
    limit = min(max(check.seconds for check in stage), site.left()) + _SLACK_SECONDS
    given = job.gather(key, facts, limit)
    if given is None:
        failed.update(job.hear(f"{key}/failed", 2 * limit + _SLACK_SECONDS))
        return [], []
    findings = [row for check in possible for row in judge(check, given, site)]
    for check in stage:
        if missing := sorted(failed.intersection(check.needs)):
            findings.append(skipped(check.name, "", "not measured", f"first fix: {', '.join(missing)}"))
            failed.add(check.name)
    findings += [_lost(job.places[rank], stage) for rank in sorted(job.lost - before)]
    failed.update(row.check for row in findings if row.level == "fault")
    failed.update(["everybody"] if job.lost else [])
    job.announce(f"{key}/failed", sorted(failed))
    return findings, given


def _lost(place: Place, stage: Sequence[Check]) -> Finding:
    during = ", ".join(check.name for check in stage)
    fix = "look at its output: it has died, or hangs"
    return fault("everybody", place.name, f"stopped answering during: {during}", fix)


def report(outcome: Outcome) -> dict[str, Any]:
    """All of it as JSON values."""
    return {
        "preflight": "passed" if outcome.passed else "failed",
        "seconds": round(outcome.seconds, 1),
        "ranks": [vars(place) for place in outcome.places],
        "findings": [vars(row) for row in outcome.findings],
        "measured": outcome.measured,
    }
