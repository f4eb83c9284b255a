"""Cleaning of documents before anything else looks at them."""

import importlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DataError
from ..problems import Problem

_UNSOUND = re.compile("[\0\ud800-\udfff]")

Clean = Callable[[str], str | None]
"""Document -> what to keep of it; None drops it."""


@dataclass
class CleaningConfig:
    """What happens to a document before it is hashed, split and tokenized: the hook, the normal form, the length."""

    hook: str | None = None
    """Function of your own, 'package.module:name', from a document to its cleaned text, or to None to drop it. It must
    depend on the document alone. Change its name when you change what it does: a resumed run cannot see inside it."""
    unicode_form: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = None
    """Unicode normal form to bring the text into."""
    min_characters: int = 1
    """Documents with fewer characters are dropped."""

    def problems(self) -> list[Problem]:
        found = []
        if self.min_characters < 1:
            found.append(Problem("corpus.cleaning.min_characters", self.min_characters, "must be at least 1"))
        try:
            self.function()
        except DataError as error:
            found += error.problems
        return found

    def function(self) -> Clean:
        """The cleaning of one document as a function; DataError when the hook cannot be imported."""
        hook = _imported(self.hook) if self.hook else None

        def clean(text: str) -> str | None:
            kept: Any = hook(text) if hook else text
            if kept is None:
                return None
            if not isinstance(kept, str):
                raise DataError(
                    f"corpus.cleaning.hook={self.hook!r} returned {type(kept).__name__}: return text or None"
                )
            if hook and _UNSOUND.search(kept):
                raise DataError(
                    f"corpus.cleaning.hook={self.hook!r} returned text with a NUL byte or half a surrogate pair: leave "
                    "them out"
                )
            if self.unicode_form is not None:
                kept = unicodedata.normalize(self.unicode_form, kept)
            return None if len(kept) < self.min_characters or kept.isspace() else kept

        return clean


def _imported(name: str) -> Clean:
    module, _, function = name.partition(":")
    try:
        found: Clean = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            Problem(
                "corpus.cleaning.hook",
                repr(name),
                f"cannot be imported ({error})",
                "write 'package.module:function' and put the package on PYTHONPATH",
            )
        ) from error
    return found
