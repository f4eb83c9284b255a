"""One file per verb of `acn`: `Args` says what it takes, `run` does it.

Options are parsed, and `--help` answers, in a moment: nothing that `Args` needs imports torch, transformers or another
large library, and what a verb does is imported when it runs (tests/launch/test_light.py).
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..interrupt import starting

if TYPE_CHECKING:
    from ..tracking import Tracker


@contextmanager
def large_imports() -> Iterator[None]:
    """Import large libraries without looking for garbage, of which they make none: that takes a seventh of the time."""
    gc.disable()
    try:
        with starting():
            yield
    finally:
        gc.enable()


def say_start(tracker: "Tracker") -> None:
    """Tell the user where the numbers of a run will be, and who said so."""
    for line in tracker.start_lines():
        print(line, flush=True)


def say_where(trackers: "Iterable[Tracker]") -> None:
    """Tell the user where MLflow has these runs, which are closed, and what to open."""
    for tracker in trackers:
        for line in tracker.end_lines():
            print(line, flush=True)
