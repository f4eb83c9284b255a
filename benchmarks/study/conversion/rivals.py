"""What docs/results.md says of a conversion beside its rivals: what to ship, and where the ACN wins, ties and loses."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from eval import TaskResults
from eval.studies.shallow import Candidate, affordable, candidates_of, tie, verdict

from ..budgets import Arm
from ..claim import Claim

SHARES, TOLERANCE = (0.25, 0.5, 1.0), 0.005
"""Of the FLOPs of the costliest whole model: two jobs ran side by side, which measures no latency."""


def is_rivals(claim: Claim) -> bool:
    """Whether a study is of this kind."""
    return "student_layers" in claim.budget


def progress(claim: Claim) -> Iterator[str]:
    """A line for what is not there yet."""
    jobs = [job for job in claim.jobs if job["kind"] == "finetune"]
    done = sum(job["status"] == "done" for job in jobs)
    if done < len(jobs):
        yield f"**Partial: {done} of {len(jobs)} fine-tunings are done.** What follows is of these alone.\n"


def in_short(task: str, found: dict[Arm, TaskResults], of: int) -> Iterator[str]:
    """What to ship for a task, and how the ACNs stand, by rule.

    Args:
        found: the fine-tunings that there are.
        of: how many there will be.
    """
    candidates = {arm: candidates_of(arm.variant, one, one.flops_by_depth) for arm, one in found.items()}
    everyone = [candidate for one in candidates.values() for candidate in one]
    missing = f" ({len(found)} of {of} contenders)" if len(found) < of else ""
    yield f"{task}{missing}: {verdict(everyone, SHARES, TOLERANCE, cost='FLOPs')}"
    acns = [candidate for arm, one in candidates.items() if arm.connectivity == "acn" for candidate in one]
    others = [candidate for arm, one in candidates.items() if arm.connectivity != "acn" for candidate in one]
    if acns and others:
        yield f"{task}: {_duels(everyone, acns, others)}."


def _duels(everyone: Sequence[Candidate], acns: Sequence[Candidate], others: Sequence[Candidate]) -> str:
    """At each share of the FLOPs the best of the ACNs against the best of the others."""
    told = []
    for share in SHARES:
        within = affordable(everyone, share)
        mine, theirs = (
            max((one for one in within if one in side), key=lambda one: one.mean) for side in (acns, others)
        )
        told.append((_outcome(mine, theirs), f"{share:.0%} ({mine} against {theirs})"))
    return "; ".join(
        f"{outcome} at {', '.join(text for _, text in group)}"
        for outcome, group in groupby(told, key=lambda one: one[0])
    )


def _outcome(mine: Candidate, theirs: Candidate) -> str:
    if mine.at_chance and theirs.at_chance:
        return "both are at chance"
    if tie(mine, theirs):
        return "the ACN ties"
    return "the ACN wins" if mine.mean > theirs.mean else "the ACN loses"
