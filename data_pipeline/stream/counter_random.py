"""Counter-based random numbers: splitmix64 as vectorised numpy.

The training order and the masks are pure functions of a few integers, forever. numpy's generators may change
their streams between versions; these dozen lines cannot. The constants are those of splitmix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", 2014), the generator behind Java's SplittableRandom.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Uint64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix64(values: Uint64Array) -> Uint64Array:
    """Splitmix64's finaliser, a bijection of 64-bit integers in which every input bit moves every output bit."""
    values = values ^ (values >> np.uint64(30))  # the only copy; the rest works in place, for memory is the cost
    values *= _MIX_1
    values ^= values >> np.uint64(27)
    values *= _MIX_2
    values ^= values >> np.uint64(31)
    return values


def hash_integers(*parts: int | npt.NDArray[Any]) -> Uint64Array:
    """Hash tuples of integers: the parts broadcast against each other, the result has at least one dimension.

    Negative numbers count as their two's complement.
    """
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        number = np.atleast_1d(np.asarray(part, dtype=np.int64)).view(np.uint64)
        state = mix64(state + _GOLDEN + number)
    return state


def hash_sequences(keys: Uint64Array, width: int) -> Uint64Array:
    """The first `width` outputs of one splitmix64 generator per key: (n,) -> (n, width)."""
    counters = np.arange(1, width + 1, dtype=np.uint64) * _GOLDEN
    return mix64(keys[:, None] + counters[None, :])


def hash_columns(keys: Uint64Array, columns: Int64Array) -> Uint64Array:
    """The entries of `hash_sequences` at the given columns only: (n,), (n, m) -> (n, m)."""
    counters = (columns + 1).astype(np.uint64) * _GOLDEN
    return mix64(keys[:, None] + counters)


def column_mask(width: int) -> np.uint64:
    """The low bits that hold a column number below `width`."""
    return np.uint64((1 << max(width - 1, 0).bit_length()) - 1)


def tagged_hashes(keys: Uint64Array, width: int) -> Uint64Array:
    """Like `hash_sequences`, with each entry's column number in its low bits (those of `column_mask(width)`).

    No two entries of a row are equal, so sorting or partitioning a row gives the same result with any algorithm,
    and a sorted row carries its permutation: no argsort, no question of stability.
    """
    low = column_mask(width)
    hashes = hash_sequences(keys, width)
    hashes &= ~low
    hashes |= np.arange(width, dtype=np.uint64)
    return hashes
