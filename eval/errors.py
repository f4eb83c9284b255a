"""The error of this room."""


class EvalError(ValueError):
    """A mistake in what the user asked for or gave; the message names the field or file and the fix."""
