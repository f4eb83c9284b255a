"""The error of this room."""


class PretrainError(ValueError):
    """A user's mistake: the message names the field or file and the mend."""
