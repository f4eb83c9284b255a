"""The error of this room."""

from data_pipeline import UserError


class EvalError(UserError):
    """A mistake in what the user asked for or gave; the message names the field or file and the fix."""
