import gc
import json
import threading
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import (
    BlockReader,
    DataError,
    Manifest,
    MaskedBatch,
    MaskingConfig,
    StreamConfig,
    TokenStream,
    mask_blocks,
    validation_batches,
    world_problems,
)

SIZES = {(60, 8): (1, 2, 3, 12, 24), (97, 8): (12, 24), (200, 16): (6, 12, 48)}
"""(blocks, cell) of the prepared folders -> lanes to try."""


@pytest.fixture(scope="module")
def folders(make_prepared):
    return {(blocks, cell): make_prepared(blocks, cell=cell) for blocks, cell in SIZES}


@st.composite
def settings_of_streams(draw) -> tuple[tuple[int, int], StreamConfig]:
    size = draw(st.sampled_from(sorted(SIZES)))
    lanes = draw(st.sampled_from(SIZES[size]))
    return size, StreamConfig(lanes=lanes, window=draw(st.integers(1, 4)), seed=draw(st.integers(0, 99)))


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _take(stream: TokenStream, start: int, size: int, count: int) -> MaskedBatch:
    """The first `count` samples from `start` on, as one batch."""
    batches = stream.micro_batches(start, size)
    taken = list(islice(batches, -(-count // size)))
    batches.close()
    return MaskedBatch(**{name: torch.cat([vars(batch)[name] for batch in taken])[:count] for name in vars(taken[0])})


def _same(left: MaskedBatch, right: MaskedBatch) -> bool:
    return all(torch.equal(tensor, vars(right)[name]) for name, tensor in vars(left).items())


@settings(max_examples=25)
@given(settings_of_streams(), st.data())
def test_samples_are_the_located_blocks_masked_whatever_the_world(folders, chosen, data):
    """Every sample of two epochs, on every rank, is what the pure functions say: so all worlds agree."""
    size, config = chosen
    world = data.draw(st.sampled_from(_divisors(config.lanes)))
    start = world * data.draw(st.integers(0, 3 * size[0] // world))
    micro_batch = data.draw(st.integers(1, 40))
    count = size[0] // world + 1
    reader = BlockReader(folders[size], "train")
    seen = []
    for rank in range(world):
        stream = TokenStream(folders[size], config, MaskingConfig(), rank, world)
        batch = _take(stream, start, micro_batch, count)
        samples = start + rank + world * np.arange(count)
        tokens = reader.read(stream.order.locate(samples))
        vocabulary = stream.manifest.tokenizer
        assert _same(batch, mask_blocks(tokens, samples, config.seed, MaskingConfig(), vocabulary))
        seen.append(batch.samples)
    everything = torch.cat(seen)
    assert sorted(everything.tolist()) == list(range(start, start + world * count)), "ranks share the samples"


@settings(max_examples=25)
@given(settings_of_streams(), st.data())
def test_interrupted_streams_go_on_exactly_also_with_another_world_size(folders, chosen, data):
    size, config = chosen
    first = data.draw(st.sampled_from(_divisors(config.lanes)))
    second = data.draw(st.sampled_from(_divisors(config.lanes)))
    steps = data.draw(st.integers(1, 12))
    global_batch = config.lanes
    whole = TokenStream(folders[size], config, MaskingConfig())
    expected = _take(whole, 0, global_batch, 2 * steps * global_batch)
    for world, begin in ((first, 0), (second, steps * global_batch)):
        for rank in range(world):
            stream = TokenStream(folders[size], config, MaskingConfig(), rank, world)
            part = _take(stream, begin, global_batch // world, steps * global_batch // world)
            rows = slice(begin + rank, begin + steps * global_batch, world)
            assert _same(part, MaskedBatch(**{name: tensor[rows] for name, tensor in vars(expected).items()}))


def test_an_epoch_gives_every_block_once_and_masks_anew_in_the_next(folders):
    stream = TokenStream(folders[60, 8], StreamConfig(lanes=12), MaskingConfig())
    batch = _take(stream, 0, 30, 120)
    restored = batch.input_ids.scatter(1, batch.masked_positions, batch.labels.where(batch.labels >= 0, 3))
    first, second = ({tuple(row) for row in part.tolist()} for part in (restored[:60], restored[60:]))
    blocks = {tuple(row) for row in BlockReader(folders[60, 8], "train").read(np.arange(60)).tolist()}
    assert first == second == blocks
    assert not torch.equal(batch.masked_positions[:60], batch.masked_positions[60:])


def test_default_lanes_are_used_and_identity_is_plain_json(folders):
    stream = TokenStream(folders[200, 16], StreamConfig(), MaskingConfig())
    assert (stream.lanes, stream.blocks, stream.seq_length) == (12, 200, 16)
    identity = stream.identity()
    assert json.loads(json.dumps(identity)) == identity
    ranked = TokenStream(folders[200, 16], StreamConfig(prefetch=1), MaskingConfig(), 1, 4)
    assert ranked.identity() == identity
    for folder, config, masking in (
        (folders[60, 8], StreamConfig(lanes=12), MaskingConfig()),
        (folders[200, 16], StreamConfig(seed=1), MaskingConfig()),
        (folders[200, 16], StreamConfig(), MaskingConfig(probability=0.2)),
    ):
        assert TokenStream(folder, config, masking).identity() != identity


def test_worlds_that_do_not_divide_lanes_or_batch_are_told_what_does():
    assert world_problems(12, 4, 64) == []
    lanes, batch = map(str, world_problems(60, 7, 64))
    assert "7 ranks do not divide the 60 lanes: use 6 or 10 ranks" in lanes
    assert "set it to 63 or 70" in batch
    assert "use 12 ranks," in str(world_problems(12, 13, 13)[0])


def test_streams_that_cannot_be_are_refused(folders):
    folder = folders[60, 8]
    with pytest.raises(DataError, match="5 ranks do not divide the 12 lanes"):
        TokenStream(folder, StreamConfig(lanes=12), MaskingConfig(), 0, 5)
    with pytest.raises(DataError, match="60 blocks, fewer than its 61 lanes"):
        TokenStream(folder, StreamConfig(lanes=61), MaskingConfig())
    with pytest.raises(DataError) as caught:
        TokenStream(folder, StreamConfig(window=0, prefetch=0, seed=-1, lanes=-1), MaskingConfig(probability=0))
    for name in ("stream.window", "stream.prefetch", "stream.seed", "stream.lanes", "masking.probability"):
        assert name in str(caught.value)
    stream = TokenStream(folder, StreamConfig(lanes=12), MaskingConfig(), 0, 4)
    with pytest.raises(ValueError, match="start_sample=6"):
        stream.micro_batches(6, 2)


def test_a_damaged_shard_stops_the_consumer_with_its_name(make_prepared):
    folder = make_prepared(100)
    file = folder / "train" / "shard-00003.parquet"
    size = file.stat().st_size
    file.write_bytes(b"PAR1" + b"\0" * (size - 4))
    batches = TokenStream(folder, StreamConfig(), MaskingConfig()).micro_batches(0, 4)
    with pytest.raises(DataError, match=r"shard-00003\.parquet has other content"):
        list(islice(batches, 30))
    file.unlink()
    with pytest.raises(DataError, match=r"shard-00003\.parquet is missing"):
        TokenStream(folder, StreamConfig(), MaskingConfig()).micro_batches(0, 4)


def test_a_dropped_iterator_leaves_no_thread_behind(folders):
    batches = TokenStream(folders[60, 8], StreamConfig(), MaskingConfig()).micro_batches(0, 4)
    next(batches)
    del batches
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread.name == "prefetch"] == []


@settings(max_examples=30)
@given(world=st.integers(1, 7), batch_size=st.integers(1, 9), max_blocks=st.integers(1, 30))
def test_validation_shows_each_block_once_with_the_same_masks_on_equally_long_ranks(
    folders, world, batch_size, max_blocks
):
    def ranks(world: int, batch_size: int) -> list[list[MaskedBatch]]:
        folder = folders[60, 8]
        return [
            list(validation_batches(folder, MaskingConfig(), batch_size, max_blocks, rank, world))
            for rank in range(world)
        ]

    def rows(found: list[list[MaskedBatch]]) -> dict[int, list[list[int]]]:
        return {
            int(batch.samples[row]): [tensor[row].tolist() for tensor in vars(batch).values()]
            for batches in found
            for batch in batches
            for row in range(len(batch.samples))
            if batch.samples[row] >= 0
        }

    found = ranks(world, batch_size)
    assert len({len(batches) for batches in found}) == 1
    samples = torch.cat([batch.samples for batches in found for batch in batches])
    assert sorted(samples[samples >= 0].tolist()) == list(range(min(max_blocks, 20)))
    assert rows(found) == rows(ranks(1, 20))
    for batch in (batch for batches in found for batch in batches):
        assert len(batch.input_ids) == batch_size
        assert (batch.labels[batch.samples < 0] == -100).all()
        assert (batch.labels[batch.samples >= 0] != -100).any(dim=1).all()


def test_a_number_of_targets_is_known_only_where_the_manifest_proves_it(make_prepared):
    folder = make_prepared(60)
    stream = TokenStream(folder, StreamConfig(), MaskingConfig())
    batches = stream.micro_batches(0, 12)
    for batch in islice(batches, 10):
        assert (batch.labels != -100).sum(axis=1).tolist() == [stream.targets_per_block] * 12
    batches.close()
    manifest = Manifest.load(folder)
    train = manifest.splits["train"]
    assert TokenStream(folder, StreamConfig(), MaskingConfig(probability=0.99)).targets_per_block == 14
    for change in ({"fewest_ordinary": None}, {"fewest_ordinary": 13}):
        manifest.splits["train"] = replace(train, **change)
        manifest.save(folder)
        assert TokenStream(folder, StreamConfig(), MaskingConfig(probability=0.99)).targets_per_block is None
    manifest.splits["train"] = train
    replace(manifest, packing="documents").save(folder)
    assert TokenStream(folder, StreamConfig(), MaskingConfig()).targets_per_block is None
