"""Which exceptions are written for the user, and shown without a traceback."""

import difflib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from data_pipeline import FULL, UserError, hide_credentials, os_problem

from .interrupt import INTERRUPTED, interruptible, was_interrupted


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


_WRONG_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT,
    errno.ELOOP, errno.ENOTEMPTY, errno.EXDEV,
)  # fmt: skip
"""What the system refuses because of the path that was given."""
_SICK_DISK = (*FULL, errno.EIO, errno.ESTALE, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO)


def _refusal_code(error: OSError) -> int | None:
    """The exit code for what the system refused: 2 where another path helps, 1 where the machine needs care.

    None for an error of another kind, a lost network for instance, of which nobody here knows what it means.
    """
    if error.errno in _SICK_DISK:
        return 1
    return 2 if error.filename is not None and error.errno in _WRONG_PLACE else None


def reported(verb: str, run: Callable[[], int]) -> int:
    """`run()`, its user's errors printed (by rank 0 of several): 2 for mistakes, 1 for failures, 130 for Ctrl-C.

    Nothing that is said meanwhile has credentials in it, by the libraries' logs and in tracebacks too.
    """
    logging.setLogRecordFactory(_record_without_credentials)
    try:
        from pretrain import LostRankError

        with interruptible():
            return run()
    except KeyboardInterrupt:
        return _say_interrupted(verb)
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
    except OSError as error:
        if was_interrupted():
            return _say_interrupted(verb)
        if (code := _refusal_code(error)) is None:
            return _report_crash()
        # each rank again: it may be the disk of its own machine
        print(hide_credentials(f"acn {verb}: error: {os_problem(error)}"), file=sys.stderr, flush=True)
        return code
    except Exception:
        if was_interrupted():  # a library made something else of it
            return _say_interrupted(verb)
        return _report_crash()


def _say_interrupted(verb: str) -> int:
    print(f"acn {verb}: interrupted", file=sys.stderr)
    return INTERRUPTED


def _report_crash() -> int:
    """Inside an `except`: raise what was caught; print it instead where its traceback has credentials in it."""
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
