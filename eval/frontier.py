"""The Pareto frontier of cost and score: what no other way beats at the same cost or less."""

from collections.abc import Sequence
from typing import TypeVar

PointT = TypeVar("PointT")


def frontier(points: Sequence[tuple[float, float, PointT]]) -> list[PointT]:
    """Of `(cost, score, point)` the points that no other beats, cheapest first: each scores more than all before it."""
    kept: list[PointT] = []
    best = float("-inf")
    for _, score, point in sorted(points, key=lambda one: (one[0], -one[1])):
        if score > best:
            kept.append(point)
            best = score
    return kept
