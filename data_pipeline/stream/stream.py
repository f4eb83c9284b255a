"""Masked micro-batches in the deterministic order of `order.py`, read ahead by one thread per rank."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..problems import Problem
from ..shards import Manifest
from .blocks import BlockReader
from .config import MaskingConfig, RemoteConfig, StreamConfig
from .counter_random import Int64Array
from .documents import PACKED_BY_DOCUMENTS, Masker
from .lanes import RankLanes
from .masking import IGNORED_LABEL, MaskedBatch
from .order import Order, default_lanes
from .prefetch import Prefetcher
from .shard_files import PreparedFolder


class TokenStream:
    """The training blocks of a prepared folder, or of one behind a URL, as one rank of `world_size` sees them.

    Opening reads manifest and tokenizer only. Raises DataError for a folder, configuration or world size that does
    not fit.
    """

    def __init__(
        self,
        directory: str | Path,
        config: StreamConfig,
        masking: MaskingConfig,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        problems = config.problems() + masking.problems()
        if problems:
            raise DataError(*problems)
        self._prepared = PreparedFolder(directory, config.remote)
        self.folder = self._prepared.path
        """Local folder with the manifest and the tokenizer."""
        self.manifest = Manifest.load(self.folder)
        self.config, self.masking = config, masking
        self.rank, self.world_size = rank, world_size
        self._masker = Masker(self.folder, self.manifest, masking, config.seed)
        self._reader: BlockReader | None = None
        blocks, cell = self.manifest.split("train").blocks, self.manifest.row_group_blocks
        lanes = config.lanes or default_lanes(blocks, cell)
        self.order = Order(blocks=blocks, lanes=lanes, window=config.window, seed=config.seed, cell=cell)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside 0..{world_size - 1}")
        problems = world_problems(lanes, world_size, global_batch_size=world_size)
        if problems:
            raise DataError(*problems)

    @property
    def blocks(self) -> int:
        """Blocks, that is samples, per epoch over all ranks."""
        return self.order.blocks

    @property
    def lanes(self) -> int:
        """The number of lanes in use."""
        return self.order.lanes

    @property
    def seq_length(self) -> int:
        """Tokens per block."""
        return self.manifest.seq_length

    @property
    def replaced_blocks(self) -> int:
        """Blocks that this rank has read in place of damaged ones since `micro_batches` was last called."""
        return self._reader.replaced_blocks if self._reader is not None else 0

    def identity(self) -> dict[str, Any]:
        """What decides which tokens sample G holds and how they are masked, as JSON values.

        A resumed run continues the same sequence exactly when this is the same as before; rank and world size are
        not part of it.
        """
        shards = self.manifest.split("train").shards
        return {
            "corpus": hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest(),
            "tokenizer": self.manifest.tokenizer.fingerprint,
            "seq_length": self.seq_length,
            "blocks": self.blocks,
            "row_group_blocks": self.order.cell,
            "lanes": self.lanes,
            "window": self.order.window,
            "seed": self.order.seed,
            "masking": self.masking.identity(),
        }

    @property
    def packed(self) -> bool:
        """Whether a block holds several documents, so that its batches are PackedBatches."""
        return self.manifest.packing == PACKED_BY_DOCUMENTS

    @property
    def targets_per_block(self) -> int | None:
        """How many tokens of every training block are predicted, where the manifest proves that all have as many."""
        wanted, fewest = self.masking.targets(self.seq_length), self.manifest.split("train").fewest_ordinary
        # the share of packed documents is one of each block's own tokens
        return None if self.packed or fewest is None or fewest < wanted else wanted

    def micro_batches(
        self,
        start_sample: int,
        micro_batch_size: int,
        prepare: Callable[[MaskedBatch], MaskedBatch] | None = None,
    ) -> Prefetcher[MaskedBatch]:
        """This rank's batches from global sample `start_sample` on, without end, epoch after epoch.

        Rank r of w gets the samples start + r, start + r + w, ..., `micro_batch_size` at a time; `start_sample`
        must be a multiple of w (ValueError otherwise). Any start costs the same. The batches are PackedBatches when
        the corpus was packed by documents. Raises DataError here for shards that are missing or of the wrong size,
        and while iterating for shards that cannot be read or fetched. Close the iterator, or drop it, to end its
        thread.

        Args:
            prepare: done to every batch in that thread.
        """
        if start_sample < 0 or start_sample % self.world_size:
            raise ValueError(f"start_sample={start_sample} is not a multiple of the {self.world_size} ranks")
        if micro_batch_size < 1:
            raise ValueError(f"micro_batch_size={micro_batch_size} must be at least 1")
        reader = BlockReader(
            self.folder,
            "train",
            self.manifest,
            files=self._prepared.files(),
            skip_damaged=self.config.damaged == "skip",
            rank=self.rank,
            world_size=self.world_size,
        )
        self._reader = reader
        return Prefetcher(self._produce(reader, start_sample, micro_batch_size, prepare), self.config.prefetch)

    def _produce(
        self, reader: BlockReader, start: int, size: int, prepare: Callable[[MaskedBatch], MaskedBatch] | None
    ) -> Generator[MaskedBatch, None, None]:
        lanes = RankLanes(reader, self.order, start, self.rank, self.world_size)
        samples = start + self.rank + self.world_size * np.arange(size, dtype=np.int64)
        try:
            while True:
                batch = self._masker(lanes.tokens(samples), samples)
                yield batch if prepare is None else prepare(batch)
                samples = samples + size * self.world_size
        finally:
            reader.close()


def world_problems(lanes: int, world_size: int, global_batch_size: int) -> list[Problem]:
    """Why this many ranks cannot share the lanes or the global batch, each with the fix; empty when they can."""
    found = []
    if lanes % world_size:
        fitting = [count for count in range(1, lanes + 1) if lanes % count == 0]
        below = max(count for count in fitting if count <= world_size)
        above = [str(count) for count in fitting if count > world_size][:1]
        found.append(
            Problem(
                "",
                wrong=f"{world_size} ranks do not divide the {lanes} lanes",
                fix=f"use {' or '.join([str(below), *above])} ranks, or for a new run set stream.lanes to a "
                f"multiple of {world_size}",
            )
        )
    if global_batch_size % world_size:
        lower = global_batch_size // world_size * world_size
        choices = [str(choice) for choice in (lower, lower + world_size) if choice]
        found.append(
            Problem(
                "global_batch_size",
                global_batch_size,
                f"is not a multiple of the {world_size} ranks",
                f"set it to {' or '.join(choices)}",
            )
        )
    return found


def validation_batches(
    directory: str | Path,
    masking: MaskingConfig,
    batch_size: int,
    max_blocks: int,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    remote: RemoteConfig | None = None,
) -> Iterator[MaskedBatch]:
    """A rank's share of the first `max_blocks` validation blocks, in fixed order and with fixed masks.

    Every block occurs exactly once over all ranks, and its masks do not depend on batch or world size. Every rank
    gets the same number of batches of `batch_size` rows; rows that only fill up have sample number -1 and labels
    -100 throughout. `remote` says how to read a folder behind a URL. Raises DataError for a folder without a readable
    validation split; a damaged shard is never skipped here, for the loss would be of other blocks.
    """
    remote = remote or RemoteConfig()
    problems = masking.problems() + remote.problems()
    if problems:
        raise DataError(*problems)
    prepared = PreparedFolder(directory, remote)
    manifest = Manifest.load(prepared.path)
    reader = BlockReader(prepared.path, "validation", manifest, files=prepared.files())
    masker = Masker(prepared.path, manifest, masking, seed)
    blocks = min(max_blocks, reader.blocks)
    count = validation_batch_count(blocks, batch_size, world_size)
    ids = rank + world_size * np.arange(count * batch_size, dtype=np.int64)
    batches = np.where(ids < blocks, ids, -1).reshape(-1, batch_size)
    return _masked_validation(reader, masker, batches)


def validation_batch_count(blocks: int, batch_size: int, world_size: int) -> int:
    """How many batches of `validation_batches` every rank gets of so many blocks."""
    rows = -(-blocks // world_size)  # of the rank with the most
    return -(-rows // batch_size)


def _masked_validation(reader: BlockReader, masker: Masker, batches: Int64Array) -> Iterator[MaskedBatch]:
    try:
        for ids in batches:
            tokens = reader.read(np.maximum(ids, 0))  # fill up with block 0
            batch = masker(tokens, ids)
            batch.labels[batch.samples < 0] = IGNORED_LABEL
            yield batch
    finally:
        reader.close()
