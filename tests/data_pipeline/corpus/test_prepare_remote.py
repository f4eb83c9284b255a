"""Reading from and writing to an S3 server, and reading over HTTP."""

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline import (
    CorpusConfig,
    DataError,
    Manifest,
    PrepareConfig,
    Source,
    UnfinishedError,
    prepare_corpus,
    verify_corpus,
)
from data_pipeline.corpus.store import Store

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")


def _quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[str]:
    """An empty bucket on a local S3 server."""
    import s3fs

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "a")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("s3://corpus")
        yield "s3://corpus"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def text(tmp_path_factory, texts) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for number in range(3):
        lines = [json.dumps({"text": text}) + "\n" for text in texts(150, seed=number)]
        (folder / f"{number}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def remote_text(s3, text) -> str:
    store = Store(f"{s3}/text")
    for file in text.iterdir():
        store.write(file.name, file.read_bytes())
    return f"{s3}/text"


def _config(text: object, output: object, **changes) -> PrepareConfig:
    corpus = CorpusConfig(train=f"{text}/*.jsonl", validation_fraction=0.1)
    options = {"vocab_size": 120, "seq_length": 16, "row_group_blocks": 8, "unit_mb": 0.02}
    return PrepareConfig(**{"corpus": corpus, "output": str(output), **options, **changes})


def test_reading_from_and_writing_to_s3_gives_the_shards_of_a_local_run(text, remote_text, s3, tmp_path):
    local = prepare_corpus(_config(text, tmp_path / "out"), _quiet)
    remote = prepare_corpus(_config(remote_text, f"{s3}/out", workers=2), _quiet)
    assert local is not None
    assert remote is not None
    assert remote.splits == local.splits
    assert remote.source["train"][0]["files"][0]["version"], "the store's version of the file is recorded"
    store = Store(f"{s3}/out")
    assert store.names() == {"config.yaml", "manifest.json", "tokenizer", "train", "validation"}
    for shard in remote.split("train").shards:
        assert hashlib.sha256(store.read(shard.file)).hexdigest() == shard.sha256
    assert verify_corpus(f"{s3}/out", say=_quiet) == []
    lines: list[str] = []
    assert prepare_corpus(_config(remote_text, f"{s3}/out"), lines.append) == remote
    assert "already prepared" in lines[-1]
    store.remove(remote.split("train").shards[0].file)
    (fault,) = verify_corpus(f"{s3}/out", say=_quiet)
    assert fault == f"{remote.split('train').shards[0].file}: is missing"


def test_parts_meet_at_a_url_and_an_interrupted_one_goes_on(text, s3, tmp_path, monkeypatch):
    url, local = f"{s3}/parts", prepare_corpus(_config(text, tmp_path / "out"), _quiet)
    monkeypatch.setattr("data_pipeline.corpus.progress._REPORT_SECONDS", 0)

    def interrupt(line: str) -> None:
        if "encoding" in line and " 0%" not in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(_config(text, url, part="1/2"), interrupt)
    for part in ("2/2", "1/2"):
        assert prepare_corpus(_config(text, url, part=part), _quiet) is None
    assert prepare_corpus(_config(text, url, part="merge"), _quiet) == local
    assert ".work" not in Store(url).names()


def test_a_mistake_leaves_nothing_at_the_url(s3, tmp_path):
    (tmp_path / "0.jsonl").write_text('{"text": "too short"}\n')
    with pytest.raises(DataError, match="does not fill one block"):
        prepare_corpus(_config(tmp_path, f"{s3}/mistake"), _quiet)
    assert Store(f"{s3}/mistake").names() == set()


def test_other_peoples_folders_and_missing_buckets_are_refused(text, remote_text, s3):
    with pytest.raises(DataError, match="was not written by"):
        prepare_corpus(_config(text, remote_text), _quiet)
    with pytest.raises(DataError, match="s3://nowhere"):
        prepare_corpus(_config(text, "s3://nowhere/out"), _quiet)
    problems = "\n".join(map(str, CorpusConfig([f"{s3}/none-*.jsonl", "no-such-protocol://a/b.jsonl"]).problems()))
    assert "none-*.jsonl' matches no file" in problems
    assert "no-such-protocol" in problems


class _Unavailable(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503) if "busy" in self.path else super().do_GET()

    def do_HEAD(self) -> None:
        self.send_error(503) if "down" in self.path else super().do_HEAD()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web(text) -> Iterator[str]:
    (text / "busy.jsonl").write_bytes((text / "0.jsonl").read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Unavailable, directory=str(text)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    (text / "busy.jsonl").unlink()


def test_files_are_read_over_http(web, text):
    source = Source(f"{web}/1.jsonl?download=true")
    assert source.problems() == []
    corpus = CorpusConfig(source, validation_fraction=0.1)
    assert list(corpus.documents()) == list(CorpusConfig(f"{text}/1.jsonl", validation_fraction=0.1).documents())


def test_a_server_that_is_busy_leaves_the_work_unfinished_not_mistaken(web):
    corpus = CorpusConfig(f"{web}/busy.jsonl", validation_fraction=0.1)
    with pytest.raises(UnfinishedError, match=r"busy\.jsonl' cannot be read .*network"):
        list(corpus.documents())
    (problem,) = CorpusConfig(f"{web}/busy-and-down.jsonl").problems()
    assert "busy-and-down.jsonl' cannot be read" in str(problem)
    assert "503" in str(problem)
    (problem,) = CorpusConfig(f"{web}/nothing.jsonl").problems()
    assert "nothing.jsonl' matches no file" in str(problem)


def test_a_manifest_from_a_url_reads_as_a_local_one(text, s3, tmp_path):
    written = prepare_corpus(_config(text, f"{s3}/again"), _quiet)
    assert Manifest.from_bytes(Store(f"{s3}/again").read("manifest.json"), "manifest.json") == written
