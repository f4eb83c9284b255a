"""When a score is no better than chance: what a model that looks at nothing would score too.

Chance is the best score of a constant answer: the commonest class for accuracy, always class 1 for F1, 0 for Matthews'
coefficient and the correlations. A score is at chance where it is not above that by more than two standard errors of
the examples it was measured on; everything that speaks of chance asks here.
"""

from .results import CutResults, TaskResults, TrialResults

ERRORS = 2.0
"""Standard errors that a score may be above chance by accident."""
AT_CHANCE = "at chance"
"""What tables, cards and figures say beside such a score."""
_ZERO = ("matthews", "pearson", "spearman")


def is_chance(score: float, constant: float | None, standard_error: float | None) -> bool:
    """Whether a score is no better than that of a constant answer; False where that is not known.

    Args:
        constant: the best score of a constant answer.
        standard_error: of the score; None, as in files of old versions, counts as 0.
    """
    return constant is not None and score - constant <= ERRORS * (standard_error or 0.0)


def constant_score(record: TrialResults | CutResults) -> float | None:
    """What the best constant answer scores; None where the record does not say it."""
    return 0.0 if record.metric in _ZERO else record.majority_score


def is_at_chance(record: TrialResults | CutResults) -> bool:
    """Whether the whole model that the record is of is at chance, by its own seed."""
    return is_chance(record.full_score, constant_score(record), record.standard_error)


def is_cut_at_chance(record: CutResults) -> bool:
    """Whether the cut model is at chance."""
    return is_chance(record.score, constant_score(record), record.standard_error)


def are_at_chance(results: TaskResults) -> bool:
    """Whether the seeds together are: the mean of their scores, with its error over examples and over seeds."""
    if results.aggregate is None:
        return is_at_chance(results)
    together = results.aggregate
    return is_chance(together.depth_mean[-1], constant_score(results), together.standard_error)
