"""The errors a user can fix."""

from .problems import UserError


class DataError(UserError):
    """A mistake in the corpus, the configuration or a prepared folder; the message names it and the fix."""


class ShardFault(DataError):
    """A shard that is missing or damaged; what stream.damaged=skip replaces instead of stopping."""


class UnfinishedError(DataError):
    """Work that stopped through no mistake, such as a lost network; the same command goes on where it stopped."""
