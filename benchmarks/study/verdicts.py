"""Sentences that follow from numbers by rule: the page says nothing that is not derived here.

The rules: a difference of paired runs counts as shown when its mean is more than twice its standard error over at least
three pairs; a score is at chance when it is within two standard errors of the constant answer's; masked accuracy is
well above the commonest token's when it is at least twice that; losses are equal within 0.05 nats.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FEWEST_PAIRS = 3
ERRORS = 2.0
WELL_ABOVE = 2.0
EQUAL_LOSS = 0.05


@dataclass(frozen=True)
class Paired:
    """A figure of two arms over the seeds that they have in common, of which there is at least one."""

    mine: float
    theirs: float
    differences: list[float]

    @classmethod
    def of(cls, mine: Mapping[int, float], theirs: Mapping[int, float]) -> "Paired | None":
        """None without a common seed."""
        seeds = sorted(mine.keys() & theirs.keys())
        if not seeds:
            return None
        mean, other_mean = (statistics.fmean(values[seed] for seed in seeds) for values in (mine, theirs))
        return cls(mean, other_mean, [float(mine[seed] - theirs[seed]) for seed in seeds])


def cut_depths(name: str, other: str, task: str, cuts: Mapping[int, int], other_cuts: Mapping[int, int]) -> str:
    """How the cut depths of two arms compare, seed by seed."""
    pair = Paired.of(cuts, other_cuts)
    if pair is None:
        return f"{task}: {name} and {other} have no seed in common; their cut depths are not compared."
    runs = len(pair.differences)
    mean = statistics.fmean(pair.differences)
    over = f"over {runs} {'run' if runs == 1 else 'paired runs'}"
    if mean == 0:
        return f"{task}: the cut depths of {name} and {other} are equal on average ({pair.mine:.1f} layers) {over}."
    which = "smaller" if mean < 0 else "larger"
    return (
        f"{task}: {name}'s cut depth is {which} than {other}'s by {abs(mean):.1f} layers ({pair.mine:.1f} against "
        f"{pair.theirs:.1f}) {over}; {certainty(pair.differences)}."
    )


def full_scores(name: str, other: str, task: str, scores: Mapping[int, float], others: Mapping[int, float]) -> str:
    """How the whole models of two arms compare, seed by seed."""
    pair = Paired.of(scores, others)
    if pair is None:
        return f"{task}: the whole models of {name} and {other} have no seed in common."
    return f"{task}: the whole {name} scores {pair.mine:.3f}, {other} {pair.theirs:.3f}; {certainty(pair.differences)}."


def cut_at(
    name: str, other: str, task: str, layers: tuple[int, int], lost: Mapping[int, float], others: Mapping[int, float]
) -> str:
    """What cutting at `layers` (kept, of all) costs the runs of two arms, seed by seed."""
    pair = Paired.of(lost, others)
    if pair is None:
        return f"{task}: {name} and {other}, cut, have no seed in common."
    return (
        f"{task}: with {layers[0]} of {layers[1]} layers {name} scores {pair.mine:.3f} less than whole, {other} "
        f"{pair.theirs:.3f} less; {certainty(pair.differences)}."
    )


def cut_alone(name: str, task: str, layers: tuple[int, int], scores: Iterable[float], lost: Iterable[float]) -> str:
    """What cutting at `layers` (kept, of all) costs an arm whose twin has nothing to compare it with."""
    whole = statistics.fmean(scores)
    cut = whole - statistics.fmean(lost)
    return (
        f"{task}: {name} scores {whole:.3f} whole and {cut:.3f} with {layers[0]} of {layers[1]} layers; its twin is at "
        "chance, so that nothing is compared."
    )


def certainty(differences: Sequence[float]) -> str:
    """Whether paired differences show anything."""
    if len(differences) < FEWEST_PAIRS:
        return f"too few pairs to tell it from chance (fewer than {FEWEST_PAIRS})"
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    mean = abs(statistics.fmean(differences))
    if mean > ERRORS * error:
        return f"more than {ERRORS:g} standard errors ({error:.2g} each): a difference is shown for these runs"
    return f"within {ERRORS:g} standard errors ({error:.2g} each): no difference is shown"


def few_pretrainings(counts: Mapping[str, int]) -> str | None:
    """A caution where the runs of an arm come from fewer pretrainings than a difference takes; None otherwise."""
    if min(counts.values(), default=FEWEST_PAIRS) >= FEWEST_PAIRS:
        return None
    of = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        f"Runs are fine-tunings of few pretrainings ({of}), which the standard errors take for independent: how much "
        "differs between pretrainings is hardly known."
    )


def masked_accuracy(name: str, accuracies: Sequence[float], baseline: float) -> str:
    """Whether anything but the commonest token was learned."""
    mean = statistics.fmean(accuracies)
    factor = mean / baseline
    start = f"{name}: masked accuracy {mean:.3f} is {factor:.1f} times that of always predicting the commonest token"
    if factor >= WELL_ABOVE:
        return f"{start} ({baseline:.3f})."
    return (
        f"{start} ({baseline:.3f}), not well above it (less than {WELL_ABOVE:g} times): **nothing about connectivity "
        "follows from this pretraining**."
    )


def training_gap(name: str, other: str, ratios: Sequence[float | None]) -> str:
    """Tokens to equal loss, `name` over `other`, seed by seed; None where one never got there."""
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return f"{name} and {other} reached no common final loss: the ratio of their tokens is not known."
    spread = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else " (one seed)"
    unknown = f" ({len(ratios) - len(known)} more never reached it)" if len(known) < len(ratios) else ""
    mean = statistics.fmean(known)
    needs = "more" if mean > 1 else "less" if mean < 1 else "as much"
    return (
        f"To the loss that both reach, {name} needs {mean:.2f}{spread} times the tokens of {other}{unknown}: {needs} "
        f"training{' for the same loss' if needs == 'as much' else ''} (paper: about 2)."
    )


def equal_losses(name: str, other: str, losses: Sequence[float], other_losses: Sequence[float]) -> str:
    """Whether two sets of runs can be compared as being of equal loss."""
    mean, other_mean = statistics.fmean(losses), statistics.fmean(other_losses)
    difference = mean - other_mean
    stated = f"validation loss {mean:.3f} of {name} against {other_mean:.3f} of {other}"
    if are_equal(losses, other_losses):
        return f"At equal loss: {stated}, equal within {EQUAL_LOSS:g} nats."
    which = "above" if difference > 0 else "below"
    return f"Not at equal loss: {stated}, {abs(difference):.3f} nats {which} it; the two are not compared further."


def are_equal(losses: Sequence[float], other_losses: Sequence[float]) -> bool:
    """Whether the means of two sets of losses can pass for the same."""
    return abs(statistics.fmean(losses) - statistics.fmean(other_losses)) <= EQUAL_LOSS


def rate_at_the_edge(name: str, rate: float, tried: Sequence[float]) -> str | None:
    """A caution where the best learning rate is the largest or smallest of those tried; None otherwise."""
    if len(tried) > 1 and rate in (min(tried), max(tried)):
        end = "largest" if rate == max(tried) else "smallest"
        return f"{name}: the chosen learning rate is the {end} of the grid; a better one may lie beyond it."
    return None
