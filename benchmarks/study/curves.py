"""Tokens to an equal validation loss."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LossCurve:
    """Validation losses of one pretraining."""

    tokens: Sequence[float]
    """Ascending."""
    losses: Sequence[float]

    @property
    def final(self) -> float:
        """Loss at the end of the schedule."""
        return self.losses[-1]

    def tokens_to(self, loss: float) -> float | None:
        """Tokens after which the loss is first at most `loss`, interpolated linearly between two validations.

        None where it never is. A curve that begins below `loss` got there at its first validation at the latest: its
        tokens.
        """
        for i, value in enumerate(self.losses):
            if value <= loss:
                return self.tokens[0] if i == 0 else interpolate(loss, self.losses[i - 1 : i + 1], self.tokens[i - 1 :])
        return None


def interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """y at `x` on the line through the first two points of `xs` and `ys`; within their y even where x rounds."""
    share = (x - xs[0]) / (xs[1] - xs[0])
    return ys[0] + min(1.0, max(0.0, share)) * (ys[1] - ys[0])


@dataclass(frozen=True)
class Gap:
    """How much more training one connectivity needs than the other for the same validation loss."""

    loss: float
    """The loss that is reached."""
    tokens: float | None
    """Tokens of the first; None where it never reaches the loss."""
    other_tokens: float | None
    """Tokens of the other."""

    @property
    def ratio(self) -> float | None:
        """Tokens of the first over those of the other; None where one never reaches the loss."""
        return None if self.tokens is None or self.other_tokens is None else self.tokens / self.other_tokens


def gaps(curve: LossCurve, other: LossCurve) -> tuple[Gap, Gap]:
    """At the other's final loss, and at the first's own: one of them is reached by both, unless the curves rise."""
    first, second = (Gap(loss, curve.tokens_to(loss), other.tokens_to(loss)) for loss in (other.final, curve.final))
    return first, second
