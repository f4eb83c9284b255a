from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import Order
from data_pipeline.stream.lanes import RankLanes, plan_windows


class Blocks:
    """Stands in for a reader: the tokens of a block are its id. Notes how many blocks each call reads."""

    class manifest:
        seq_length, dtype = 2, "uint32"

    def __init__(self) -> None:
        self.read: list[int] = []
        self.announced: list[int] = []

    def announce(self, ids):
        self.announced += ids.tolist()

    def read_into(self, ids, target, rows):
        assert set(ids.tolist()) <= set(self.announced)
        self.read.append(len(ids))
        target[rows] = ids[:, None]


@st.composite
def worlds(draw):
    lanes = draw(st.sampled_from([1, 2, 6, 12]))
    order = Order(
        blocks=draw(st.integers(lanes, 400)),
        lanes=lanes,
        window=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**40)),
        cell=draw(st.integers(1, 30)),
    )
    world_size = draw(st.sampled_from([count for count in range(1, lanes + 1) if lanes % count == 0]))
    start = world_size * draw(st.integers(0, 3 * order.blocks // world_size))
    return order, world_size, start


@given(worlds(), st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_lanes_give_the_located_blocks_in_calls_of_any_size(world, sizes):
    order, world_size, start = world
    for rank in range(world_size):
        lanes = RankLanes(Blocks(), order, start, rank, world_size)
        sample = start + rank
        for size in sizes:
            samples = sample + world_size * np.arange(size)
            assert (lanes.tokens(samples)[:, 0] == order.locate(samples)).all()
            sample += size * world_size


@settings(max_examples=30)
@given(worlds())
def test_windows_are_planned_in_the_order_of_need_and_ranks_never_share_a_block(world):
    order, world_size, start = world
    epoch_end = (start // order.blocks + 1) * order.blocks
    seen: list[int] = []
    for rank in range(world_size):
        planned = list(islice(plan_windows(order, start, rank, world_size), 50))
        firsts = [window.first for window in planned]
        assert firsts == sorted(firsts)
        for window in planned:
            samples = np.arange(window.first, window.end, order.lanes)
            assert (order.locate(samples) == window.ids).all()
        seen += [
            int(block)
            for window in planned
            for sample, block in zip(range(window.first, window.end, order.lanes), window.ids, strict=True)
            if sample < epoch_end
        ]
    assert len(seen) == len(set(seen))


def test_reading_is_spread_over_the_samples():
    """All lanes end their windows together, yet no call reads more than a few windows."""
    order = Order(blocks=60 * 4 * 64, lanes=60, window=2, seed=0, cell=16)
    reader = Blocks()
    lanes = RankLanes(reader, order, 0, 0, 1)
    for call in range(480):  # four windows of every lane
        before = len(reader.read)
        lanes.tokens(32 * call + np.arange(32))
        if call >= 2:  # the first two touch all lanes for the first time
            assert len(reader.read) - before <= 3
    assert sum(reader.read) <= 60 * 4 * 64 + 62 * 32


@pytest.mark.parametrize("start", [0, 3000])
def test_memory_stays_at_a_window_per_lane_and_two(start):
    order = Order(blocks=20000, lanes=12, window=2, seed=0, cell=64)
    lanes = RankLanes(Blocks(), order, start, 0, 1)
    assert lanes._pool.shape == (14 * 128, 2)
    for call in range(500):
        lanes.tokens(start + 50 * call + np.arange(50))
    assert lanes._pool.shape == (14 * 128, 2)
    assert 0 <= lanes._free_count <= 14 * 128
