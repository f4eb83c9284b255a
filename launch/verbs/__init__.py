"""One file per verb of `acn`: `Args` says what it takes, `run` does it.

Options are parsed, and `--help` answers, in a moment: nothing that `Args` needs imports torch, transformers or another
large library, and what a verb does is imported when it runs (tests/launch/test_light.py).
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from ..interrupt import starting


@contextmanager
def large_imports() -> Iterator[None]:
    """Import large libraries without looking for garbage, of which they make none: that takes a seventh of the time."""
    gc.disable()
    try:
        with starting():
            yield
    finally:
        gc.enable()
