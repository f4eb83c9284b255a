"""Units of work: what a corpus is cut into, whatever the number of workers and machines.

A unit is some slices of one source, about `target` stored bytes of them; a source with a weight above 1 has its units
once per copy. The cuts depend on the files alone, and every unit is read, tokenized and packed by itself, so who does
it, and when, cannot be seen in the result.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .cleaning import Clean
from .formats import Slice, cut_file
from .sources import CorpusConfig, Source, checked, unit_hash

_UNITS = 256  # aimed at in a large corpus: enough for many workers, few enough to keep their tails short
_SMALLEST, _LARGEST = 4 << 20, 256 << 20  # bytes

Kept = tuple[str, str]
"""(split, text) of a document that is used."""


@dataclass(frozen=True)
class Unit:
    """Slices of one source that are read one after the other."""

    number: int
    field: str
    """"train" or "validation": the field of the corpus configuration."""
    source: int
    """Which source of that field."""
    slices: list[Slice]
    copy: int = 0
    """Which time the source's documents are used; above 0 only for weights above 1."""
    original: int = 0
    """Number of the unit with copy 0 of the same slices."""

    @property
    def bytes(self) -> int:
        """Stored size, at least 1."""
        return max(sum(part.bytes for part in self.slices), 1)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` is the way back."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Unit":
        """A unit as `to_json` wrote it."""
        return cls(**{**content, "slices": [Slice(**part) for part in content["slices"]]})


def plan_units(corpus: CorpusConfig, unit_bytes: int) -> list[Unit]:
    """Cut a corpus into units of about `unit_bytes`; 0 aims at 256 units of 4 to 256 MiB. Reads no text."""
    sources = [(name, number, source) for name in ("train", "validation") for number, source in _numbered(corpus, name)]
    whole = [source.slices() for _, _, source in sources]
    total = sum(part.bytes for slices in whole for part in slices)
    target = unit_bytes or min(max(total // _UNITS, _SMALLEST), _LARGEST)
    units: list[Unit] = []
    for (name, number, source), slices in zip(sources, whole, strict=True):
        parts = slices if source.is_hub else [cut for part in slices for cut in cut_file(part.file, part.bytes, target)]
        groups = [[part] for part in parts] if source.is_hub else list(_grouped(parts, target))
        first = len(units)
        for copy in range(max(1, math.ceil(source.weight))):
            for index, group in enumerate(groups):
                units.append(Unit(len(units), name, number, group, copy, first + index))
    return units


def _numbered(corpus: CorpusConfig, name: str) -> list[tuple[int, Source]]:
    return list(enumerate(corpus.sources(name)))


def _grouped(parts: list[Slice], target: int) -> Iterator[list[Slice]]:
    """Consecutive slices together as long as they stay within the target."""
    group: list[Slice] = []
    for part in parts:
        if group and sum(held.bytes for held in group) + part.bytes > target:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def candidates(
    corpus: CorpusConfig, unit: Unit, clean: Clean, tally: Counter[str]
) -> Iterator[tuple[list[str], float]]:
    """The cleaned documents of a unit, and the share of it that has been read; what is left out is tallied."""
    source = corpus.sources(unit.field)[unit.source]
    before = 0
    for part in unit.slices:
        for values, share in source.read(part):
            texts = []
            for value in checked(values, source):
                if not value or value.isspace():
                    tally["blank"] += 1
                elif (text := clean(value)) is None:
                    tally["cleaned_away"] += 1
                else:
                    texts.append(text)
            yield texts, (before + share * part.bytes) / unit.bytes
        before += part.bytes


def content_hash(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def used_documents(
    corpus: CorpusConfig, unit: Unit, duplicates: npt.NDArray[np.int64], tally: Counter[str]
) -> Iterator[tuple[list[Kept], float]]:
    """The documents of a unit that go into the shards, with their split, and the share of it that has been read.

    `duplicates` are the numbers of those candidates that are copies of others, ascending.
    """
    weight = corpus.sources(unit.field)[unit.source].weight
    number = 0
    for texts, share in candidates(corpus, unit, corpus.cleaning.function(), tally):
        repeated = set(duplicates[slice(*np.searchsorted(duplicates, [number, number + len(texts)]))].tolist())
        kept: list[Kept] = []
        for index, text in enumerate(texts, start=number):
            split = corpus.split_of(text) if unit.field == "train" else "validation"
            if index in repeated:
                tally["duplicates"] += 1
            elif not _drawn(text, weight, unit.copy):
                tally["not_drawn"] += 1
            elif split == "train" or unit.copy == 0:  # held-out documents are never repeated
                kept.append((split, text))
        number += len(texts)
        yield kept, share


def _drawn(text: str, weight: float, copy: int) -> bool:
    """Whether a copy of a document is among the `weight` times that documents of its source are used."""
    return copy + 1 <= weight or copy + unit_hash(text, b"weight") < weight
