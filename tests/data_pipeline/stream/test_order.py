import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError, Order, default_lanes
from data_pipeline.stream.order import CellPermutation


@st.composite
def orders(draw) -> Order:
    lanes = draw(st.sampled_from([1, 2, 3, 5, 12, 24]))
    return Order(
        blocks=draw(st.integers(lanes, 700)),
        lanes=lanes,
        window=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 2**40)),
        cell=draw(st.integers(1, 40)),
    )


@given(orders())
def test_every_block_occurs_once_per_epoch(order: Order):
    located = order.locate(np.arange(3 * order.blocks)).reshape(3, order.blocks)
    assert (np.sort(located, axis=1) == np.arange(order.blocks)).all()


@given(orders(), st.integers(0, 3))
def test_order_is_cells_permuted_cut_into_pieces_and_shuffled_in_windows(order: Order, epoch: int):
    """Against lists: the cells laid end to end, cut, and compared window by window as sets."""
    cells = [range(start, min(start + order.cell, order.blocks)) for start in range(0, order.blocks, order.cell)]
    visits = CellPermutation(len(cells), order.seed, epoch).forward(np.arange(len(cells)))
    sequence = [block for cell in visits for block in cells[cell]]
    located = order.locate(epoch * order.blocks + np.arange(order.blocks))
    first = 0
    for piece in range(order.lanes):
        dealt = located[piece :: order.lanes].tolist()
        undealt = sequence[first : first + len(dealt)]
        first += len(dealt)
        step = order.window * order.cell
        for number, start in enumerate(range(0, len(dealt), step)):
            assert sorted(dealt[start : start + step]) == sorted(undealt[start : start + step])
            assert order.window_ids(epoch, piece, number).tolist() == dealt[start : start + step]
    assert first == order.blocks


@given(orders(), st.data())
def test_scattered_samples_are_found_like_consecutive_ones(order: Order, data):
    samples = np.array(data.draw(st.lists(st.integers(0, 4 * order.blocks - 1), max_size=60)), dtype=np.int64)
    assert (order.locate(samples) == order.locate(np.arange(4 * order.blocks))[samples]).all()


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 5))
def test_cell_permutation_is_a_bijection_and_inverts(cells: int, seed: int, epoch: int):
    permutation = CellPermutation(cells, seed, epoch)
    image = permutation.forward(np.arange(cells))
    assert sorted(image.tolist()) == list(range(cells))
    assert (permutation.inverse(image) == np.arange(cells)).all()


def test_small_cell_permutations_are_all_about_equally_likely():
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(2400):
        image = tuple(CellPermutation(3, seed, 0).forward(np.arange(3)).tolist())
        counts[image] = counts.get(image, 0) + 1
    assert len(counts) == 6
    assert all(300 < count < 500 for count in counts.values())


def test_seeds_and_epochs_give_different_orders():
    order = Order(5000, 12, 4, 0, 64)
    other = Order(5000, 12, 4, 1, 64)
    samples = np.arange(5000)
    first, second = order.locate(np.arange(10000)).reshape(2, -1)
    assert (first == second).mean() < 0.01
    assert (first == other.locate(samples)).mean() < 0.01


def test_order_of_a_released_version_never_changes():
    """A checkpoint holds a sample number only, so these numbers are a file format."""
    order = Order(blocks=1000, lanes=12, window=2, seed=7, cell=16)
    assert order.locate(np.array([0, 1, 2, 11, 12, 999, 1000, 123456789])).tolist() == GOLDEN


GOLDEN = [573, 52, 679, 292, 33, 871, 115, 855]


def test_ten_trillion_tokens_are_ordered_in_milliseconds():
    order = Order(blocks=80_000_000_123, lanes=960, window=4, seed=3, cell=512)
    samples = np.random.default_rng(0).integers(0, 5 * order.blocks, 1000)
    start = time.thread_time()  # of the processor, not of a clock that goes on while others have it
    located = order.locate(samples)
    assert time.thread_time() - start < 2
    assert located.min() >= 0
    assert located.max() < order.blocks
    assert len(np.unique(located)) == 1000
    places = order.places(samples)
    for index in range(20):
        epoch, _, piece, window, offset = (int(column[index]) for column in places)
        assert order.window_ids(epoch, piece, window)[offset] == located[index]


@pytest.mark.parametrize(("blocks", "lanes"), [(960 * 512, 960), (960 * 512 - 512, 720), (100 * 512, 60), (12, 12)])
def test_default_lanes_have_a_cell_each_where_possible(blocks: int, lanes: int):
    assert default_lanes(blocks, 512) == lanes


def test_fewer_blocks_than_lanes_is_an_error_with_the_mend():
    with pytest.raises(DataError, match=r"11 blocks, fewer than its 12 lanes.*fewer lanes"):
        default_lanes(11, 512)
    with pytest.raises(DataError, match="fewer lanes"):
        Order(5, 6, 1, 0, 1)
