"""Which documents of a unit go into the shards, and into which split: cleaned, drawn by weight, no exact duplicates.

For duplicates the corpus is read once to hash every document (16 bytes of BLAKE2b, so that two different texts of a
corpus of 10^12 documents are mistaken for each other with probability 10^-15). The hashes are then sorted in partitions
of at most _PARTITION documents: memory is bounded by one partition, about 1 GB, plus 8 bytes per duplicate found. The
first occurrence counts as the original: validation sources before training sources, then the order of the units.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..folder import WORK_FOLDER
from .cleaning import Clean
from .sources import CorpusConfig, unit_hash
from .store import Store

if TYPE_CHECKING:
    from .units import Unit

_PARTITION = 1 << 24  # documents whose hashes are held at once
_HASH_BYTES = 16
Hashes = npt.NDArray[np.uint64]


Kept = tuple[str, str]
"""(split, text) of a document that is used."""


def hashes_file(unit: int) -> str:
    """Where the hashes of a unit's documents are kept."""
    return f"{WORK_FOLDER}/hashes/{unit:05d}.npy"


def duplicates_file(unit: int) -> str:
    """Where the numbers of a unit's duplicates are kept."""
    return f"{WORK_FOLDER}/duplicates/{unit:05d}.npy"


def hash_unit(corpus: CorpusConfig, unit: Unit) -> Iterator[tuple[int, int, float, bytes]]:
    """Hash the documents of a unit, yielding (documents, bytes of text, share done, hashes) batch by batch."""
    clean = corpus.cleaning.function()
    for texts, share in candidates(corpus, unit, clean, Counter()):
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        yield len(texts), size, share, b"".join(map(content_hash, texts))


def hashes_to_bytes(hashes: bytes) -> bytes:
    """The hashes of a unit's documents as a file's content: an .npy of (documents, 2) uint64."""
    return array_to_bytes(np.frombuffer(hashes, dtype=np.uint64).reshape(-1, 2))


def array_to_bytes(array: npt.NDArray[np.generic]) -> bytes:
    """An array as the content of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def read_array(store: Store, name: str) -> npt.NDArray[np.generic]:
    """An array that `array_to_bytes` made a file of."""
    array: npt.NDArray[np.generic] = np.load(io.BytesIO(store.read(name)), allow_pickle=False)
    return array


def find_duplicates(hashes: list[Hashes]) -> list[npt.NDArray[np.int64]]:
    """For lists of hashes, (n, 2) each, the ascending indices of those that occurred before, in list order."""
    owner = np.repeat(np.arange(len(hashes)), [len(part) for part in hashes])
    index = np.concatenate([np.arange(len(part)) for part in hashes] or [np.empty(0, dtype=np.int64)])
    joined = np.concatenate([*hashes, np.empty((0, 2), dtype=np.uint64)])
    order = np.lexsort((joined[:, 1], joined[:, 0]))  # stable: equal hashes stay in list order
    joined = joined[order]
    repeated = order[1:][(joined[1:] == joined[:-1]).all(axis=1)]
    repeated.sort()
    cuts = np.searchsorted(owner[repeated], np.arange(len(hashes) + 1))
    return [index[repeated[first:last]] for first, last in pairwise(cuts)]


def write_duplicates(store: Store, units: list[Unit]) -> None:
    """Compare the hashes of all units, which must be there, and write the duplicates of each.

    Several machines may do this at once: they write the same.
    """
    ranked = sorted(
        (unit for unit in units if unit.copy == 0), key=lambda unit: (unit.field != "validation", unit.number)
    )
    documents = sum(store.size(hashes_file(unit.number)) or 0 for unit in ranked) // _HASH_BYTES
    passes = documents // _PARTITION + 1
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in ranked]
    for number in range(passes):
        held, places = [], []
        for unit in ranked:
            hashes = read_array(store, hashes_file(unit.number)).astype(np.uint64, copy=False)
            chosen = np.flatnonzero(hashes[:, 0] % np.uint64(passes) == number)
            held.append(hashes[chosen])
            places.append(chosen)
        for rank, repeated in enumerate(find_duplicates(held)):
            found[rank].append(places[rank][repeated])
    for unit, parts in zip(ranked, found, strict=True):
        store.write(duplicates_file(unit.number), array_to_bytes(np.sort(np.concatenate(parts))))


def unit_duplicates(corpus: CorpusConfig, unit: Unit, store: Store) -> npt.NDArray[np.int64]:
    """The numbers of a unit's duplicates, ascending; none where the corpus is not deduplicated."""
    if not corpus.deduplicate:
        return np.empty(0, dtype=np.int64)
    return read_array(store, duplicates_file(unit.original)).astype(np.int64)


def candidates(
    corpus: CorpusConfig, unit: Unit, clean: Clean, tally: Counter[str]
) -> Iterator[tuple[list[str], float]]:
    """The cleaned documents of a unit, and the share of it that has been read; what is left out is tallied."""
    source = corpus.sources(unit.field)[unit.source]
    before = 0
    for part in unit.slices:
        for values, share in source.read(part, corpus.malformed, tally):
            texts = []
            for value in values:
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
