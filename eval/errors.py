"""The errors of this room."""

from data_pipeline import UserError


class EvalError(UserError):
    """A mistake in what the user asked for or gave; the message names the field or file and the fix."""


class Diverged(EvalError):
    """A training whose loss, weights or answers are no finite numbers any more."""
