"""Ctrl-C of a command: while it starts and while it ends it leaves at once; in its work it is a KeyboardInterrupt.

Imports and the interpreter's own end are no places for an exception that may come anywhere: libraries swallow it, turn
it into another one, or print it. Nothing is held then, so nothing needs to be cleaned up.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType

INTERRUPTED = 130
"""The exit code, 128 and the number of the signal."""

end_with_us: set[int] = set()
"""Processes that would outlive this one for a while, with its output open."""

_was_interrupted = False


def leave(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """Say so and end, now."""
    with suppress(OSError):
        os.write(2, b"acn: interrupted\n")
    for pid in end_with_us:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(INTERRUPTED)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, and remember that."""
    global _was_interrupted
    _was_interrupted = True
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether Ctrl-C has come, as a KeyboardInterrupt or as what a library made of it."""
    return _was_interrupted


_Handler = Callable[[int, FrameType | None], object]


@contextmanager
def _answer_with(handler: _Handler, instead_of: _Handler) -> Iterator[None]:
    """Change the handler for a while, where it is ours: who ignores Ctrl-C, or has a handler of its own, keeps it."""
    ours = signal.getsignal(signal.SIGINT) is instead_of
    if ours:
        signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if ours and signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, instead_of)


def interruptible() -> AbstractContextManager[None]:
    """Meanwhile Ctrl-C is a KeyboardInterrupt."""
    return _answer_with(interrupt, leave)


def starting() -> AbstractContextManager[None]:
    """Meanwhile, inside of `interruptible`, Ctrl-C ends the process at once."""
    return _answer_with(leave, interrupt)
