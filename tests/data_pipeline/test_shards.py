import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import BlockReader, DataError, Manifest, Split, file_sha256, verify_corpus
from data_pipeline.shards import ShardWriter, dtype_for


@given(st.lists(st.integers(0, 99), max_size=50))
def test_any_blocks_can_be_read_in_any_order(prepared_100, ids):
    reader = BlockReader(prepared_100, "train")
    read = reader.read(np.array(ids, dtype=np.int64))
    assert read.shape == (len(ids), 16)
    assert read.dtype == np.uint16
    assert (read[:, 1] == 5 + np.array(ids) % 90).all()
    reader.close()


@pytest.fixture(scope="module")
def prepared_100(make_prepared):
    return make_prepared(100)


def test_only_the_last_row_group_of_a_split_is_short(prepared_100):
    manifest = Manifest.load(prepared_100)
    shards = manifest.split("train").shards
    sizes = [group for shard in shards for group in shard.row_groups(manifest.row_group_blocks)]
    assert sizes == [8] * 12 + [4]
    for shard in shards:
        metadata = pq.read_metadata(prepared_100 / shard.file)
        groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        assert groups == shard.row_groups(8)
        assert pq.read_schema(prepared_100 / shard.file).names == ["tokens"]


def test_more_shards_than_stay_open_are_read_correctly(make_prepared, monkeypatch):
    monkeypatch.setattr("data_pipeline.stream.shard_files.LocalFiles.keep_open", 2)
    reader = BlockReader(make_prepared(60, cell=4, shard_row_groups=1), "train")
    for ids in (np.arange(60), np.arange(60)[::-1], np.array([59, 0, 30])):
        assert (reader.read(ids)[:, 1] == 5 + ids).all()
        assert len(reader._open) <= 2


def test_a_manifest_survives_saving(prepared_100, tmp_path):
    manifest = Manifest.load(prepared_100)
    shutil.copytree(prepared_100 / "tokenizer", tmp_path / "tokenizer")
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "tokenizer"}


def test_ids_are_stored_in_the_smallest_type_that_holds_them():
    assert [dtype_for(size) for size in (100, 65536, 65537)] == ["uint16", "uint16", "uint32"]


@pytest.fixture
def broken(prepared_100, tmp_path):
    return shutil.copytree(prepared_100, tmp_path / "broken")


def _edit(folder, change):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_folders_that_are_not_prepared_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        Manifest.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a prepared folder"):
        Manifest.load(tmp_path)


def test_unknown_versions_and_damaged_manifests_are_refused(broken):
    _edit(broken, lambda content: content.update(format_version=99))
    with pytest.raises(DataError, match="format_version 99"):
        Manifest.load(broken)
    _edit(
        broken, lambda content: (content.update(format_version=1), content["splits"]["train"]["shards"][0].pop("bytes"))
    )
    with pytest.raises(DataError, match=r"splits\.train\.shards\[0\]\.bytes missing"):
        Manifest.load(broken)
    _edit(broken, lambda content: content.pop("dtype"))
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        Manifest.load(broken)
    (broken / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        Manifest.load(broken)


def test_counts_that_do_not_add_up_are_refused(broken):
    _edit(broken, lambda content: content["splits"]["train"].update(blocks=101))
    with pytest.raises(DataError, match="do not add up"):
        Manifest.load(broken)


def test_another_tokenizer_is_a_vocabulary_mismatch(broken, tokenizer):
    changed = json.loads((broken / "tokenizer" / "tokenizer.json").read_text())
    changed["normalizer"]["lowercase"] = False
    (broken / "tokenizer" / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="vocabulary mismatch"):
        Manifest.load(broken)
    (broken / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json is missing"):
        Manifest.load(broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_token_id": 5}, r"the mask_token '\[MASK\]', id 4, the manifest says mask_token_id 5"),
        ({"cls_token_id": 3, "sep_token_id": 2}, "cls_token_id 3"),
        ({"pad_token_id": 96}, "pad_token_id 96"),
        ({"unk_token_id": None}, "unk_token_id None"),
        ({"special_ids": [0, 1, 2, 3, 4, 50]}, "do not agree on whether ids 50 are special"),
        ({"special_ids": [0, 1, 4]}, "do not agree on whether ids 2, 3 are special"),
        ({"special_ids": []}, "special"),
        ({"vocab_size": 96}, "ids below 97, the manifest says below 96"),
        ({"vocab_size": 1 << 30}, "ids below 97"),
    ],
)
def test_special_ids_that_are_not_the_tokenizers_are_a_vocabulary_mismatch(broken, changes, message):
    _edit(broken, lambda content: content["tokenizer"].update(changes))
    with pytest.raises(DataError, match=f"vocabulary mismatch.*{message}"):
        Manifest.load(broken)
    assert any(message.split("'")[0] in fault for fault in verify_corpus(str(broken), say=lambda line: None))


def test_hashes_that_are_none_are_refused(broken):
    for wrong in ("", "../../etc/passwd", 7, None, "G" * 64):
        _edit(broken, lambda content: content["splits"]["train"]["shards"][1].update(sha256=wrong))  # noqa: B023
        with pytest.raises(DataError, match=r"manifest\.json (is damaged|has .* as the sha256)"):
            Manifest.load(broken)


def test_missing_and_truncated_shards_are_named_when_opening(broken):
    shard = broken / "train" / "shard-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"shard-00002\.parquet has \d+ bytes instead of"):
        BlockReader(broken, "train")
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00002\.parquet is missing"):
        BlockReader(broken, "train")
    with pytest.raises(DataError, match="no split 'test'"):
        BlockReader(broken, "test")


def test_a_shard_of_another_shape_or_with_damage_is_named_when_read(broken):
    first, last = (broken / "train" / f"shard-0000{number}.parquet" for number in (0, 4))
    shutil.copy(last, first)

    def vouch() -> None:
        described = {"bytes": first.stat().st_size, "sha256": file_sha256(first)}
        _edit(broken, lambda content: content["splits"]["train"]["shards"][0].update(described))

    vouch()
    with pytest.raises(DataError, match=r"shard-00000\.parquet does not hold what the manifest says"):
        BlockReader(broken, "train").read(np.array([0]))
    first.write_bytes(b"x" * last.stat().st_size)
    vouch()
    with pytest.raises(DataError, match=r"shard-00000\.parquet cannot be read"):
        BlockReader(broken, "train").read(np.array([0]))


def test_large_vocabularies_are_written_and_read_as_uint32(prepared_100, tmp_path):
    manifest = Manifest.load(prepared_100)
    blocks = np.random.default_rng(0).integers(0, 1 << 20, (20, 16)).astype(np.uint32)
    writer = ShardWriter(tmp_path, "train", 16, "uint32", row_group_blocks=8, shard_row_groups=2)
    for start in (0, 8, 16):
        writer.write_row_group(blocks[start : start + 8])
    writer.close()
    splits = {"train": Split(writer.shards, blocks=20, tokens=320, documents=1, tokens_dropped=0)}
    vocabulary = replace(manifest.tokenizer, vocab_size=1 << 20)
    large = replace(manifest, dtype="uint32", tokenizer=vocabulary, splits=splits)
    read = BlockReader(tmp_path, "train", large).read(np.arange(20))
    assert read.dtype == np.uint32
    assert (read == blocks).all()
