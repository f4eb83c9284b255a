"""The tokenizer: an existing one, or a WordPiece or byte-level BPE; the same text always trains the same bytes."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import NFC, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from .errors import DataError
from .filesystem import write_text
from .hub import find_model

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
TokenizerKind = Literal["wordpiece", "bpe"]
TOKENIZER_FILE, _CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
_LOCAL_FIELDS = {
    "name_or_path", "_name_or_path", "is_local", "local_files_only", "cache_dir", "force_download", "proxies", "token",
    "use_auth_token", "revision", "subfolder", "_commit_hash", "tokenizer_file", "vocab_file", "merges_file",
    "special_tokens_map_file", "added_tokens_file", "tokenizer_config_file",
}  # fmt: skip
"""Of tokenizer_config.json: where and how the tokenizer was loaded, which says nothing on another machine."""
CONTINUATION_MARK = "##"
"""What a WordPiece that goes on with a word begins with, in vocabularies that are trained here."""
SPACE_MARK = "\u0120"
"""How byte-level vocabularies write the space before a word."""
_CONTROL = ("\u0100", "\u0121")  # and the other characters that show nothing, line ends among them
_MAX_ALPHABET = 1000  # as in BERT's own vocabulary
_CHARACTER_COVERAGE = 0.9999  # rarer characters become [UNK] rather than take two entries each
_WORDS, _MERGES = "counting words", "joining pieces to the vocabulary"
_TOLD_TEXTS = 1000
_ID_PARTS = ("added_tokens", "normalizer", "pre_tokenizer", "model")  # what decides text -> ids


@dataclass(frozen=True)
class Vocabulary:
    """What the token stream needs to know of a tokenizer; stored in the manifest."""

    fingerprint: str
    """sha256 of what turns text into ids, see `fingerprint`."""
    vocab_size: int
    """Number of ids, special tokens included: every id is below it."""
    mask_token_id: int
    pad_token_id: int
    cls_token_id: int
    sep_token_id: int
    unk_token_id: int | None
    """None for vocabularies that can spell everything, such as byte-level ones."""
    special_ids: tuple[int, ...]
    """All special ids, ascending; never masked, never drawn at random."""

    @cached_property
    def is_ordinary(self) -> npt.NDArray[np.bool_]:
        """(vocab_size,) True for ids that are not special."""
        table = np.ones(self.vocab_size, dtype=np.bool_)
        table[list(self.special_ids)] = False
        return table

    @cached_property
    def ordinary_ids(self) -> npt.NDArray[np.int64]:
        """The ids that are not special, ascending."""
        return np.flatnonzero(self.is_ordinary)


Tell = Callable[[str, float | None], None]
"""Hears what training does, and what share of the texts it has done; None where that cannot be known."""


def train_tokenizer(
    texts: Sequence[str],
    vocab_size: int,
    seq_length: int,
    kind: TokenizerKind = "wordpiece",
    tell: Tell = lambda doing, share: None,
) -> Any:
    """Train a tokenizer and return it as a transformers tokenizer.

    "wordpiece" is the paper's: lower-cased, accents stripped. "bpe" is byte-level, keeps case and accents and spells
    any text without an unknown token. The same texts give the same vocabulary, byte for byte, in any process; a small
    corpus gives fewer than `vocab_size` entries. `seq_length` becomes model_max_length. `tell` is called as it goes on,
    also from the library's threads.
    """
    train = _train_bpe if kind == "bpe" else _train_wordpiece
    backend = train(texts, vocab_size, tell)
    return _as_transformers(backend, seq_length)


def _told(texts: Sequence[str], doing: str, tell: Tell, then: str | None = None) -> Iterator[str]:
    """The texts, one after the other; tells how many have been taken, and at the end what comes `then`."""
    for number, text in enumerate(texts):
        if number % _TOLD_TEXTS == 0:
            tell(doing, number / len(texts))
        yield text
    tell(doing, 1.0)
    if then is not None:
        tell(then, None)


def _train_bpe(texts: Sequence[str], vocab_size: int, tell: Tell) -> Tokenizer:
    """GPT-2's byte-level BPE over NFC text, without an unknown token: every byte has an entry."""
    backend = Tokenizer(BPE())
    backend.normalizer = NFC()
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[token for name, token in SPECIAL_TOKENS.items() if name != "unk_token"],
        initial_alphabet=sorted(ByteLevel.alphabet()),  # listed in the order of a hash table otherwise
        show_progress=False,
    )
    backend.train_from_iterator(_told(texts, _WORDS, tell, then=_MERGES), trainer=trainer)
    return backend


def _train_wordpiece(texts: Sequence[str], vocab_size: int, tell: Tell) -> Tokenizer:
    trained = Tokenizer(WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    trained.normalizer = BertNormalizer(lowercase=True, strip_accents=True)
    trained.pre_tokenizer = BertPreTokenizer()
    told = _told(texts, "counting characters", tell)
    alphabet = _alphabet(told, trained.normalizer, most=min(_MAX_ALPHABET, vocab_size // 4))
    # The library numbers word-internal characters in the order of a hash table, and that numbering decides ties
    # between merges (huggingface/tokenizers issue 1794). Given as special tokens they are numbered here instead.
    pieces = [*SPECIAL_TOKENS.values(), *alphabet, *(CONTINUATION_MARK + character for character in alphabet)]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=pieces,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION_MARK,
        show_progress=False,
    )
    trained.train_from_iterator(_told(texts, _WORDS, tell, then=_MERGES), trainer=trainer)
    return _wordpiece(trained.get_vocab())


def _alphabet(texts: Iterable[str], normalizer: BertNormalizer, most: int) -> list[str]:
    """The commonest characters, at most `most`, that cover almost all of the text; sorted by code point."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    for space in [character for character in counts if character.isspace()]:
        del counts[space]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    kept, covered, goal = [], 0, _CHARACTER_COVERAGE * counts.total()
    for character, count in ranked:
        if covered >= goal:
            break
        kept.append(character)
        covered += count
    return sorted(kept)


def _wordpiece(vocabulary: dict[str, int]) -> Tokenizer:
    """A fresh tokenizer around a WordPiece vocabulary in which only the five special tokens are special."""
    backend = Tokenizer(
        WordPiece(
            vocab=vocabulary,
            unk_token=SPECIAL_TOKENS["unk_token"],
            continuing_subword_prefix=CONTINUATION_MARK,
            max_input_chars_per_word=100,
        )
    )
    backend.normalizer = BertNormalizer(lowercase=True, strip_accents=True)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = WordPieceDecoder(prefix=CONTINUATION_MARK)
    backend.add_special_tokens(list(SPECIAL_TOKENS.values()))
    return backend


def _as_transformers(backend: Tokenizer, seq_length: int) -> Any:
    """A trained tokenizer, framing sequences and pairs as BERT does, in the class that AutoTokenizer loads."""
    from transformers import TokenizersBackend  # heavy, and not needed to read shards

    cls, sep = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    backend.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
    )
    return TokenizersBackend(
        tokenizer_object=backend,
        **{name: token for name, token in SPECIAL_TOKENS.items() if backend.token_to_id(token) is not None},
        model_max_length=seq_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer from a Hugging Face folder, or NAME[@REVISION] of the Hub.

    Raises DataError when there is none, or when it lacks what masked language modelling needs.
    """
    from transformers import AutoTokenizer

    folder = find_model(name, "tokenizer", weights=False).path
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"tokenizer: {name!r} cannot be loaded ({reason}): give a folder written by save_pretrained or a Hub name"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"tokenizer: {name!r} has no tokenizer.json: choose one that the tokenizers library supports")
    missing = [key for key in SPECIAL_TOKENS if key != "unk_token" and getattr(tokenizer, f"{key}_id") is None]
    if missing:
        raise DataError(f"tokenizer: {name!r} has no {', '.join(missing)}: choose a masked-language-model tokenizer")
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> list[Path]:
    """Write a transformers tokenizer into `folder`, and nothing of where it was loaded from; the files."""
    written = [Path(name) for name in tokenizer.save_pretrained(folder)]
    drop_local_fields(folder)
    return sorted(path for path in {*written, folder / _CONFIG_FILE} if path.is_file())


def drop_local_fields(folder: Path) -> None:
    """Take out of `folder`/tokenizer_config.json what transformers notes of the machine it was written on."""
    file = folder / _CONFIG_FILE
    if not file.is_file():
        return
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return  # damaged: whoever loads the tokenizer says so
    if isinstance(content, dict) and content.keys() & _LOCAL_FIELDS:
        kept = {name: value for name, value in content.items() if name not in _LOCAL_FIELDS}
        write_text(file, json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """Describe a transformers tokenizer for the manifest."""
    return Vocabulary(
        fingerprint=fingerprint(tokenizer),
        vocab_size=max(tokenizer.get_vocab().values()) + 1,  # ids may have gaps
        mask_token_id=tokenizer.mask_token_id,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        unk_token_id=tokenizer.unk_token_id,
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
    )


def fingerprint(tokenizer: Any) -> str:
    """Sha256 of what turns text into ids: normaliser, pre-tokeniser, model and added tokens.

    Takes a transformers tokenizer or a `tokenizers.Tokenizer`. Settings that using a tokenizer may change
    (truncation, padding, special tokens around a sequence) do not count.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    content = json.loads(backend.to_str())
    parts = {name: content[name] for name in _ID_PARTS}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def fingerprint_of_folder(folder: Path) -> str:
    """The fingerprint of a saved tokenizer, without loading transformers.

    Raises DataError when the folder holds no readable tokenizer.json.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise DataError(f"{file} is missing: put the folder's tokenizer back")
    try:
        return fingerprint(Tokenizer.from_file(str(file)))
    except Exception as error:  # the library raises bare Exception on malformed files
        raise DataError(f"{file} is damaged ({error}): put the folder's tokenizer back") from error


def vocabulary_faults(vocabulary: Vocabulary, read: Callable[[str], bytes]) -> list[str]:
    """How a saved tokenizer differs from the vocabulary that describes it, without loading transformers.

    `read` gives the content of a file of the tokenizer's folder, and raises FileNotFoundError where there is none.
    Each fault begins with the name of the file it is about.
    """
    try:
        tokenizer = Tokenizer.from_str(read(TOKENIZER_FILE).decode())
    except FileNotFoundError:
        return [f"{TOKENIZER_FILE} is missing"]
    except Exception as error:  # the library raises bare Exception on malformed files
        return [f"{TOKENIZER_FILE} cannot be read ({error})"]
    if fingerprint(tokenizer) != vocabulary.fingerprint:
        return [f"{TOKENIZER_FILE} is not the tokenizer that the shards were written with"]
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if vocabulary.vocab_size != size:
        return [f"{TOKENIZER_FILE} has ids below {size}, the manifest says below {vocabulary.vocab_size}"]
    try:
        names = _special_names(read(_CONFIG_FILE))
    except FileNotFoundError:
        names = {}  # every token that is marked as special may be any of the five
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return [f"{_CONFIG_FILE} cannot be read ({error})"]
    ids = {key: tokenizer.token_to_id(name) for key, name in names.items()}
    faults = [
        f"{_CONFIG_FILE} has the {key} {names[key]!r}, id {ids[key]}, the manifest says {key}_id "
        f"{getattr(vocabulary, f'{key}_id')}"
        for key in SPECIAL_TOKENS
        if key in ids and getattr(vocabulary, f"{key}_id") != ids[key]
    ]
    marked = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    marked.update(number for number in ids.values() if number is not None)
    used = {getattr(vocabulary, f"{key}_id") for key in SPECIAL_TOKENS} - {None}
    special = set(vocabulary.special_ids)
    if wrong := sorted((special - marked - used) | (used - special), key=str):
        shown = ", ".join(map(str, wrong))
        faults.append(f"{TOKENIZER_FILE} and the manifest do not agree on whether ids {shown} are special")
    return faults


def _special_names(config: bytes) -> dict[str, str]:
    """The special tokens that a tokenizer_config.json names: the five, and others such as bos_token."""
    found = {key: token for key, token in json.loads(config).items() if key.endswith("_token")}
    named = {key: token.get("content") if isinstance(token, dict) else token for key, token in found.items()}
    return {key: name for key, name in named.items() if isinstance(name, str)}


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

    elif kind == "BPE" and any(piece.startswith(SPACE_MARK) for piece in model["vocab"]):

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
