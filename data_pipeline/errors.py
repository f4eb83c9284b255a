"""The error a user can mend."""


class DataError(ValueError):
    """A mistake in the corpus, the configuration or a prepared folder; the message names it and the mend."""
