"""Exact-duplicate removal: which documents of which unit are copies of earlier ones.

The corpus is read once to hash every document (16 bytes of BLAKE2b, so that two different texts of a corpus of 10^12
documents are mistaken for each other with probability 10^-15). The hashes are then sorted in partitions of at most
_PARTITION documents: memory is bounded by one partition, about 1 GB, plus 8 bytes per duplicate found. The first
occurrence counts as the original: validation sources before training sources, then the order of the units.
"""

import io
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..folder import WORK_FOLDER
from .sources import CorpusConfig
from .store import Store
from .units import Unit, candidates, content_hash

_PARTITION = 1 << 24  # documents whose hashes are held at once
_HASH_BYTES = 16
Hashes = npt.NDArray[np.uint64]


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
