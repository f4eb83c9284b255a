"""The error of this room."""


class PretrainError(ValueError):
    """A user's mistake: the message names the field or file and the mend."""


class UnhealthyError(RuntimeError):
    """Training cannot go on: it stays sick, or its checkpoints cannot be written. The message says what to look at."""
