"""The blocks of a rank's lanes, in memory shortly before they are needed.

A rank shuffles inside one window per lane, so it holds about one window of each of its lanes. All lanes come to the
end of their windows at about the same sample; reading them all there would stop the training for as long as that
takes. So the lanes share one pool of rows: every block given out frees its row, and whenever a window's worth of
rows is free, the window that is needed next is read into them. Reading is spread evenly over the samples, and the
memory stays at one window per lane, plus two.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..shards import TokenArray
from .blocks import BlockReader
from .counter_random import Int64Array
from .order import Order

_SPARE_WINDOWS = 2  # room to read ahead into
_ANNOUNCED_WINDOWS = 16  # how far ahead the reader hears what will be needed


class PlannedWindow(NamedTuple):
    """A window of a lane, or what is left of it where the stream begins."""

    row: int
    """Which of the rank's lanes."""
    first: int
    """Its first sample."""
    end: int
    """The lane's first sample behind the window."""
    offset: int
    """Place of `first` in the window."""
    ids: Int64Array
    """Block ids from `offset` on, in the order in which the lane deals them."""


def plan_windows(order: Order, start: int, rank: int, world_size: int) -> Iterator[PlannedWindow]:
    """The windows a rank needs from sample `start` on, without end, in the order of their first samples."""
    count = order.lanes // world_size
    # any `count` consecutive samples of a rank come from all its lanes
    heap = [start + rank + world_size * step for step in range(count)]
    heapq.heapify(heap)
    while True:
        first = heap[0]
        places = order.places(np.array([first]))
        epoch, lane, piece, window, offset = (int(column[0]) for column in places)
        ids = order.window_ids(epoch, piece, window)[offset:]
        end = first + len(ids) * order.lanes
        heapq.heapreplace(heap, end)
        yield PlannedWindow(lane // world_size, first, end, offset, ids)


class RankLanes:
    """Deals a rank's blocks in order; see the head of this file."""

    def __init__(self, reader: BlockReader, order: Order, start: int, rank: int, world_size: int) -> None:
        self._reader, self._order, self._world_size = reader, order, world_size
        count, width = order.lanes // world_size, order.window_blocks
        capacity = (count + _SPARE_WINDOWS) * width
        self._pool: TokenArray = np.empty((capacity, reader.manifest.seq_length), dtype=reader.manifest.dtype)
        self._free = np.arange(capacity, dtype=np.int64)  # a stack of free rows: the first `_free_count` entries
        self._free_count = capacity
        self._rows = np.zeros((count, width), dtype=np.int64)  # lane and offset -> row of the pool
        self._end = np.full(count, -1, dtype=np.int64)  # each lane's first sample behind its current window
        self._ahead: dict[int, tuple[PlannedWindow, Int64Array]] = {}  # per lane, the window read ahead
        self._plan = plan_windows(order, start, rank, world_size)
        self._announced: deque[PlannedWindow] = deque()

    def tokens(self, samples: Int64Array) -> TokenArray:
        """The rank's next blocks: (n,) consecutive samples of this rank -> (n, seq_length)."""
        places = self._order.places(samples)
        lanes = places.lane // self._world_size  # a rank's lanes are r, r + w, r + 2w, ...
        result = np.empty((len(samples), self._pool.shape[1]), dtype=self._pool.dtype)
        done = 0
        while done < len(samples):
            over = np.flatnonzero(samples[done:] >= self._end[lanes[done:]])
            stop = done + int(over[0]) if len(over) else len(samples)
            rows = self._rows[lanes[done:stop], places.offset[done:stop]]
            np.take(self._pool, rows, axis=0, out=result[done:stop])
            self._release(rows)
            if stop < len(samples):
                self._turn(int(lanes[stop]))
            done = stop
        self._read_ahead(len(samples))
        return result

    def _release(self, rows: Int64Array) -> None:
        self._free[self._free_count : self._free_count + len(rows)] = rows
        self._free_count += len(rows)

    def _turn(self, lane: int) -> None:
        """Make a lane's next window its current one."""
        while lane not in self._ahead:
            self._read_next()
        window, rows = self._ahead.pop(lane)
        self._rows[lane, window.offset : window.offset + len(rows)] = rows
        self._end[lane] = window.end

    def _read_ahead(self, samples: int) -> None:
        """Read coming windows into free rows, at most twice as fast as `samples` use them up."""
        for _ in range(1 + 2 * samples // self._order.window_blocks):
            window = self._next_window()
            if window.row in self._ahead or len(window.ids) > self._free_count:
                return
            self._read_next()

    def _read_next(self) -> None:
        window = self._next_window()
        self._announced.popleft()
        self._free_count -= len(window.ids)
        rows = self._free[self._free_count : self._free_count + len(window.ids)].copy()
        self._reader.read_into(window.ids, self._pool, rows)
        self._ahead[window.row] = (window, rows)

    def _next_window(self) -> PlannedWindow:
        """The first window not read yet; those behind it are announced to the reader."""
        while len(self._announced) < _ANNOUNCED_WINDOWS:
            window = next(self._plan)
            self._reader.announce(window.ids)
            self._announced.append(window)
        return self._announced[0]
