"""Which exceptions are a user's mistake."""


class LaunchError(ValueError):
    """A user's mistake in this room: the message names the field or file and the mend."""


def mistakes() -> tuple[type[ValueError], ...]:
    """The error classes of all rooms; their messages are written for users."""
    from data_pipeline.errors import DataError
    from eval.errors import EvalError
    from pretrain.errors import PretrainError

    return (LaunchError, DataError, EvalError, PretrainError)
