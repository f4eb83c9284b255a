"""What a damaged or missing shard does to a run."""

import json
import logging
import shutil
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_pipeline import (
    BlockReader,
    DataError,
    Manifest,
    MaskingConfig,
    RemoteConfig,
    StreamConfig,
    TokenStream,
    file_sha256,
)
from data_pipeline.errors import ShardFault
from data_pipeline.stream import PreparedFolder


@pytest.fixture
def folder(make_prepared, tmp_path):
    """100 blocks in row groups of 8, three to a shard; the last shard holds one row group of 4."""
    return shutil.copytree(make_prepared(100), tmp_path / "prepared")


def _spoil(folder, number: int, vouched: bool = False) -> None:
    """Overwrite the pages of a shard's second row group; its footer stays. `vouched`: the manifest has its sha256."""
    file = folder / "train" / f"shard-{number:05d}.parquet"
    column = pq.read_metadata(file).row_group(1).column(0)
    start, size = column.data_page_offset, column.total_compressed_size
    content = bytearray(file.read_bytes())
    content[start : start + size] = b"\xff" * size
    file.write_bytes(content)
    if vouched:
        _vouch(folder, number)


def _vouch(folder, number: int) -> None:
    """Write size and sha256 of a shard as it is now into the manifest."""
    file = folder / "train" / f"shard-{number:05d}.parquet"
    content = json.loads((folder / "manifest.json").read_text())
    content["splits"]["train"]["shards"][number] |= {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_lost_shard_is_replaced_by_the_next_row_groups_that_can_be_read(folder):
    whole = BlockReader(folder, "train").read(np.arange(100))
    (folder / "train" / "shard-00001.parquet").unlink()  # row groups 3, 4, 5: blocks 24 to 47
    _spoil(folder, 2, vouched=True)  # row group 7: blocks 56 to 63
    reader = BlockReader(folder, "train", skip_damaged=True)
    found = reader.read(np.arange(100))
    expected = whole.copy()
    for lost, stand_in in ((3, 6), (4, 6), (5, 6), (7, 8)):
        expected[8 * lost : 8 * lost + 8] = whole[8 * stand_in : 8 * stand_in + 8]
    assert (found == expected).all()
    assert reader.replaced_blocks == 32


def test_a_shard_with_one_flipped_bit_is_lost_as_a_whole(folder):
    whole = BlockReader(folder, "train").read(np.arange(100))
    _flip(folder / "train" / "shard-00001.parquet")
    with pytest.raises(ShardFault, match=r"shard-00001\.parquet has other content than the manifest's sha256 says"):
        BlockReader(folder, "train").read(np.arange(100))
    found = BlockReader(folder, "train", skip_damaged=True).read(np.arange(24, 48))
    assert (found == np.concatenate([whole[48:56]] * 3)).all()


def _flip(file) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed, as it happens."""
    names = []

    def counted(file) -> str:
        names.append(file.name)
        return file_sha256(file)

    monkeypatch.setattr("data_pipeline.stream.verified.file_sha256", counted)
    return names


def _read(folder, cache) -> int:
    files = PreparedFolder(folder, RemoteConfig(cache=str(cache))).files()
    reader = BlockReader(folder, "train", files=files)
    reader.read(np.arange(100))
    reader.close()
    return len(reader.read(np.arange(100)))


def test_a_shard_is_hashed_once_per_cache(folder, tmp_path, hashed, monkeypatch):
    monkeypatch.setattr("data_pipeline.stream.verified._WORTH_A_LINE", 1)
    for _ in range(2):
        _read(folder, tmp_path / "cache")
    assert len(hashed) == 5
    _read(folder, tmp_path / "another")
    assert len(hashed) == 10
    file = folder / "train" / "shard-00003.parquet"
    file.rename(folder / "moved")
    shutil.copy(folder / "moved", file)
    _read(folder, tmp_path / "cache")
    assert hashed[10:] == [file.name], "another file of the same name is looked at again"
    _flip(file)
    with pytest.raises(ShardFault, match="other content"):
        _read(folder, tmp_path / "cache")


def test_small_shards_and_caches_that_cannot_be_written_leave_no_record(folder, tmp_path, hashed, monkeypatch):
    _read(folder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("data_pipeline.stream.verified._WORTH_A_LINE", 1)
    (tmp_path / "file").write_text("")
    for _ in range(2):
        _read(folder, tmp_path / "file")
    assert len(hashed) == 15
    (tmp_path / "cache" / "verified").mkdir(parents=True)
    _read(folder, tmp_path / "cache")
    (record,) = (tmp_path / "cache" / "verified").iterdir()
    record.write_bytes(b"\xff not a record")
    _read(folder, tmp_path / "cache")
    assert len(hashed) == 25


def test_after_the_last_row_group_comes_the_first_and_short_ones_repeat(folder):
    whole = BlockReader(folder, "train").read(np.arange(100))
    (folder / "train" / "shard-00004.parquet").unlink()
    found = BlockReader(folder, "train", skip_damaged=True).read(np.arange(96, 100))
    assert (found == whole[:4]).all()
    shutil.copy(folder / "train" / "shard-00000.parquet", folder / "train" / "shard-00004.parquet")  # the wrong size
    assert (BlockReader(folder, "train", skip_damaged=True).read(np.arange(96, 100)) == whole[:4]).all()


def test_a_short_row_group_stands_in_by_repeating_its_blocks(folder):
    whole = BlockReader(folder, "train").read(np.arange(100))
    (folder / "train" / "shard-00003.parquet").unlink()  # blocks 72 to 95; then come the four of shard 4
    found = BlockReader(folder, "train", skip_damaged=True).read(np.arange(88, 96))
    assert (found == np.concatenate([whole[96:], whole[96:]])).all()


def test_all_worlds_see_the_same_replacements_and_each_is_counted_and_logged_once(folder, caplog):
    _spoil(folder, 0)
    config = StreamConfig(lanes=12, damaged="skip", prefetch=1)

    def epoch(world_size: int) -> tuple[dict[int, list[int]], int]:
        seen, replaced = {}, 0
        for rank in range(world_size):
            stream = TokenStream(folder, config, MaskingConfig(), rank, world_size)
            batches = stream.micro_batches(0, 4)
            for batch in islice(batches, 24 // world_size):
                seen |= dict(zip(batch.samples.tolist(), batch.input_ids.tolist(), strict=True))
            batches.close()
            replaced += stream.replaced_blocks
        return seen, replaced

    with caplog.at_level(logging.WARNING):
        alone, replaced = epoch(1)
    assert len(alone) == 96
    assert 24 <= replaced <= 72, "row groups of the next epochs may have been read ahead"
    assert [record.message for record in caplog.records if "shard-00000.parquet has other content" in record.message]
    assert len(caplog.records) == 1
    assert all(epoch(world_size)[0] == alone for world_size in (2, 4))


def test_stopping_is_the_default_and_names_the_shard(folder):
    _spoil(folder, 2)
    with pytest.raises(ShardFault, match=r"shard-00002\.parquet has other content"):
        BlockReader(folder, "train").read(np.arange(100))


def test_ids_outside_the_vocabulary_are_a_fault_of_their_shard(folder):
    manifest = Manifest.load(folder)
    file = folder / "train" / "shard-00004.parquet"
    kind = pa.list_(pa.field("element", pa.uint16(), nullable=False), 16)
    schema = pa.schema([pa.field("tokens", kind, nullable=False)])
    flat = pa.array(np.full(64, manifest.tokenizer.vocab_size, dtype=np.uint16))
    pq.write_table(pa.Table.from_arrays([pa.FixedSizeListArray.from_arrays(flat, type=kind)], schema=schema), file)
    _vouch(folder, 4)
    with pytest.raises(DataError, match=r"shard-00004\.parquet holds ids that are not below vocab_size=97"):
        list(islice(TokenStream(folder, StreamConfig(), MaskingConfig()).micro_batches(0, 4), 30))


def test_a_folder_without_a_single_shard_is_an_error_even_when_skipping(folder):
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match="no shard of the split can be read"):
        next(TokenStream(folder, StreamConfig(damaged="skip"), MaskingConfig()).micro_batches(0, 4))


def test_ranks_look_at_each_shard_once_between_them(folder):
    (folder / "train" / "shard-00002.parquet").unlink()
    manifest = Manifest.load(folder)
    failed = []
    for rank in range(3):
        try:
            BlockReader(folder, "train", manifest, rank=rank, world_size=3)
        except ShardFault:
            failed.append(rank)
    assert failed == [2]


def test_unknown_answers_to_damage_are_refused(folder):
    with pytest.raises(DataError, match=r"stream\.damaged=ignore"):
        TokenStream(folder, StreamConfig(damaged="ignore"), MaskingConfig())


def test_whole_words_are_masked_by_the_prepared_tokenizer(folder):
    stream = TokenStream(folder, StreamConfig(), MaskingConfig(unit="word", probability=0.4))
    batches = stream.micro_batches(0, 50)
    batch = next(batches)
    batches.close()
    pieces = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    continues = torch.zeros(stream.manifest.tokenizer.vocab_size, dtype=torch.bool)
    continues[[number for piece, number in pieces.items() if piece.startswith("##")]] = True
    original = batch.input_ids.scatter(1, batch.masked_positions, batch.labels)
    chosen = torch.zeros_like(original, dtype=torch.bool).scatter(1, batch.masked_positions, True)
    goes_on = continues[original[:, 1:]] & (original[:, :-1] >= 5)
    torn = goes_on & (chosen[:, 1:] != chosen[:, :-1])
    assert goes_on.sum() > 100
    assert torn.sum(dim=1).max() <= 1, "only the word that is cut for the exact number"
