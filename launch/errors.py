"""Which exceptions are written for the user, and shown without a traceback."""

import difflib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from data_pipeline import UserError, hide_credentials


class LaunchError(UserError):
    """A user's mistake in this room: the message names the field or file and the fix."""


class HubError(RuntimeError):
    """The Hub cannot be reached, or failed: nothing that the user gave is wrong. The message says how to go on."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """How a message about a misspelled `word` goes on, ": did you mean ...?"; empty where nothing known is like it.

    Of dotted names the last part alone will do: `lr` is like `optim.lr`.
    """
    names = list(known)
    word = word.replace("-", "_") if "-" not in "".join(names) else word
    found = [name for name in names if name.rpartition(".")[2] == word]
    found = found or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f": did you mean {' or '.join(found)}?" if found else ""


def mistakes() -> tuple[type[ValueError], ...]:
    """The error classes of all rooms; their messages are written for users."""
    from data_pipeline import DataError
    from eval import EvalError
    from pretrain import PretrainError

    return (LaunchError, DataError, EvalError, PretrainError)


def failures() -> tuple[type[RuntimeError], ...]:
    """Errors of sound input whose messages say all there is to say: no traceback, and another exit code."""
    from pretrain import UnhealthyError

    from .cluster.engines import SubmitError

    return (HubError, SubmitError, UnhealthyError)


def reported(verb: str, run: Callable[[], int]) -> int:
    """`run()`, its user's errors printed (by rank 0 of several): 2 for mistakes, 1 for failures, 130 for Ctrl-C.

    Nothing that is said meanwhile has credentials in it, by the libraries' logs and in tracebacks too.
    """
    logging.setLogRecordFactory(_record_without_credentials)
    try:
        from pretrain import LostRankError

        return run()
    except KeyboardInterrupt:
        print(f"acn {verb}: interrupted", file=sys.stderr)
        return 130
    except mistakes() as error:
        lines = str(error).splitlines()
        _print(verb, lines[0] if len(lines) == 1 else "\n  - ".join([f"{len(lines)} problems:", *lines]))
        return 2
    except failures() as error:
        _print(verb, str(error))
        return 1
    except LostRankError as error:  # each rank has its own
        print(hide_credentials(f"acn {verb}: error: {error}"), file=sys.stderr, flush=True)
        return 1
    except Exception:
        said = traceback.format_exc()
        if (hidden := hide_credentials(said)) == said:
            raise
        print(hidden, end="", file=sys.stderr)
        return 1


def _record_without_credentials(*args: Any, **options: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **options)
    try:
        said = record.getMessage()
    except (TypeError, ValueError):  # a library's own mistake, which logging reports
        return record
    if (hidden := hide_credentials(said)) != said:
        record.msg, record.args = hidden, ()
    return record


def _print(verb: str, message: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(hide_credentials(f"acn {verb}: error: {message}"), file=sys.stderr)
