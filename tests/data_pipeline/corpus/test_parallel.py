"""The same output, byte for byte, whoever does the work, in whatever order, however often it is killed."""

import hashlib
import importlib
import itertools
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline import (
    BlockReader,
    CorpusConfig,
    DataError,
    Manifest,
    PrepareConfig,
    Source,
    UnfinishedError,
    prepare_corpus,
)
from tests.processes import is_gone, run, start, wait_until

WORKERS_MODULE = importlib.import_module("data_pipeline.corpus.pool")
PROGRESS_MODULE = importlib.import_module("data_pipeline.corpus.progress")


def _quiet(line: str) -> None:
    pass


def _files(folder: Path) -> dict[str, str]:
    """Relative path -> digest of everything in a prepared folder, without the line that names the folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes().replace(str(folder).encode(), b"")).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, texts) -> Path:
    folder = tmp_path_factory.mktemp("text")
    lines = [json.dumps({"text": text}) + "\n" for text in texts(1500)]
    (folder / "a.jsonl").write_text("".join(lines[:1000]))
    (folder / "b.jsonl").write_text("".join([*lines[1000:], *lines[:50]]))  # the last 50 are duplicates
    (folder / "c.txt").write_text("\n\n".join(texts(200, seed=2)))
    return folder


def _config(corpus: Path, output: Path, **changes) -> PrepareConfig:
    sources: list[str | Source] = [Source(f"{corpus}/[ab].jsonl", weight=1.5), f"{corpus}/c.txt"]
    files = CorpusConfig(train=sources, validation_fraction=0.1, deduplicate=True)
    options = {"vocab_size": 120, "seq_length": 16, "row_group_blocks": 8, "shard_row_groups": 4, "unit_mb": 0.02}
    return PrepareConfig(**{"corpus": files, "output": str(output), **options, **changes})


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("reference") / "out"
    prepare_corpus(_config(corpus, output), _quiet)
    return output


def test_the_output_has_many_units_and_every_kept_document(undisturbed, corpus, texts):
    manifest = Manifest.load(undisturbed)
    stems = {shard.file.rsplit("-", 1)[0] for shard in manifest.split("train").shards}
    assert len(stems) > 10
    assert "train/shard-tail" in stems
    sources = manifest.statistics["sources"]["train"]
    assert [source["path"] for source in sources] == [f"{corpus}/[ab].jsonl", f"{corpus}/c.txt"]
    assert sources[0]["duplicates"] == 50 * 2, "once per copy"
    documents = sum(source["documents"] for source in sources)
    assert documents == sum(split.documents for split in manifest.splits.values())
    assert not (undisturbed / ".work").exists()
    for name, split in manifest.splits.items():
        blocks = BlockReader(undisturbed, name).read(np.arange(split.blocks))
        assert split.fewest_ordinary == manifest.tokenizer.is_ordinary[blocks].sum(axis=1).min(), name
    group = manifest.row_group_blocks
    assert all(shard.blocks % group == 0 for shard in manifest.split("train").shards[:-1])


def test_the_ids_of_every_document_are_in_the_blocks(undisturbed, corpus, texts):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(undisturbed / "tokenizer")
    manifest = Manifest.load(undisturbed)
    held_out = {text for split, text in _config(corpus, undisturbed).corpus.documents() if split == "validation"}
    documents = [text for text in [*texts(1500), *texts(200, seed=2)] if text in held_out]
    expected = Counter(token for text in documents for token in tokenizer(text, add_special_tokens=False).input_ids)
    split = manifest.split("validation")
    blocks = BlockReader(undisturbed, "validation").read(np.arange(split.blocks))
    found = Counter(blocks[:, 1:-1].reshape(-1).tolist())
    del found[tokenizer.sep_token_id]
    assert not found - expected
    assert (expected - found).total() <= split.tokens_dropped < 16


@pytest.mark.parametrize("packing", ["blocks", "documents"])
def test_any_number_of_workers_gives_the_same_bytes(corpus, tmp_path, undisturbed, packing):
    reference = undisturbed
    if packing == "documents":
        reference = tmp_path / "reference"
        prepare_corpus(_config(corpus, reference, packing=packing), _quiet)
    for workers in (2, 3) if packing == "blocks" else (2,):
        output = tmp_path / f"out-{workers}"
        prepare_corpus(_config(corpus, output, packing=packing, workers=workers), _quiet)
        assert _files(output) == _files(reference)


@pytest.mark.parametrize("order", [("1/1",), ("1/2", "2/2"), ("3/3", "1/3", "2/3")])
def test_any_number_of_parts_in_any_order_gives_the_same_bytes(corpus, tmp_path, undisturbed, order):
    output = tmp_path / "out"
    for part in order:
        with pytest.raises(DataError, match=r"not done yet|nothing has been done"):
            prepare_corpus(_config(corpus, output, part="merge"), _quiet)
        assert prepare_corpus(_config(corpus, output, part=part), _quiet) is None
        with pytest.raises(DataError, match="is not finished: run the same"):
            Manifest.load(output)
    assert prepare_corpus(_config(corpus, output, part="merge"), _quiet) == Manifest.load(output)
    assert _files(output) == _files(undisturbed)


def test_parts_that_run_at_the_same_time_give_the_same_bytes(corpus, tmp_path, undisturbed):
    output = tmp_path / "out"
    parts = [start(prepare_corpus, _config(corpus, output, part=f"{number}/2"), _quiet) for number in (1, 2)]
    for part in parts:
        _, errors = part.communicate()
        assert part.wait() == 0, errors
    prepare_corpus(_config(corpus, output, part="merge"), _quiet)
    assert _files(output) == _files(undisturbed)


def _finished_shards(output: Path) -> dict[Path, int]:
    """When the shards of finished units were written."""
    units = (output / ".work" / "units").glob("*.json") if (output / ".work" / "units").is_dir() else []
    records = [json.loads(file.read_text()) for file in units]
    shards = [shard["file"] for record in records for split in record["splits"].values() for shard in split["shards"]]
    return {output / file: (output / file).stat().st_mtime_ns for file in shards}


def _prepare_and_die(config: PrepareConfig, events: int) -> int:
    """Prepare, and be killed at the so manieth call or return in the code of this room, here in the first process.

    After so much work, not after so much time: how fast the machine is does not matter.
    """
    left = itertools.count(events, -1)

    def profile(frame, event: str, argument: object) -> None:
        if frame.f_globals.get("__name__", "").startswith("data_pipeline.") and next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
    prepare_corpus(config, _quiet)
    return 0


def _kill(config: PrepareConfig, events: int) -> None:
    killed = run(_prepare_and_die, config, events)
    assert killed.returncode == -signal.SIGKILL, f"it was over sooner: {killed}"


def test_killed_twenty_times_it_ends_with_the_same_bytes_and_does_nothing_twice(corpus, tmp_path, undisturbed):
    output, draw = tmp_path / "out", random.Random(0)
    written: dict[Path, int] = {}
    seen = set()
    for _ in range(20):
        # the sample for the vocabulary is read in one go, a unit of work takes some thousands of events
        has_vocabulary = (output / ".work" / "tokenizer.json").exists()
        _kill(_config(corpus, output), draw.randint(0, 40_000 if has_vocabulary else 600_000))
        now = _finished_shards(output)
        assert all(now.get(file) == time_ns for file, time_ns in written.items())
        written |= now
        seen.add(len(written))
    prepare_corpus(_config(corpus, output, workers=2), _quiet)
    assert len(seen) > 5, "the kills came while work was being done"
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in written.items())
    assert _files(output) == _files(undisturbed)


def test_killed_while_it_merges_it_ends_with_the_same_bytes(corpus, tmp_path, undisturbed):
    output, draw = tmp_path / "out", random.Random(2)
    prepare_corpus(_config(corpus, output, part="1/1"), _quiet)
    for _ in range(5):
        _kill(_config(corpus, output, part="merge"), draw.randint(0, 10_000))
    prepare_corpus(_config(corpus, output, part="merge"), _quiet)
    assert _files(output) == _files(undisturbed)


def _prepare_and_die_at_report(config: PrepareConfig, reports: int) -> int:
    """Prepare, print the numbers of the worker processes, and be killed when so many reports have come from them."""
    PROGRESS_MODULE._REPORT_SECONDS = 0
    left = itertools.count(reports - 1, -1)
    start_worker = WORKERS_MODULE._Pool._start

    def start_and_tell(pool, *arguments) -> None:
        start_worker(pool, *arguments)
        print(list(pool._processes.values())[-1].pid, flush=True)

    def say(line: str) -> None:
        if line.startswith(("hashing", "encoding")) and next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    WORKERS_MODULE._Pool._start = start_and_tell
    prepare_corpus(config, say)
    return 0


def test_killed_with_its_workers_running_it_ends_with_the_same_bytes(corpus, tmp_path, undisturbed):
    output, draw, kills = tmp_path / "out", random.Random(1), 0
    while True:
        done = run(_prepare_and_die_at_report, _config(corpus, output, workers=2), draw.randint(1, 10))
        workers = [int(pid) for pid in done.stdout.split()]
        wait_until(lambda workers=workers: all(map(is_gone, workers)))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += bool(workers)  # a last unit is done without them
    assert kills >= 5, "two reports a unit: no round gets far"
    assert _files(output) == _files(undisturbed)


def test_unfinished_work_is_kept_when_interrupted_and_gone_on_with(corpus, tmp_path, undisturbed, monkeypatch):
    output, lines = tmp_path / "out", []
    monkeypatch.setattr(PROGRESS_MODULE, "_REPORT_SECONDS", 0)

    def interrupt(line: str) -> None:
        lines.append(line)
        if "encoding" in line and (output / ".work" / "units" / "00003.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(_config(corpus, output), interrupt)
    assert _finished_shards(output)
    with pytest.raises(DataError, match="holds unfinished work with other settings of seq_length, packing"):
        prepare_corpus(_config(corpus, output, seq_length=32, packing="documents"), _quiet)
    prepare_corpus(_config(corpus, output), lines.append)
    assert any(line.startswith("going on: ") for line in lines)
    assert _files(output) == _files(undisturbed)


def test_a_worker_that_dies_is_reported_and_the_work_goes_on_later(corpus, tmp_path, undisturbed, monkeypatch):
    output = tmp_path / "out"
    start = WORKERS_MODULE._Pool._start

    def start_and_kill(pool, *arguments) -> None:
        start(pool, *arguments)
        list(pool._processes.values())[-1].kill()

    monkeypatch.setattr(WORKERS_MODULE._Pool, "_start", start_and_kill)
    with pytest.raises(UnfinishedError, match="exit code -9"):
        prepare_corpus(_config(corpus, output, workers=2), _quiet)
    monkeypatch.undo()
    prepare_corpus(_config(corpus, output, workers=2), _quiet)
    assert _files(output) == _files(undisturbed)


def test_a_mistake_in_the_text_is_reported_from_a_worker_and_leaves_nothing(corpus, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{')
    config = _config(corpus, tmp_path / "out", workers=2)
    config.corpus = CorpusConfig(train=f"{corpus}/a.jsonl", validation=f"{tmp_path}/bad.jsonl")
    with pytest.raises(DataError, match=r"bad\.jsonl' cannot be read"):
        prepare_corpus(config, _quiet)
    assert not (tmp_path / "out").exists()


def test_units_are_tried_again_when_the_network_fails(corpus, tmp_path, undisturbed, monkeypatch):
    work = importlib.import_module("data_pipeline.corpus.encode")
    original, failures, pauses = work.used_documents, iter([True, False, True, True]), []

    def flaky(*arguments):
        for number, batch in enumerate(original(*arguments)):
            if number and next(failures, False):
                raise UnfinishedError("the network")
            yield batch

    monkeypatch.setattr(work, "used_documents", flaky)
    monkeypatch.setattr(WORKERS_MODULE, "time", SimpleNamespace(sleep=pauses.append))
    prepare_corpus(_config(corpus, tmp_path / "out", unit_mb=0.1), _quiet)
    monkeypatch.undo()
    prepare_corpus(_config(corpus, tmp_path / "calm", unit_mb=0.1), _quiet)
    assert len(pauses) == 3
    assert _files(tmp_path / "out") == _files(tmp_path / "calm")


def test_training_documents_that_are_in_the_validation_files_are_left_out(corpus, tmp_path, texts):
    (tmp_path / "v.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(100)))
    config = _config(corpus, tmp_path / "out")
    config.corpus = CorpusConfig(train=f"{corpus}/a.jsonl", validation=f"{tmp_path}/v.jsonl", deduplicate=True)
    manifest = prepare_corpus(config, _quiet)
    assert manifest is not None
    assert {name: split.documents for name, split in manifest.splits.items()} == {"train": 900, "validation": 100}


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "all"])
def test_parts_that_make_no_sense_are_refused(corpus, tmp_path, part):
    assert f"part='{part}' must be" in "\n".join(map(str, _config(corpus, tmp_path / "out", part=part).problems()))
