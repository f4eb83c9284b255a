"""The last act of `acn prepare`: the tails of all units become the last shards, their records the manifest."""

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from ..errors import DataError, UnfinishedError
from ..folder import MANIFEST_FILE, TOKENIZER_FOLDER
from ..shards import Manifest, Shard, Split, dtype_for
from ..tokenizer import Vocabulary
from .encode import SPLITS, Job, Record, finished_units, load_tail
from .statistics import SourceTallies, tokenizer_report
from .store import Store
from .units import Unit


def merge_units(
    job: Job, store: Store, units: list[Unit], vocabulary: Vocabulary, source: dict[str, Any], tokenizer: dict[str, Any]
) -> Manifest:
    """Write the last shards and return the manifest, which is not written yet.

    `tokenizer` says where it came from, for the statistics. Cheap: less than a row group of every unit is read.
    Raises DataError when units are missing, a source has no text, or a split does not fill a block.
    """
    missing = sorted({unit.number for unit in units} - finished_units(store))
    if missing:
        raise DataError(
            f"part: {len(missing)} of {len(units)} units of work are not done yet (the first is number {missing[0]}): "
            "run the missing parts, or leave out part to do them here"
        )
    tallies = SourceTallies(job.corpus)
    for unit, record in _records(store, units):
        tallies.add(unit, record.tally)
    if (problem := tallies.problem()) is not None:
        raise problem
    splits = {split: _merge_split(job, store, units, vocabulary, split) for split in SPLITS}
    for name, split in splits.items():
        if not split.blocks:
            mend = "set corpus.validation_fraction higher" if name == "validation" else "lower seq_length"
            raise DataError(
                f"corpus: the {name} text ({split.documents} documents, {split.tokens_dropped} tokens) does not "
                f"fill one block of {job.seq_length}: give more text, or {mend}"
            )
    backend = Tokenizer.from_str(store.read(f"{TOKENIZER_FOLDER}/tokenizer.json").decode())
    report = tokenizer_report(backend, tallies.total(), vocabulary.special_ids)
    return Manifest(
        seq_length=job.seq_length,
        dtype=dtype_for(vocabulary.vocab_size),
        row_group_blocks=job.row_group_blocks,
        tokenizer=vocabulary,
        source=source,
        splits=splits,
        packing=job.packing,
        statistics={"sources": tallies.describe(), "tokenizer": {**report, **tokenizer}},
    )


def _records(store: Store, units: list[Unit]) -> Iterator[tuple[Unit, Record]]:
    for unit in units:
        yield unit, Record.load(store, unit.number)


def _merge_split(job: Job, store: Store, units: list[Unit], vocabulary: Vocabulary, split: str) -> Split:
    shards: list[Shard] = []
    blocks, documents, padding = 0, 0, 0
    with store.scratch() as folder:
        packer = job.packer(folder, split, "shard-tail", vocabulary)
        for unit, record in _records(store, units):
            part = record.splits[split]
            _check_there(store, part.shards)
            shards += part.shards
            blocks, documents, padding = blocks + part.blocks, documents + part.documents, padding + part.padding
            packer.add_tail(load_tail(store, unit.number, split))
        tails = packer.finish()
        for shard in tails.shards:
            store.put(folder / shard.file, shard.file)
    blocks += tails.blocks
    return Split(
        shards=shards + tails.shards,
        blocks=blocks,
        tokens=blocks * job.seq_length,
        documents=documents,
        tokens_dropped=tails.tokens_dropped,
        padding=padding + tails.padding,
    )


def _check_there(store: Store, shards: list[Shard]) -> None:
    for shard in shards:
        if store.size(shard.file) != shard.bytes:
            raise UnfinishedError(
                f"output: {store.url}/{shard.file} was written and is gone or has another size: somebody changed the "
                "folder; remove it and prepare again"
            )


def read_manifest(store: Store) -> Manifest:
    """The manifest of a finished store."""
    return Manifest.from_bytes(store.read(MANIFEST_FILE), f"{store.url}/{MANIFEST_FILE}")


def write_json(store: Store, name: str, content: Any) -> None:
    """Write JSON values as a file."""
    store.write(name, (json.dumps(content, indent=1) + "\n").encode())
