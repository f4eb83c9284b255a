"""Which ids of a tokenizer go on with the word before them, for whole-word masking."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .tokenizer import Vocabulary

_SPACE = "\u0120"  # how byte-level vocabularies write the space before a word
_CONTROL = ("\u0100", "\u0121")  # and the other characters that show nothing, line ends among them


def continuations(tokenizer_folder: str | Path, vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """(vocab_size,) True for ids that continue a word: "##ing" of a WordPiece, pieces without a space of a BPE.

    In a byte-level BPE the pieces after a bracket or a hyphen start without a space too. Pieces that begin with a
    letter, a digit or a byte of a longer character count as continuing there, so "(word" is one word, "word)" two.
    Raises DataError for other tokenizers.
    """
    file = Path(tokenizer_folder) / "tokenizer.json"
    model = json.loads(file.read_text(encoding="utf-8"))["model"]
    kind = model.get("type")
    if kind == "WordPiece":
        prefix = model["continuing_subword_prefix"]

        def goes_on(piece: str) -> bool:
            return piece.startswith(prefix)

    elif kind == "BPE" and any(piece.startswith(_SPACE) for piece in model["vocab"]):

        def goes_on(piece: str) -> bool:
            first = piece[:1]
            return first.isalnum() if first.isascii() else not _CONTROL[0] <= first <= _CONTROL[1]

    else:
        raise DataError(
            f"masking.unit=word: {file} ({kind}) does not say where words begin: use masking.unit=token or span, or "
            "prepare the corpus with a WordPiece or byte-level BPE tokenizer"
        )
    table = np.zeros(vocabulary.vocab_size, dtype=np.bool_)
    table[[number for piece, number in model["vocab"].items() if goes_on(piece)]] = True
    return table & vocabulary.is_ordinary
