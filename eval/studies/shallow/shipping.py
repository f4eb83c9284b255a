"""Which contender to ship at which budget of time, by a rule that is stated with it.

Within a budget, a share of the time that the slowest whole contender takes, the candidates are all contenders cut at
all their depths. Of those whose mean score is at most `tolerance` below the best one's, the fastest is shipped; where
several are as fast, the best of them. Times within `SLACK` of each other are the same time, for a measurement's sake:
also that of a model cut in half, which keeps its embeddings, and half of the whole one's. A contender that has a
candidate as fast, or faster, whose mean differs by no more than the deviation of both over the seeds is called a tie.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

SLACK = 0.05


@dataclass(frozen=True)
class Candidate:
    """A contender cut at one depth."""

    contender: str
    depth: int
    layers: int
    scores: list[float]
    """By seed."""
    cost: float
    """In any unit that all candidates share."""
    at_chance: bool = False

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample deviation over the seeds; None of one."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.3f}"
        how = "whole" if self.depth == self.layers else f"cut at {self.depth} of {self.layers} layers"
        return f"{self.contender} {how}, {self.mean:.3f}{spread}"


def choose(candidates: Sequence[Candidate], tolerance: float) -> tuple[Candidate, list[str]]:
    """The one to ship, and the contenders that tie with it, see above."""
    best = max(one.mean for one in candidates)
    good = [one for one in candidates if one.mean >= best - tolerance - 1e-9]
    fastest = min(one.cost for one in good)
    chosen = max((one for one in good if one.cost <= fastest * (1 + SLACK)), key=lambda one: (one.mean, -one.cost))
    rivals = (one for one in candidates if one.contender != chosen.contender and one.cost <= chosen.cost * (1 + SLACK))
    return chosen, list(dict.fromkeys(one.contender for one in rivals if _tie(one, chosen)))


def _tie(one: Candidate, other: Candidate) -> bool:
    """Whether two means differ by no more than the deviation of their difference; False where it is not known."""
    if one.deviation is None or other.deviation is None:
        return False
    return abs(one.mean - other.mean) <= math.hypot(one.deviation, other.deviation) + 1e-9


def verdict(candidates: Sequence[Candidate], budgets: Sequence[float], tolerance: float) -> str:
    """What to ship at each budget, in a sentence."""
    whole = max(one.cost for one in candidates if one.depth == one.layers)
    parts: list[str] = []
    before = ""
    for share in sorted(budgets):
        within = [one for one in candidates if share == 1 or one.cost <= share * whole * (1 + SLACK)]
        told = _tell(within, tolerance)
        name = (
            "with all of it" if share == 1 else f"up to {share:.0%} of the time" if not parts else f"up to {share:.0%}"
        )
        parts.append(f"{name}: {'the same' if told == before else told}")
        before = told
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _tell(within: Sequence[Candidate], tolerance: float) -> str:
    if not within:
        return "nothing is as fast"
    chosen, ties = choose(within, tolerance)
    if chosen.at_chance:
        return f"nothing is above chance ({chosen.mean:.3f})"
    return f"{chosen}" + (f" (a tie with {', '.join(ties)})" if ties else "")
