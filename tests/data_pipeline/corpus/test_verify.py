import json
import shutil

import numpy as np
import pytest

from data_pipeline import BlockReader, CorpusConfig, DataError, Manifest, PrepareConfig, prepare_corpus, verify_corpus
from data_pipeline.shards import ShardWriter
from launch.cli import main


def _quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def good(make_prepared):
    return make_prepared(100)


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "data")


def _rewrite(folder, number: int, change) -> None:
    """Write a training shard anew from changed blocks, with an honest manifest entry."""
    manifest = Manifest.load(folder)
    shard = manifest.split("train").shards[number]
    blocks = BlockReader(folder, "train").read(np.arange(24 * number, 24 * number + shard.blocks))
    change(blocks)
    (folder / "new").mkdir()
    writer = ShardWriter(folder / "new", "train", 16, "uint16", 8, 100)
    for start in range(0, len(blocks), 8):
        writer.write_row_group(blocks[start : start + 8])
    writer.close()
    (folder / "new" / writer.shards[0].file).replace(folder / shard.file)
    shutil.rmtree(folder / "new")
    shard.sha256, shard.bytes = writer.shards[0].sha256, writer.shards[0].bytes
    manifest.save(folder)


def _manifest(folder, change) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_folder_as_it_was_written_has_no_faults(folder):
    assert verify_corpus(str(folder), say=_quiet) == []
    assert verify_corpus(str(folder), workers=3, say=_quiet) == []


@pytest.mark.parametrize("packing", ["blocks", "documents"])
def test_what_prepare_writes_is_framed_as_it_should_be(tmp_path, texts, packing):
    (tmp_path / "a.txt").write_text("\n\n".join(texts(300)))
    corpus = CorpusConfig(f"{tmp_path}/a.txt", validation_fraction=0.2)
    config = PrepareConfig(
        corpus, f"{tmp_path}/out", vocab_size=120, seq_length=32, row_group_blocks=8, packing=packing
    )
    manifest = prepare_corpus(config, _quiet)
    assert manifest is not None
    assert manifest.packing == packing
    assert verify_corpus(f"{tmp_path}/out", say=_quiet) == []
    other = "blocks" if packing == "documents" else "documents"
    _manifest(tmp_path / "out", lambda content: content.update(packing=other))
    assert any(f"not framed as '{other}'" in fault for fault in verify_corpus(f"{tmp_path}/out", say=_quiet))


def test_missing_truncated_and_changed_shards_are_named(folder):
    paths = [folder / shard.file for shard in Manifest.load(folder).split("train").shards]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    content = bytearray(paths[2].read_bytes())
    content[len(content) // 2] ^= 1
    paths[2].write_bytes(content)
    faults = "\n".join(verify_corpus(str(folder), say=_quiet))
    assert "train/shard-00000.parquet: is missing" in faults
    assert "train/shard-00001.parquet: has " in faults
    assert "train/shard-00001.parquet: cannot be read" in faults
    assert "train/shard-00002.parquet: has another sha256" in faults
    assert "validation" not in faults


def test_row_groups_and_types_that_the_manifest_does_not_say_are_named(folder):
    shutil.copy(folder / "train" / "shard-00004.parquet", folder / "train" / "shard-00000.parquet")
    faults = verify_corpus(str(folder), say=_quiet)
    assert any("shard-00000.parquet: has row groups of [4] blocks, not 24 blocks by 8" in fault for fault in faults)
    _manifest(folder, lambda content: content.update(dtype="uint32"))
    assert any(
        "holds tokens: fixed_size_list<element: uint16" in fault for fault in verify_corpus(str(folder), say=_quiet)
    )


@pytest.mark.parametrize(
    ("row", "column", "token", "fault"),
    [
        (9, 5, 60000, "outside the vocabulary, in block 9"),
        (3, 0, 7, "not framed as 'blocks' are in block 3"),
        (3, 15, 7, "not framed as 'blocks' are in block 3"),
        (3, 4, 0, "not framed as 'blocks' are in block 3"),
        (3, 4, 2, "not framed as 'blocks' are in block 3"),
        (3, 4, 4, "not framed as 'blocks' are in block 3"),
    ],
)
def test_blocks_with_wrong_ids_or_framing_are_named(folder, row, column, token, fault):
    def change(blocks) -> None:
        blocks[row, column] = token

    _rewrite(folder, 1, change)
    (found,) = verify_corpus(str(folder), say=_quiet)
    assert found.startswith("train/shard-00001.parquet: ")
    assert fault in found


@pytest.mark.parametrize(
    "row",
    [
        [2, 9, 3, 0, 2, 9, 3, *[0] * 9],  # a document after padding
        [2, 9, 3, 9, 9, 3, *[0] * 10],  # no [CLS]
        [2, 9, 3, 2, 9, 9, *[0] * 10],  # no [SEP]
        [2, 3, *[0] * 14],  # an empty document
        [0] * 16,
        [2, *[9] * 15],
    ],
)
def test_documents_that_are_not_framed_are_named(folder, row):
    right = [2, 9, 3, 2, 8, 8, 3, *[0] * 9]

    def change(blocks) -> None:
        blocks[:] = right
        blocks[5] = row

    for number in range(5):
        _rewrite(folder, number, lambda blocks: blocks.__setitem__(slice(None), right))
    _manifest(folder, lambda content: content.update(packing="documents"))
    before = [fault for fault in verify_corpus(str(folder), say=_quiet) if fault.startswith("train")]
    assert before == []
    _manifest(folder, lambda content: content.update(packing="blocks"))
    _rewrite(folder, 1, change)
    _manifest(folder, lambda content: content.update(packing="documents"))
    (found,) = [fault for fault in verify_corpus(str(folder), say=_quiet) if fault.startswith("train")]
    assert "shard-00001.parquet: is not framed as 'documents' are in block 5" in found


def test_a_short_row_group_in_the_middle_another_tokenizer_and_wrong_counts_are_named(folder):
    tokenizer = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    _manifest(folder, lambda content: content["splits"]["train"].update(tokens=1))
    faults = "\n".join(verify_corpus(str(folder), say=_quiet))
    assert "tokenizer/tokenizer.json: is not the tokenizer" in faults
    assert "manifest.json: train says 1 tokens, not 100 x 16" in faults
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    assert "tokenizer.json: cannot be read" in "\n".join(verify_corpus(str(folder), say=_quiet))
    (folder / "tokenizer" / "tokenizer.json").unlink()
    assert "tokenizer.json: is missing" in "\n".join(verify_corpus(str(folder), say=_quiet))


def test_what_is_no_prepared_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        verify_corpus(str(tmp_path), say=_quiet)


def test_the_command_prints_faults_and_ends_with_code_2(folder, capsys):
    assert main(["prepare", "--verify", str(folder)]) == 0
    assert "every shard is as it was written" in capsys.readouterr().out
    (folder / "validation" / "shard-00000.parquet").unlink()
    assert main(["prepare", "--verify", str(folder), "--workers", "2"]) == 2
    assert "fault: validation/shard-00000.parquet: is missing" in capsys.readouterr().out
    assert main(["prepare", "--verify", str(folder), "--output", "x", "--corpus.train", "y"]) == 2
    assert "leave out corpus, output" in capsys.readouterr().err
    assert main(["prepare"]) == 2
    assert "output is empty" in capsys.readouterr().err
