"""A prepared folder in a real S3 protocol: moto's server."""

from itertools import islice

import fsspec
import pytest
import torch

from data_pipeline import DataError, Manifest, MaskingConfig, RemoteConfig, StreamConfig, TokenStream

pytest.importorskip("s3fs", reason="needs the extra s3")
moto_server = pytest.importorskip("moto.server", reason="needs the extra dev")


@pytest.fixture(scope="module")
def folder(make_prepared):
    return make_prepared(120, cell=4, shard_row_groups=2)


@pytest.fixture(scope="module")
def bucket(folder):
    """The prepared folder as s3://corpora/prepared."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(fsspec.config.conf)
    # as a user does with FSSPEC_S3_ENDPOINT_URL, FSSPEC_S3_KEY and FSSPEC_S3_SECRET
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
    fs = fsspec.filesystem("s3")
    fs.mkdir("corpora")
    fs.put(str(folder), "corpora/prepared", recursive=True)
    yield fs
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    fs.clear_instance_cache()
    server.stop()


def _tokens(location, config: StreamConfig, rank: int = 0, world_size: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    batches = TokenStream(location, config, MaskingConfig(), rank, world_size).micro_batches(24, 6)
    taken = list(islice(batches, 40 // world_size))
    batches.close()
    return torch.cat([batch.samples for batch in taken]), torch.cat([batch.input_ids for batch in taken])


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_stream_from_s3_is_the_local_one(folder, bucket, tmp_path, world_size):
    config = StreamConfig(lanes=12, remote=RemoteConfig(cache=str(tmp_path)))
    for rank in range(world_size):
        found = _tokens("s3://corpora/prepared", config, rank, world_size)
        expected = _tokens(folder, config, rank, world_size)
        assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))
    assert len(list((tmp_path / "shards").iterdir())) == len(Manifest.load(folder).split("train").shards)


def test_missing_keys_and_buckets_are_named(folder, bucket, tmp_path):
    config = StreamConfig(remote=RemoteConfig(cache=str(tmp_path), retries=1, backoff=0.01))
    for url in ("s3://corpora/nowhere", "s3://nobucket/prepared"):
        with pytest.raises(DataError, match=f"{url} is not a prepared folder"):
            TokenStream(url, config, MaskingConfig())
    gone = Manifest.load(folder).split("train").shards[5].file
    bucket.mv(f"corpora/prepared/{gone}", f"corpora/{gone}")
    try:
        with pytest.raises(DataError, match=rf"s3://corpora/prepared/{gone} is missing"):
            _tokens("s3://corpora/prepared", config)
    finally:
        bucket.mv(f"corpora/{gone}", f"corpora/prepared/{gone}")
