"""What a report says first: how much of a model is enough, a sentence for each task."""

import math
from collections import Counter
from collections.abc import Sequence

from ..chance import AT_CHANCE, ERRORS, are_at_chance
from .sections import Run, unlike_precision


def first_sentence(runs: Sequence[Run]) -> str:
    """The first run at its cut depth, and the others at the same depth, all by the means of their seeds.

    "with 3 of 12 layers acn keeps 0.867 of 0.866 (± 0.012), residual 0.510 of 0.871": ± is one standard error of the
    whole model's score, over the examples and over the seeds. A model at chance is said to be, and no depth of it. Runs
    that were not computed in one precision are said not to be.
    """
    first, *others = runs
    scores, error = _scores(first), _standard_error(first)
    depth, layers = _cut_depth(first), len(scores) - 1
    spread = f" (± {error:.3f})" if error is not None else ""
    name = _name(first, runs)
    if are_at_chance(first.results):
        text = f"{name} is {AT_CHANCE}: {scores[-1]:.3f}{spread}"
    elif depth == layers:
        text = f"{name} needs all {layers} layers for {scores[-1]:.3f}{spread}"
    else:
        text = f"with {depth} of {layers} layers {name} keeps {scores[depth]:.3f} of {scores[-1]:.3f}{spread}"
    unlike = unlike_precision([(_name(run, runs), run.results.precision) for run in runs])
    return ", ".join([text, *(_beside(run, depth, runs) for run in others)]) + (f" ({unlike})" if unlike else "")


def verdict(acn: Run, twin: Run) -> str:
    """Whether cutting the ACN pays by these results, or its twin may as well be cut at the same depth.

    A difference counts when it is more than two standard errors of both whole models together.
    """
    scores, others, depth = _scores(acn), _scores(twin), _cut_depth(acn)
    if are_at_chance(acn.results):
        return f"An ACN {AT_CHANCE} has learned nothing that could be cut."
    if depth == len(scores) - 1:
        return f"No layer can go: with one less the ACN loses more than {acn.results.tolerance:g}."
    if are_at_chance(twin.results):
        return "Its twin has not learned the task, so that there is nothing to compare."
    gap = scores[depth] - others[min(depth, len(others) - 1)]
    if abs(gap) <= ERRORS * math.hypot(_standard_error(acn) or 0.0, _standard_error(twin) or 0.0):
        return "Cut there, the two differ by no more than chance: this run shows no advantage of the ACN."
    return f"Cut there, {'the ACN' if gap > 0 else 'its twin'} is ahead by {abs(gap):.3f}."


def _beside(run: Run, depth: int, runs: Sequence[Run]) -> str:
    scores = _scores(run)
    if are_at_chance(run.results):
        return f"{_name(run, runs)} {AT_CHANCE} ({scores[-1]:.3f})"
    at = scores[min(depth, len(scores) - 1)]
    whole = "" if depth >= len(scores) - 1 else f" of {scores[-1]:.3f}"
    return f"{_name(run, runs)} {at:.3f}{whole}"


def _name(run: Run, runs: Sequence[Run]) -> str:
    """The connectivity, and the run's name too where several have it."""
    kinds = Counter(one.results.connectivity for one in runs)
    kind = run.results.connectivity
    return kind if kinds[kind] == 1 else f"{run.name} ({kind})"


def _scores(run: Run) -> list[float]:
    together = run.results.aggregate
    return together.depth_mean if together is not None else run.results.depth_scores


def _cut_depth(run: Run) -> int:
    together = run.results.aggregate
    return together.cut_depth_tolerance if together is not None else run.results.cut_depth


def _standard_error(run: Run) -> float | None:
    together = run.results.aggregate
    return together.standard_error if together is not None else run.results.standard_error
