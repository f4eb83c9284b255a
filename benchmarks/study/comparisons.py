"""Which runs are compared with which, at equal tokens and at equal loss, and the sentences that follow."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from eval import are_at_chance

from . import tables, verdicts
from .budgets import Arm
from .claim import Claim, Run
from .tables import label, lengths


@dataclass(frozen=True)
class Side:
    """The pretrainings of an arm with one number of tokens."""

    arm: Arm
    longer: int = 1
    """Tokens, as a multiple of the budget's."""

    @property
    def name(self) -> str:
        """As tables and figures have it."""
        return label(self.arm, self.longer)

    def runs(self, claim: Claim) -> list[Run]:
        """By seed."""
        return claim.runs(self.arm, self.longer)


Pair = tuple[Side, Side]


def sides(claim: Claim) -> list[Side]:
    """All that were pretrained, in order of importance."""
    return [Side(arm, longer) for arm in claim.arms for longer in lengths(claim, arm)]


def equal_tokens(claim: Claim) -> list[Pair]:
    """Every arm with its residual twin, for every number of tokens that both were trained on."""
    there = sides(claim)
    pairs = [(side, Side(side.arm.twin, side.longer)) for side in there if side.arm != side.arm.twin]
    return [(mine, theirs) for mine, theirs in pairs if theirs in there]


def unequal_tokens(claim: Claim) -> list[Pair]:
    """Every arm with its residual twin where one of them was trained on more tokens: candidates for equal loss."""
    there = sides(claim)
    return [
        (side, other)
        for side in there
        for other in there
        if side.arm != other.arm == side.arm.twin and side.longer != other.longer and 1 in (side.longer, other.longer)
    ]


def best_of_each(claim: Claim) -> Pair | None:
    """The ACN and the residual arm with the lowest losses at the budget's tokens.

    None where they are twins, who are compared anyway, or have no seed in common.
    """
    there = [side for side in sides(claim) if side.longer == 1]
    halves = [[side for side in there if side.arm.connectivity == name] for name in ("acn", "residual")]
    if not all(halves):
        return None
    mine, theirs = (min(half, key=lambda side: _mean_loss(claim, side)) for half in halves)
    apart = not tables.paired_gaps(claim, mine.arm, theirs.arm, longer=1)
    return None if apart or theirs.arm == mine.arm.twin else (mine, theirs)


def in_short(claim: Claim) -> list[str]:
    """What follows from the numbers, or that nothing does."""
    learned = [side for side in sides(claim) if _above_baseline(claim, side)]
    chance = {task: _at_chance(claim, task) for task in claim.tasks}
    informative = [task for task in claim.tasks if len(chance[task]) < len(_tuned(claim, task))]
    if not learned and not informative:
        return [
            "Nothing about the claim follows from this budget: no model's masked accuracy is well above that of the "
            "commonest token, and no fine-tuned model is better than chance."
        ]
    sentences = []
    for pair in equal_tokens(claim):
        found = tables.paired_gaps(claim, pair[0].arm, pair[1].arm, pair[0].longer)
        if found and all(side in learned for side in pair):
            sentences.append(verdicts.training_gap(pair[0].name, pair[1].name, tables.reached(found)))
    if (best := best_of_each(claim)) and all(side in learned for side in best):
        found = tables.paired_gaps(claim, best[0].arm, best[1].arm, longer=1)
        gap = verdicts.training_gap(best[0].name, best[1].name, tables.reached(found))
        sentences.append(f"The best ACN by loss against the best residual network, whatever their starts: {gap}")
    at_equal = []
    for pair in unequal_tokens(claim):
        sentence, equal = at_equal_loss(claim, pair)
        sentences.append(sentence)
        at_equal += [pair] if equal else []
    for task in informative:
        for mine, theirs in [*equal_tokens(claim), *at_equal]:
            if mine not in chance[task] and claim.scores(mine.arm, task, mine.longer):
                sentences += _cut(claim, mine, None if theirs in chance[task] else theirs, task)
    if few := verdicts.few_pretrainings({side.name: len(side.runs(claim)) for side in sides(claim)}):
        sentences.append(few)
    sentences += [
        f"{task}: {', '.join(side.name for side in found)} at chance, so that a cut depth means nothing there."
        for task, found in chance.items()
        if found
    ]
    return sentences or ["No pair of twins is complete: nothing is compared."]


def at_equal_loss(claim: Claim, pair: Pair) -> tuple[str, bool]:
    """How the final losses of a pair compare, and whether they are equal."""
    mine, theirs = ([run.result["validation_loss"] for run in side.runs(claim)] for side in pair)
    return verdicts.equal_losses(pair[0].name, pair[1].name, mine, theirs), verdicts.are_equal(mine, theirs)


def _mean_loss(claim: Claim, side: Side) -> float:
    return statistics.fmean(run.result["validation_loss"] for run in side.runs(claim))


def _tuned(claim: Claim, task: str) -> list[Side]:
    return [side for side in sides(claim) if claim.scores(side.arm, task, side.longer) is not None]


def _at_chance(claim: Claim, task: str) -> list[Side]:
    scores = ((side, claim.scores(side.arm, task, side.longer)) for side in sides(claim))
    return [side for side, results in scores if results is not None and are_at_chance(results)]


def _above_baseline(claim: Claim, side: Side) -> bool:
    """Whether the masked accuracy of every run is well above the commonest token's."""
    baseline = claim.corpus["baseline_accuracy"] if claim.corpus else 0.0
    worst = min(run.result["validation_accuracy"] for run in side.runs(claim))
    return bool(worst >= verdicts.WELL_ABOVE * baseline)


def _cut(claim: Claim, mine: Side, theirs: Side | None, task: str) -> Iterator[str]:
    """What cutting a model costs, beside its twin where that has learned the task."""
    layers = claim.budget["layers"]
    kept = (math.ceil(layers / 4), layers)
    scores, lost = (
        claim.full_scores(mine.arm, task, mine.longer),
        claim.lost_at(mine.arm, task, kept[0], mine.longer),
    )
    if theirs is None:
        yield verdicts.cut_alone(mine.name, task, kept, scores.values(), lost.values())
        return
    names = (mine.name, theirs.name, task)
    yield verdicts.cut_at(*names, kept, lost, claim.lost_at(theirs.arm, task, kept[0], theirs.longer))
    yield verdicts.cut_depths(*names, *(claim.cut_depths(side.arm, task, side.longer) for side in (mine, theirs)))
    yield verdicts.full_scores(*names, scores, claim.full_scores(theirs.arm, task, theirs.longer))
