"""What at chance means is defined once: not more than two standard errors above the best constant answer."""

from typing import Any

import numpy as np
import pytest

from eval import TASKS, Task, TaskResults, are_at_chance, is_at_chance
from eval.depth import majority_score

F1 = Task("own", ("sentence",), ("no", "yes"), ("f1",))


def results(metric: str, score: float, majority: float | None, error: float | None) -> TaskResults:
    return TaskResults(
        task="own", metric=metric, seed=1, model="m", connectivity="acn", full_score=score, depth_scores=[score],
        cut_depth=0, tolerance=0.0, params_by_depth=[1], flops_by_depth=[1], train={}, majority_score=majority,
        standard_error=error,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "labels", "score"),
    [
        (TASKS["sst2"], [0, 1, 1, 1], 0.75),
        (TASKS["mnli"], [0, 1, 2, 2], 0.5),
        (TASKS["cola"], [0, 1, 1, 1], 0.0),
        (TASKS["stsb"], [0.0, 1.0, 2.0, 5.0], 0.0),
        (F1, [0, 0, 0, 1], 0.4),  # always "yes": precision 1/4, recall 1; always "no" has none
    ],
)
def test_chance_is_the_best_constant_answer(task: Task, labels: list[Any], score: float) -> None:
    assert majority_score(task, np.array(labels)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("metric", "score", "majority", "error", "chance"),
    [
        ("accuracy", 0.51, 0.50, 0.01, True),
        ("accuracy", 0.53, 0.50, 0.01, False),
        ("accuracy", 0.40, 0.50, 0.01, True),
        ("accuracy", 0.50, 0.50, None, True),
        ("accuracy", 0.51, 0.50, None, False),
        ("accuracy", 0.51, None, 0.01, False),  # an old file says nothing of it
        ("matthews", 0.0, None, 0.0, True),
        ("matthews", 0.05, None, 0.03, True),
        ("pearson", 0.2, 0.0, 0.03, False),
    ],
)
def test_two_standard_errors_decide(
    metric: str, score: float, majority: float | None, error: float | None, chance: bool
) -> None:
    record = results(metric, score, majority, error)
    assert is_at_chance(record) is chance
    assert are_at_chance(record) is chance
