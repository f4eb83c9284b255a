"""The training order: a pure function from sample numbers to block ids.

A split of N blocks is N/C *cells* of C consecutive blocks (a cell is a row group; only the last may be short).
Epoch e visits the cells in a seeded permutation. The sequence of N blocks so obtained is cut into *lanes*
contiguous *pieces* of equal length (give or take one block), and inside a piece the blocks are shuffled in
*windows* of `window * C` consecutive blocks. Samples are dealt from the lanes in turn: sample G, counted over all
epochs, comes from lane G mod lanes. Rank r of w takes the samples G = r (mod w); when w divides the lanes it
therefore reads only its own lanes, and every such w sees the same global batches.

Nothing here is stored: the permutation of the cells is a Feistel network, so one block or a hundred billion cost
the same memory, and any sample of any epoch is found without visiting those before it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .counter_random import Int64Array, Uint64Array, column_mask, hash_integers, mix64, tagged_hashes

LANE_CHOICES = (960, 720, 480, 240, 120, 60, 48, 24, 12)
"""Default numbers of lanes, each with many divisors, so that many world sizes fit."""

_CELL_KEYS, _WINDOW_KEYS = 1, 2  # which purpose a hash serves, so that no two purposes share random numbers
_FEISTEL_ROUNDS = 8
_SHUFFLE_CHUNK = 1 << 20  # sort keys held at once while locating scattered samples: 8 MiB


def default_lanes(blocks: int, cell: int) -> int:
    """The largest choice with at least one cell per lane; 12 for small splits.

    Raises DataError when there are fewer blocks than lanes.
    """
    cells = -(-blocks // cell)
    lanes = next((choice for choice in LANE_CHOICES if choice <= cells), LANE_CHOICES[-1])
    _require_blocks(blocks, lanes)
    return lanes


def _require_blocks(blocks: int, lanes: int) -> None:
    if blocks < lanes:
        raise DataError(
            f"the training split has {blocks} blocks, fewer than its {lanes} lanes: "
            "prepare more text, a smaller seq_length, or set fewer lanes"
        )


class CellPermutation:
    """A seeded permutation of range(cells), computed entry by entry in either direction.

    A Feistel network permutes the next power of two (two halves, each xored in turn with a keyed hash of the
    other); a value that lands outside range(cells) is sent through again until it lands inside ("cycle walking",
    Black and Rogaway 2002). On average that takes fewer than two passes.
    """

    def __init__(self, cells: int, seed: int, epoch: int) -> None:
        self.cells = cells
        bits = (cells - 1).bit_length()
        self._low_bits = np.uint64(bits - bits // 2)
        self._low_mask = np.uint64((1 << (bits - bits // 2)) - 1)
        self._high_mask = np.uint64((1 << (bits // 2)) - 1)
        self._keys = hash_integers(_CELL_KEYS, seed, epoch, np.arange(_FEISTEL_ROUNDS))

    def forward(self, slots: Int64Array) -> Int64Array:
        """The cells visited at the given places of the epoch, shape kept."""
        return self._walk(slots, inverse=False)

    def inverse(self, cells: Int64Array) -> Int64Array:
        """The places of the epoch at which the given cells are visited, shape kept."""
        return self._walk(cells, inverse=True)

    def _walk(self, values: Int64Array, inverse: bool) -> Int64Array:
        result = self._network(values.astype(np.uint64), inverse)
        outside = np.flatnonzero(result >= self.cells)
        while outside.size:
            result[outside] = self._network(result[outside], inverse)
            outside = outside[result[outside] >= self.cells]
        return result.astype(np.int64)

    def _network(self, values: Uint64Array, inverse: bool) -> Uint64Array:
        high, low = values >> self._low_bits, values & self._low_mask
        # a round is its own inverse: running them backwards undoes the network
        for number in reversed(range(_FEISTEL_ROUNDS)) if inverse else range(_FEISTEL_ROUNDS):
            if number % 2:
                low = low ^ (mix64(high + self._keys[number]) & self._low_mask)
            else:
                high = high ^ (mix64(low + self._keys[number]) & self._high_mask)
        return (high << self._low_bits) | low


class Places(NamedTuple):
    """Where samples stand in the order, one int64 entry per sample in each array."""

    epoch: Int64Array
    lane: Int64Array
    piece: Int64Array
    """The part of the epoch's sequence that the lane reads; it moves on from epoch to epoch."""
    window: Int64Array
    """Number of the shuffle window inside the piece."""
    offset: Int64Array
    """Position in the shuffled window."""


@dataclass(frozen=True)
class Order:
    """The order of a split of `blocks` blocks; see the head of this file. All counts are in blocks or cells."""

    blocks: int
    lanes: int
    window: int
    """Shuffle window of a lane, in cells."""
    seed: int
    cell: int
    """Blocks per cell (the manifest's row_group_blocks)."""

    def __post_init__(self) -> None:
        for name in ("blocks", "lanes", "window", "cell"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, not {getattr(self, name)}")
        _require_blocks(self.blocks, self.lanes)

    @property
    def cells(self) -> int:
        """Cells of the split, the short last one included."""
        return -(-self.blocks // self.cell)

    @property
    def window_blocks(self) -> int:
        """Most blocks a shuffle window of a lane can hold."""
        return min(self.window * self.cell, -(-self.blocks // self.lanes))

    def places(self, samples: Int64Array) -> Places:
        """Epoch, lane, piece, window and offset of each sample: (n,) global sample numbers >= 0."""
        epoch, index = np.divmod(samples, self.blocks)
        position, piece = np.divmod(index, self.lanes)
        window, offset = np.divmod(position, self.window * self.cell)
        return Places(epoch, samples % self.lanes, piece, window, offset)

    def locate(self, samples: Int64Array) -> Int64Array:
        """Block ids of the given samples: (n,) global sample numbers >= 0 -> (n,) ids in range(blocks)."""
        samples = np.asarray(samples, dtype=np.int64)
        places = self.places(samples)
        result = np.empty_like(samples)
        for epoch in np.unique(places.epoch):
            chosen = np.flatnonzero(places.epoch == epoch)
            piece, window, offset = (column[chosen] for column in places[2:])
            windows_of_a_piece = -(-self.blocks // self.lanes)  # an upper bound is enough to number them
            _, first, which = np.unique(piece * windows_of_a_piece + window, return_index=True, return_inverse=True)
            shuffled = np.empty_like(offset)
            step = max(1, _SHUFFLE_CHUNK // self.window_blocks)
            for start in range(0, len(first), step):
                part = first[start : start + step]
                permutation = self._shuffles(int(epoch), piece[part], window[part])
                inside = np.flatnonzero((which >= start) & (which < start + step))
                shuffled[inside] = permutation[which[inside] - start, offset[inside]]
            virtual = self._window_start(piece, window) + shuffled
            result[chosen] = self._blocks_at(int(epoch), virtual)
        return result

    def window_ids(self, epoch: int, piece: int, window: int) -> Int64Array:
        """Block ids of one window of a piece, in the order in which the lane deals them."""
        pieces, windows = np.array([piece]), np.array([window])
        length = int(self._window_lengths(pieces, windows)[0])
        permutation = self._shuffles(epoch, pieces, windows)[0, :length]
        return self._blocks_at(epoch, self._window_start(pieces, windows) + permutation)

    def _window_start(self, piece: Int64Array, window: Int64Array) -> Int64Array:
        """First place of a window in the epoch's sequence."""
        share, rest = divmod(self.blocks, self.lanes)
        return piece * share + np.minimum(piece, rest) + window * (self.window * self.cell)

    def _window_lengths(self, piece: Int64Array, window: Int64Array) -> Int64Array:
        share, rest = divmod(self.blocks, self.lanes)
        longest = self.window * self.cell
        return np.minimum(share + (piece < rest) - window * longest, longest)

    def _shuffles(self, epoch: int, piece: Int64Array, window: Int64Array) -> Int64Array:
        """A permutation per window: (n,), (n,) -> (n, window_blocks), entries past a window's length unused."""
        width = self.window_blocks
        hashes = tagged_hashes(hash_integers(_WINDOW_KEYS, self.seed, epoch, piece, window), width)
        low = column_mask(width)
        # columns a short window does not have sort last
        hashes[np.arange(width) >= self._window_lengths(piece, window)[:, None]] |= ~low
        hashes.sort(axis=1)
        return (hashes & low).astype(np.int64)

    def _blocks_at(self, epoch: int, virtual: Int64Array) -> Int64Array:
        """Block ids at places of the epoch's sequence of cells (before the windows are shuffled)."""
        permutation, short_slot = _cell_permutation(self.cells, self.seed, epoch)
        missing = self.cells * self.cell - self.blocks  # what the short cell lacks
        # behind the short cell everything stands `missing` places earlier than it would
        behind = virtual >= (short_slot + 1) * self.cell - missing
        slot, inside = np.divmod(virtual + missing * behind, self.cell)
        slots, which = np.unique(slot, return_inverse=True)
        return permutation.forward(slots)[which] * self.cell + inside


@lru_cache(maxsize=16)
def _cell_permutation(cells: int, seed: int, epoch: int) -> tuple[CellPermutation, int]:
    """An epoch's permutation, and the slot at which it visits the last cell, the only short one."""
    permutation = CellPermutation(cells, seed, epoch)
    return permutation, int(permutation.inverse(np.array([cells - 1]))[0])
