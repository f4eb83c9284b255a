"""`acn data verify`: is a prepared folder still what its manifest says?"""

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..folder import MANIFEST_FILE, TOKENIZER_FOLDER
from ..shards import COLUMN, Manifest, Shard, TokenArray, block_type
from ..tokenizer import vocabulary_faults
from .progress import Progress, Say, Step
from .store import Store, read_manifest

_NAMED_ROWS = 3  # so many blocks of a shard are named when they are at fault


def verify_corpus(directory: str, workers: int = 1, say: Say = print) -> list[str]:
    """Every fault of a prepared folder or URL, each naming the file; an empty list when there is none.

    Reads everything: sha256, size, row groups, column type, ids below the vocabulary size, and the framing of every
    block, `workers` shards at once with a thread each. Raises DataError when there is no readable manifest to check
    against.
    """
    store = Store(directory)
    try:
        manifest = read_manifest(store)
    except FileNotFoundError as error:
        fix = "give a folder that `acn prepare` has finished"
        raise DataError(f"verify: {store.url} has no {MANIFEST_FILE}: {fix}") from error
    faults = [*_tokenizer_faults(store, manifest), *_count_faults(manifest)]
    work = [(shard, shard is split.shards[-1]) for split in manifest.splits.values() for shard in split.shards]
    weights = {number: shard.bytes for number, (shard, _) in enumerate(work)}
    with Progress("checking", weights, say) as progress, ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda item: list(shard_faults(store, manifest, *item)), work)
        for number, ((shard, _), its_faults) in enumerate(zip(work, found, strict=True)):
            faults += [f"{shard.file}: {fault}" for fault in its_faults]
            progress.update(number, Step(0, shard.bytes, shard.blocks * manifest.seq_length, 1.0))
            progress.finish(number)
    return faults


def _tokenizer_faults(store: Store, manifest: Manifest) -> Iterator[str]:
    for fault in vocabulary_faults(manifest.tokenizer, lambda name: store.read(f"{TOKENIZER_FOLDER}/{name}")):
        name, _, what = fault.partition(" ")
        yield f"{TOKENIZER_FOLDER}/{name}: {what}"


def _count_faults(manifest: Manifest) -> Iterator[str]:
    for name, split in manifest.splits.items():
        if split.tokens != split.blocks * manifest.seq_length:
            yield f"{MANIFEST_FILE}: {name} says {split.tokens} tokens, not {split.blocks} x {manifest.seq_length}"
        if len({shard.file for shard in split.shards}) != len(split.shards):
            yield f"{MANIFEST_FILE}: {name} names a shard twice"


def shard_faults(store: Store, manifest: Manifest, shard: Shard, is_last: bool) -> Iterator[str]:
    """What is wrong with a shard; only a split's last may end with a short row group."""
    try:
        content = store.read(shard.file)
    except FileNotFoundError:
        yield "is missing"
        return
    if len(content) != shard.bytes:
        yield f"has {len(content)} bytes instead of {shard.bytes}"
    elif hashlib.sha256(content).hexdigest() != shard.sha256:
        yield "has another sha256 than the manifest says"
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        expected = block_type(manifest.dtype, manifest.seq_length)
        if file.schema_arrow.names != [COLUMN] or file.schema_arrow.field(0).type != expected:
            kinds = ", ".join(f"{field.name}: {field.type}" for field in file.schema_arrow)
            yield f"holds {kinds} instead of {COLUMN}: {expected}"
            return
        rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        if rows != shard.row_groups(manifest.row_group_blocks):
            yield f"has row groups of {rows} blocks, not {shard.blocks} blocks by {manifest.row_group_blocks}"
        elif not is_last and shard.blocks % manifest.row_group_blocks:
            yield "ends with a short row group, which only the last shard of a split may"
        for number in range(file.num_row_groups):
            column = file.read_row_group(number, use_threads=False).column(0).combine_chunks()
            tokens = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, manifest.seq_length)
            yield from _block_faults(tokens, manifest, number * manifest.row_group_blocks)
    except (OSError, pa.ArrowException) as error:
        yield f"cannot be read ({' '.join(str(error).split())})"


def _block_faults(tokens: TokenArray, manifest: Manifest, first: int) -> Iterator[str]:
    """What is wrong with the blocks of a row group, (B, T); `first` is the number of its first block in the shard."""
    words = manifest.tokenizer
    outside = np.any(tokens >= words.vocab_size, axis=1)
    if outside.any():
        yield f"holds ids of {words.vocab_size} and above, outside the vocabulary, in {_named(outside, first)}"
    framed = _framed_by_documents if manifest.packing == "documents" else _framed_as_a_whole
    wrong = ~framed(tokens, manifest) | (tokens == words.mask_token_id).any(axis=1)
    if wrong.any():
        yield f"is not framed as {manifest.packing!r} are in {_named(wrong, first)}"


def _named(rows: npt.NDArray[np.bool_], first: int) -> str:
    numbers = (np.flatnonzero(rows) + first).tolist()
    more = f" and {len(numbers) - _NAMED_ROWS} more" if len(numbers) > _NAMED_ROWS else ""
    return f"block {', '.join(map(str, numbers[:_NAMED_ROWS]))}{more}"


def _framed_as_a_whole(tokens: TokenArray, manifest: Manifest) -> npt.NDArray[np.bool_]:
    """(B,) whether blocks are [CLS] ids [SEP], with neither [CLS] nor [PAD] inside."""
    words = manifest.tokenizer
    inner = tokens[:, 1:-1]
    stray = (inner == words.cls_token_id) | (inner == words.pad_token_id)
    framed: npt.NDArray[np.bool_] = (
        (tokens[:, 0] == words.cls_token_id) & (tokens[:, -1] == words.sep_token_id) & ~stray.any(axis=1)
    )
    return framed


def _framed_by_documents(tokens: TokenArray, manifest: Manifest) -> npt.NDArray[np.bool_]:
    """(B,) whether blocks are documents [CLS] ids [SEP] one after the other, then [PAD] only."""
    words = manifest.tokenizer
    is_cls, is_sep = tokens == words.cls_token_id, tokens == words.sep_token_id
    is_pad = tokens == words.pad_token_id
    follows_sep = np.zeros_like(is_sep)
    follows_sep[:, 1:] = is_sep[:, :-1]
    follows_pad = np.zeros_like(is_sep)
    follows_pad[:, 1:] = is_pad[:, :-1]
    begins = follows_sep | follows_pad
    begins[:, 0] = True
    # after a [SEP] comes a [CLS] or the padding, after padding only padding, and neither comes anywhere else
    right = np.where(follows_pad, is_pad, np.where(begins, is_cls | is_pad, ~is_cls & ~is_pad))
    empty = is_sep[:, 1:] & is_cls[:, :-1]
    framed: npt.NDArray[np.bool_] = (
        right.all(axis=1) & is_cls[:, 0] & (is_sep[:, -1] | is_pad[:, -1]) & ~empty.any(axis=1)
    )
    return framed
