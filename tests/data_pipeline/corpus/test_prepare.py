import hashlib
import importlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import AutoTokenizer

from data_pipeline import BlockReader, CorpusConfig, DataError, Manifest, PrepareConfig, Source, prepare_corpus
from launch.cli import main

LENGTH = 16


@pytest.fixture
def corpus(tmp_path, texts):
    """A folder with train.jsonl and validation.parquet."""
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(300)))
    pq.write_table(pa.table({"text": texts(30, seed=1)}), folder / "validation.parquet")
    return folder


def _config(folder, output, **changes) -> PrepareConfig:
    files = CorpusConfig(train=f"{folder}/train.jsonl", validation=f"{folder}/validation.parquet")
    options = {"vocab_size": 120, "seq_length": LENGTH, "row_group_blocks": 32, "shard_row_groups": 4}
    return PrepareConfig(**{"corpus": files, "output": str(output), **options, **changes})


def _quiet(line: str) -> None:
    pass


def _files(folder) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _expected_ids(tokenizer, documents: list[str]) -> list[int]:
    """The documents' ids joined by [SEP], one document at a time through the public tokenizer."""
    joined: list[int] = []
    for text in documents:
        joined += [tokenizer.sep_token_id] * bool(joined) + tokenizer(text, add_special_tokens=False).input_ids
    return joined


@pytest.mark.parametrize("changes", [{}, {"row_group_blocks": 512}, {"seq_length": 33, "row_group_blocks": 1}])
def test_blocks_hold_the_documents_ids_in_order_and_nothing_else(corpus, tmp_path, texts, changes):
    config = _config(corpus, tmp_path / "out", **changes)
    manifest = prepare_corpus(config, _quiet)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    for split, documents in (("train", texts(300)), ("validation", texts(30, seed=1))):
        described = manifest.split(split)
        blocks = BlockReader(tmp_path / "out", split).read(np.arange(described.blocks))
        assert (blocks[:, 0] == tokenizer.cls_token_id).all()
        assert (blocks[:, -1] == tokenizer.sep_token_id).all()
        expected = _expected_ids(tokenizer, documents)
        inner = blocks[:, 1:-1].reshape(-1).tolist()
        assert inner == expected[: len(inner)]
        assert described.documents == len(documents)
        assert described.tokens_dropped == len(expected) - len(inner) < config.seq_length - 2
        assert described.tokens == blocks.size
    assert Manifest.load(tmp_path / "out") == manifest


def test_preparing_twice_gives_the_same_bytes(corpus, tmp_path):
    for name in ("a", "b"):
        prepare_corpus(_config(corpus, tmp_path / name), _quiet)
    first, second = _files(tmp_path / "a"), _files(tmp_path / "b")
    assert first.pop("config.yaml") != second.pop("config.yaml"), "the output differs"
    assert first == second
    manifest = Manifest.load(tmp_path / "a")
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        assert first[shard.file] == shard.sha256


def test_an_existing_tokenizer_is_used_and_kept(corpus, tmp_path, tokenizer_folder):
    manifest = prepare_corpus(_config(corpus, tmp_path / "out", tokenizer=str(tokenizer_folder)), _quiet)
    saved = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert saved.get_vocab() == AutoTokenizer.from_pretrained(tokenizer_folder).get_vocab()
    assert manifest.tokenizer.mask_token_id == saved.mask_token_id


def test_special_tokens_written_in_a_text_are_text(corpus, tmp_path):
    text = "the river [MASK] house [SEP] [CLS] stone " * 50
    (corpus / "train.jsonl").write_text(json.dumps({"text": text}) + "\n")
    manifest = prepare_corpus(_config(corpus, tmp_path / "out"), _quiet)
    blocks = BlockReader(tmp_path / "out", "train").read(np.arange(manifest.split("train").blocks))
    assert not np.isin(blocks[:, 1:-1], [0, 2, 3, 4]).any()


def test_validation_is_held_out_of_the_training_text(corpus, tmp_path, texts):
    files = CorpusConfig(train=f"{corpus}/train.jsonl", validation_fraction=0.1)
    manifest = prepare_corpus(_config(corpus, tmp_path / "out", corpus=files), _quiet)
    documents = {name: split.documents for name, split in manifest.splits.items()}
    assert sum(documents.values()) == 300
    assert 10 < documents["validation"] < 60
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    chosen = [text for split, text in files.documents() if split == "validation"]
    blocks = BlockReader(tmp_path / "out", "validation").read(np.arange(manifest.split("validation").blocks))
    inner = blocks[:, 1:-1].reshape(-1).tolist()
    assert inner == _expected_ids(tokenizer, chosen)[: len(inner)]


def test_a_finished_folder_of_the_same_configuration_is_returned_untouched(corpus, tmp_path):
    config, lines = _config(corpus, tmp_path / "out"), []
    manifest = prepare_corpus(config, lines.append)
    assert str(tmp_path / "out") in lines[-1]
    assert f"train: {manifest.split('train').blocks:,} blocks" in lines[-3]
    before = _files(tmp_path / "out")
    assert prepare_corpus(config, lines.append) == manifest
    assert "already prepared" in lines[-1]
    assert _files(tmp_path / "out") == before
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["seq_length"] == LENGTH


def test_an_existing_folder_is_never_overwritten(corpus, tmp_path):
    output = tmp_path / "out"
    prepare_corpus(_config(corpus, output), _quiet)
    before = _files(output)
    with pytest.raises(DataError, match="exists with other settings of vocab_size"):
        prepare_corpus(_config(corpus, output, vocab_size=100), _quiet)
    with (corpus / "train.jsonl").open("a") as stream:
        stream.write('{"text": "more"}\n')
    with pytest.raises(DataError, match="other versions of the corpus files"):
        prepare_corpus(_config(corpus, output), _quiet)
    assert _files(output) == before
    with pytest.raises(DataError, match="was not written by"):
        prepare_corpus(_config(corpus, corpus), _quiet)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": CorpusConfig(train="nowhere/*.txt")}, "matches no file"),
        ({"corpus": CorpusConfig(train="TEXT/train.jsonl", text_column="body")}, "no column 'body', only 'text'"),
        ({"corpus": CorpusConfig(train="TEXT/empty.txt")}, "holds no documents"),
        ({"corpus": CorpusConfig(train="TEXT/train.jsonl", validation="TEXT/short.txt")}, "does not fill one block"),
        ({"corpus": CorpusConfig(train="TEXT/train.jsonl", validation=Source("TEXT/bad.jsonl"))}, "cannot be read"),
        ({"tokenizer": "TEXT"}, "cannot be loaded"),
        ({"seq_length": 2, "vocab_size": 3}, "seq_length=2 must be at least 8"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing_behind(corpus, tmp_path, monkeypatch, changes, message):
    shutil.move(corpus, tmp_path / "TEXT")
    (tmp_path / "TEXT" / "empty.txt").write_text("\n")
    (tmp_path / "TEXT" / "short.txt").write_text("the river")
    (tmp_path / "TEXT" / "bad.jsonl").write_text("{")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        prepare_corpus(_config("TEXT", tmp_path / "new" / "out", **changes), _quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["TEXT"]


BAD_ROWS = """id,text
1,"the river house, the stone"
2,the river, the stone
3
4,the seven\0 rivers
"""


def test_skipped_rows_are_counted_in_the_manifest_by_cause_and_told(corpus, tmp_path, texts):
    (corpus / "b.csv").write_text(BAD_ROWS)
    (corpus / "c.jsonl").write_text('{"text": "the river \\ud83d house"}\n{"text": "the\n')
    train = [f"{corpus}/{name}" for name in ("train.jsonl", "b.csv", "c.jsonl")]
    files = CorpusConfig(train, f"{corpus}/validation.parquet", malformed="skip", deduplicate=True)
    lines: list[str] = []
    manifest = prepare_corpus(_config(corpus, tmp_path / "out", corpus=files), lines.append)
    whole, csv, jsonl = manifest.statistics["sources"]["train"]
    assert not [name for name in whole if name.startswith(("malformed", "replaced"))]
    counts = {"malformed_too_many_fields": 1, "malformed_too_few_fields": 1, "malformed_nul_byte": 1, "documents": 1}
    assert csv | counts == csv
    assert jsonl | {"malformed_not_json": 1, "replaced_surrogates": 1, "documents": 1} == jsonl
    told = "left out: malformed rows (not_json: 1, nul_byte: 1, too_few_fields: 1, too_many_fields: 1)"
    assert told in lines
    assert "replaced: 1 lone surrogates, by U+FFFD" in lines
    text = " ".join(document for _, document in files.documents())
    assert "the river \ufffd house" in text
    with pytest.raises(DataError, match="exists with other settings of corpus"):
        prepare_corpus(_config(corpus, tmp_path / "out", corpus=replace(files, malformed="stop")), lines.append)


def test_a_source_without_a_sound_row_is_an_error_even_when_skipping(corpus, tmp_path):
    (corpus / "b.txt").write_bytes("the river\n\nhouse".encode("utf-16-le"))
    files = CorpusConfig([f"{corpus}/train.jsonl", f"{corpus}/b.txt"], malformed="skip")
    with pytest.raises(DataError, match=r"b\.txt' holds no documents \(all its rows are malformed\)"):
        prepare_corpus(_config(corpus, tmp_path / "out", corpus=files), _quiet)
    with pytest.raises(DataError, match=r"corpus\.malformed=ignore is unknown: use stop or skip"):
        prepare_corpus(_config(corpus, tmp_path / "out", corpus=replace(files, malformed="ignore")), _quiet)
    with pytest.raises(DataError, match=r"output=s3://b/out\[1\] looks like a pattern"):
        prepare_corpus(_config(corpus, "s3://b/out[1]"), _quiet)


def test_a_malformed_row_ends_the_command_with_code_2_and_its_line(corpus, tmp_path, capsys):
    (corpus / "b.csv").write_text(BAD_ROWS)
    command = ["prepare", "--corpus.train", f"{corpus}/b.csv", "--output", str(tmp_path / "out")]
    assert main([*command, "--workers", "2"]) == 2
    assert "b.csv' cannot be read (line 3: 3 fields where the header has 2)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_named(corpus, tmp_path):
    with pytest.raises(DataError, match=r"output: .*train\.jsonl/out cannot be written"):
        prepare_corpus(_config(corpus, corpus / "train.jsonl" / "out"), _quiet)


def test_all_bad_settings_are_reported_together(corpus, tmp_path):
    config = _config(corpus, "", vocab_size=1, seq_length=1, row_group_blocks=0, tokenizer_sample_mb=0)
    config.corpus.train = "nowhere.txt"
    text = "\n".join(map(str, config.problems()))
    for name in ("output", "vocab_size", "seq_length", "row_group_blocks", "tokenizer_sample_mb", "corpus.train"):
        assert name in text


def test_an_interrupted_prepare_leaves_nothing_behind(corpus, tmp_path):
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(_config(corpus, tmp_path / "new" / "out"), interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_progress_is_reported_while_encoding(corpus, tmp_path, monkeypatch):
    # the package exports the function under the name of the module
    monkeypatch.setattr(importlib.import_module("data_pipeline.corpus.progress"), "_REPORT_SECONDS", 0)
    lines: list[str] = []
    prepare_corpus(_config(corpus, tmp_path / "out"), lines.append)
    progress = [line for line in lines if line.startswith("encoding: ")]
    assert "330 documents" in progress[-1]
    assert "MB/s" in progress[-1]
