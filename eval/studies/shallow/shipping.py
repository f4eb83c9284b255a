"""Which contender to ship at which budget of time, by a rule that is stated with it.

Within a budget, a share of the time (or of another cost) that the slowest whole contender takes, the candidates are
all contenders cut at all their depths. Of those whose mean score is at most `tolerance` below the best one's, the
fastest is shipped; where several are as fast, the best of them. Times within `SLACK` of each other are the same time,
for a measurement's sake: also that of a model cut in half, which keeps its embeddings, and half of the whole one's. A
contender that has a candidate as fast, or faster, whose mean differs by no more than the deviation of both over the
seeds is called a tie.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ...chance import constant_score, is_chance
from ...results import TaskResults

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


def candidates_of(
    name: str, results: TaskResults, costs: Sequence[float], seeds: Sequence[int] | None = None
) -> list[Candidate]:
    """A contender cut at each depth 0, 1, ..., L.

    Args:
        costs: by depth.
        seeds: those that count; all where left out.
    """
    together = results.aggregate
    by_seed = [results.depth_scores] if together is None else [
        together.by_seed[str(seed)] for seed in seeds or results.all_seeds
    ]  # fmt: skip
    error = results.standard_error if together is None else together.standard_error
    found = []
    for depth, scores in enumerate(zip(*by_seed, strict=True)):
        at_chance = is_chance(fmean(scores), constant_score(results), error)
        found.append(Candidate(name, depth, len(by_seed[0]) - 1, list(scores), costs[depth], at_chance))
    return found


def affordable(candidates: Sequence[Candidate], share: float) -> list[Candidate]:
    """Those that cost at most a share of the costliest whole contender, up to `SLACK`."""
    whole = max(one.cost for one in candidates if one.depth == one.layers)
    return [one for one in candidates if share == 1 or one.cost <= share * whole * (1 + SLACK)]


def choose(candidates: Sequence[Candidate], tolerance: float) -> tuple[Candidate, list[str]]:
    """The one to ship, and the contenders that tie with it, see above."""
    best = max(one.mean for one in candidates)
    good = [one for one in candidates if one.mean >= best - tolerance - 1e-9]
    fastest = min(one.cost for one in good)
    chosen = max((one for one in good if one.cost <= fastest * (1 + SLACK)), key=lambda one: (one.mean, -one.cost))
    rivals = (one for one in candidates if one.contender != chosen.contender and one.cost <= chosen.cost * (1 + SLACK))
    return chosen, list(dict.fromkeys(one.contender for one in rivals if tie(one, chosen)))


def tie(one: Candidate, other: Candidate) -> bool:
    """Whether two means differ by no more than the deviation of their difference; False where it is not known."""
    if one.deviation is None or other.deviation is None:
        return False
    return abs(one.mean - other.mean) <= math.hypot(one.deviation, other.deviation) + 1e-9


def verdict(candidates: Sequence[Candidate], budgets: Sequence[float], tolerance: float, cost: str = "time") -> str:
    """What to ship at each budget, in a sentence; `cost` is what the budgets are shares of."""
    parts: list[str] = []
    before = ""
    for share in sorted(budgets):
        told = _tell(affordable(candidates, share), tolerance)
        limit = f"up to {share:.0%}" + ("" if parts else f" of the {cost}")
        name = "with all of it" if share == 1 else limit
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
