"""Prepared folders behind URLs: whatever the network does, the stream is the one of the local folder."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline import (
    DataError,
    Manifest,
    MaskedBatch,
    MaskingConfig,
    RemoteConfig,
    StreamConfig,
    TokenStream,
    validation_batches,
)
from data_pipeline.stream.cache import ShardCache
from data_pipeline.stream.remote import RemoteFolder
from tests.data_pipeline.flaky_server import flaky_server
from tests.processes import start


@pytest.fixture(scope="module")
def folder(make_prepared) -> Path:
    return make_prepared(200, cell=4, shard_row_groups=2)  # 25 shards


def _remote(tmp_path: Path, **settings) -> RemoteConfig:
    return RemoteConfig(**{"cache": str(tmp_path / "cache"), "backoff": 0.01, "retries": 12} | settings)


def _take(location, config: StreamConfig, start: int = 0, count: int = 400) -> MaskedBatch:
    """`count` samples from `start` on, as one batch."""
    batches = TokenStream(location, config, MaskingConfig()).micro_batches(start, 8)
    taken = list(islice(batches, -(-count // 8)))
    batches.close()
    return MaskedBatch(**{name: torch.cat([vars(batch)[name] for batch in taken]) for name in vars(taken[0])})


def _same(left: MaskedBatch, right: MaskedBatch) -> bool:
    return all(torch.equal(tensor, vars(right)[name]) for name, tensor in vars(left).items())


def _files_are_whole(cache: Path) -> bool:
    shards = list((cache / "shards").iterdir())
    return all(hashlib.sha256(shard.read_bytes()).hexdigest() == shard.name for shard in shards) and not list(
        (cache / "partial").iterdir()
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_drops_truncates_and_refuses_loses_and_doubles_nothing(folder, tmp_path, seed):
    with flaky_server(folder, trouble=0.15, seed=seed) as server:
        config = StreamConfig(seed=seed, remote=_remote(tmp_path))
        assert _same(_take(server.url, config), _take(folder, config)), "two epochs"
        assert set(server.troubles) == {"503", "dropped", "truncated"}
        assert _files_are_whole(tmp_path / "cache")
        shards = {shard.file for shard in Manifest.load(folder).split("train").shards}
        assert {server.served[file] for file in shards} == {1}, "every shard is fetched once"
        expected = list(validation_batches(folder, MaskingConfig(), 6, 20))
        found = list(validation_batches(server.url, MaskingConfig(), 6, 20, remote=config.remote))
        assert all(_same(left, right) for left, right in zip(found, expected, strict=True))


def test_resuming_from_a_flaky_server_continues_exactly(folder, tmp_path):
    with flaky_server(folder, trouble=0.1) as server:
        config = StreamConfig(remote=_remote(tmp_path))
        whole = _take(folder, config, 0, 480)
        for start in (0, 96, 192, 384):
            part = _take(server.url, config, start, 96)
            assert _same(part, MaskedBatch(**{name: rows[start : start + 96] for name, rows in vars(whole).items()}))


def test_a_cache_far_smaller_than_the_corpus_keeps_its_bound_and_the_stream(folder, tmp_path):
    size = max(shard.bytes for shard in Manifest.load(folder).split("train").shards)
    remote = _remote(tmp_path, cache_gb=5 * size / 1e9, connections=2)
    with flaky_server(folder, trouble=0.05) as server:
        config = StreamConfig(lanes=12, window=2, remote=remote)
        assert _same(_take(server.url, config), _take(folder, config))
        assert sum(server.served.values()) > 25, "shards were evicted and fetched again"
    stored = list((tmp_path / "cache" / "shards").iterdir())
    assert sum(file.stat().st_size for file in stored) <= 5 * size
    assert _files_are_whole(tmp_path / "cache")


def _write_rank(url: str, rank: int, caches: list[RemoteConfig], output: Path) -> int:
    """What one of three ranks reads by way of each of the caches: a mapping from samples to tokens for each."""
    found = []
    for remote in caches:
        batches = TokenStream(url, StreamConfig(lanes=12, remote=remote), MaskingConfig(), rank, 3).micro_batches(0, 4)
        samples = {}
        for batch in islice(batches, 34):
            samples.update(zip(batch.samples.tolist(), batch.input_ids.tolist(), strict=True))
        batches.close()
        found.append(samples)
    output.write_text(json.dumps(found))
    return 0


def test_processes_share_a_cache_large_or_small(folder, tmp_path):
    """Three ranks as processes, over a flaky network: together they see the local stream, and share what they fetch."""
    shards = Manifest.load(folder).split("train").shards
    large, small, size = tmp_path / "large", tmp_path / "small", max(shard.bytes for shard in shards)
    caches = [_remote(tmp_path, cache=str(large)), _remote(tmp_path, cache=str(small), cache_gb=4 * size / 1e9)]
    files = [tmp_path / f"{rank}.json" for rank in range(3)]
    with flaky_server(folder, trouble=0.05) as server:
        ranks = [start(_write_rank, server.url, rank, caches, file) for rank, file in enumerate(files)]
        for rank in ranks:
            _, errors = rank.communicate()
            assert rank.wait() == 0, errors
        fetched = server.served.total()
    outputs = [json.loads(file.read_text()) for file in files]
    expected = _take(folder, StreamConfig(lanes=12), 0, 408).input_ids.tolist()
    for number in range(2):
        together = {int(sample): tokens for output in outputs for sample, tokens in output[number].items()}
        assert len(together) == sum(len(output[number]) for output in outputs) == 408, "ranks share no sample"
        assert [together[sample] for sample in range(408)] == expected
    assert len(list((large / "shards").iterdir())) == len(shards)
    assert fetched > 2 * len(shards), "the small cache had to fetch again"
    assert sum(file.stat().st_size for file in (small / "shards").iterdir()) <= 4 * size
    assert _files_are_whole(large)
    assert _files_are_whole(small)


def test_threads_and_processes_fetch_a_shard_once(tmp_path):
    """Locks are between open files, so threads with caches of their own stand for processes."""
    content, fetched = b"content", []
    sha256 = hashlib.sha256(content).hexdigest()

    def fetch() -> bytes:
        fetched.append(1)
        return content

    def use(_: int) -> bytes:
        with ShardCache(tmp_path, 1000).open(sha256, "shard", fetch) as file:
            return file.read()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(use, range(64))) == {content}
    assert len(fetched) == 1


def test_what_a_killed_process_left_behind_does_no_harm(tmp_path):
    content = b"content"
    sha256 = hashlib.sha256(content).hexdigest()
    cache = ShardCache(tmp_path, 20)
    (tmp_path / "partial" / sha256).write_bytes(b"cont")
    (tmp_path / "size").write_text("")
    assert sha256 not in cache
    with cache.open(sha256, "shard", lambda: content) as file:
        assert file.read() == content
    assert (tmp_path / "size").read_text() == "7"
    assert not list((tmp_path / "partial").iterdir())


def test_the_least_recently_used_shard_goes_first(tmp_path):
    contents = {hashlib.sha256(text).hexdigest(): text for text in (b"1" * 8, b"2" * 8, b"3" * 8)}
    first, second, third = contents
    cache = ShardCache(tmp_path, 20)
    for age, sha256 in ((10, first), (20, second)):
        cache.ensure(sha256, "shard", partial(contents.get, sha256))
        os.utime(tmp_path / "shards" / sha256, (age, age))
    cache.open(first, "shard", partial(contents.get, first)).close()
    cache.ensure(third, "shard", partial(contents.get, third))
    assert (first in cache, second in cache, third in cache) == (True, False, True)
    assert cache.fetched == 3


def test_a_server_without_answer_is_a_clear_error_within_the_time_out(folder, tmp_path):
    with flaky_server(folder) as server:
        server.stalled.clear()
        remote = _remote(tmp_path, timeout=0.1, retries=2)
        with pytest.raises(DataError, match=r"manifest\.json could not .* in 3 attempts .*no answer within 0\.1 s"):
            TokenStream(server.url, StreamConfig(remote=remote), MaskingConfig())


def test_a_server_that_is_gone_is_a_clear_error_that_names_the_shard(folder, tmp_path):
    config = StreamConfig(remote=_remote(tmp_path, retries=2), damaged="skip")
    with flaky_server(folder) as server:
        stream = TokenStream(server.url, config, MaskingConfig())
    with pytest.raises(DataError, match=r"shard-\d+\.parquet could not .* in 3 attempts.*stream\.remote\.retries"):
        next(stream.micro_batches(0, 8))


def test_what_is_missing_damaged_or_forbidden_is_told_apart(folder, tmp_path):
    damaged = shutil.copytree(folder, tmp_path / "served")
    shards = Manifest.load(folder).split("train").shards
    (damaged / shards[3].file).unlink()
    content = bytearray((damaged / shards[7].file).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / shards[7].file).write_bytes(content)
    with flaky_server(damaged) as server:
        remote = _remote(tmp_path)
        with pytest.raises(DataError, match="not a prepared folder"):
            TokenStream(server.url + "/nowhere", StreamConfig(remote=remote), MaskingConfig())
        with pytest.raises(DataError, match=r"shard-0000[37]\.parquet (is missing|has other content)"):
            _take(server.url, StreamConfig(remote=remote))
        stream = TokenStream(server.url, StreamConfig(remote=remote, damaged="skip"), MaskingConfig())
        batches = stream.micro_batches(0, 8)
        seen = torch.cat([batch.input_ids for batch in islice(batches, 25)])
        batches.close()
    assert seen.shape == (200, 16)
    assert 16 <= stream.replaced_blocks <= 16 + 2 * 34, "two shards of eight; a little of the next epoch is read ahead"
    with pytest.raises(DataError, match="nosuchprotocol"):
        TokenStream("nosuchprotocol://bucket/x", StreamConfig(remote=remote), MaskingConfig())


def test_files_larger_than_a_request_come_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipeline.stream.remote._CHUNK", 1000)
    content = np.random.default_rng(0).bytes(12345)
    (tmp_path / "big").write_bytes(content)
    assert RemoteFolder(f"file://{tmp_path}", _remote(tmp_path)).read("big", len(content)) == content
    with flaky_server(tmp_path, trouble=0.1) as server:  # this one knows no ranges
        assert RemoteFolder(server.url, _remote(tmp_path)).read("big", len(content)) == content


def test_bad_settings_are_named(folder):
    bad = RemoteConfig(cache="", cache_gb=0, connections=0, retries=-1, backoff=0, timeout=0)
    with pytest.raises(DataError) as caught:
        TokenStream(folder, StreamConfig(remote=bad), MaskingConfig())
    for name in ("cache", "cache_gb", "connections", "retries", "backoff", "timeout"):
        assert f"stream.remote.{name}" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    remote = _remote(tmp_path, cache=str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"stream\.remote\.cache=.*cannot be written"):
        TokenStream(f"file://{folder}", StreamConfig(remote=remote), MaskingConfig())
