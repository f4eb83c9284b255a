"""The reading side of a prepared folder: blocks by id, row group by row group."""

import logging
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, ShardFault
from ..problems import Problem
from ..shards import Manifest, Shard, TokenArray
from .counter_random import Int64Array
from .shard_files import LocalFiles, ShardFiles

logger = logging.getLogger(__name__)


class BlockReader:
    """Reads blocks of a split by id. One thread at a time may use a reader."""

    def __init__(
        self,
        directory: str | Path,
        split: str,
        manifest: Manifest | None = None,
        files: ShardFiles | None = None,
        skip_damaged: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open a split; pass the manifest where it is already loaded, and `files` where they are not in the folder.

        Each of `world_size` readers looks after its share of the shards, so that together they look at each once.
        Raises ShardFault naming the first shard that is missing or has another size than the manifest says.

        With `skip_damaged` a row group that cannot be read is replaced by the next one of the split that can, so
        every block id keeps having tokens, the same ones for every reader; `replaced_blocks` counts them.
        """
        self.manifest = manifest or Manifest.load(directory)
        self._files = files or LocalFiles(Path(directory))
        self._shards = self.manifest.split(split).shards
        self.blocks = self.manifest.split(split).blocks
        self.replaced_blocks = 0
        """Blocks read so far that stood in for others."""
        self._skip_damaged = skip_damaged
        counts = np.fromiter((shard.blocks for shard in self._shards), dtype=np.int64, count=len(self._shards))
        self._group_ends = np.cumsum(-(-counts // self.manifest.row_group_blocks))
        self._open: OrderedDict[int, tuple[pa.NativeFile, pq.ParquetFile]] = OrderedDict()
        self._lost_shards: set[int] = set()
        self._lost_groups: set[int] = set()
        for number in range(rank, len(self._shards), world_size):
            try:
                self._files.check(self._shards[number])
            except ShardFault as fault:
                self._lose_shard(number, fault)

    def read(self, ids: Int64Array) -> TokenArray:
        """The blocks with the given ids, in the given order: (n,) -> (n, seq_length), row group by row group."""
        result = np.empty((len(ids), self.manifest.seq_length), dtype=self.manifest.dtype)
        self.read_into(ids, result, np.arange(len(ids)))
        return result

    def read_into(self, ids: Int64Array, target: TokenArray, rows: Int64Array) -> None:
        """Write the blocks `ids`, (n,), to the rows `rows`, (n,), of `target`, (rows, seq_length)."""
        groups, inside = np.divmod(ids, self.manifest.row_group_blocks)
        for group in np.unique(groups).tolist():
            chosen = np.flatnonzero(groups == group)
            tokens = self._tokens(group)
            if tokens is None:
                tokens = self._stand_in(group)
                self.replaced_blocks += len(chosen)
            target[rows[chosen]] = tokens[inside[chosen] % len(tokens)]

    def announce(self, ids: Int64Array) -> None:
        """Say that these blocks will be read soon."""
        groups = np.unique(ids // self.manifest.row_group_blocks)
        numbers = np.unique(np.searchsorted(self._group_ends, groups, side="right")).tolist()
        self._files.announce(self._shards[number] for number in numbers if number not in self._open)

    def close(self) -> None:
        """Close all open shards."""
        while self._open:
            self._open.popitem()[1][0].close()
        self._files.close()

    def _stand_in(self, lost: int) -> TokenArray:
        """The row group that replaces a lost one: the next that can be read, the first following the last."""
        total = int(self._group_ends[-1])
        for step in range(1, total):
            tokens = self._tokens((lost + step) % total)
            if tokens is not None:
                return tokens
        raise DataError(
            "stream.damaged=skip: no shard of the split can be read: restore them or run `acn prepare` again"
        )

    def _tokens(self, group: int) -> TokenArray | None:
        """A row group as (blocks, seq_length), None when it is lost and may be replaced."""
        number = int(np.searchsorted(self._group_ends, group, side="right"))
        if number in self._lost_shards or group in self._lost_groups:
            return None
        try:
            file = self._parquet(number)
        except ShardFault as fault:
            self._lose_shard(number, fault)
            return None
        try:
            return self._row_group(file, number, group)
        except ShardFault as fault:
            if not self._skip_damaged:
                raise
            logger.warning("%s (row group %d is replaced by the next that can be read)", fault, group)
            self._lost_groups.add(group)
            return None

    def _lose_shard(self, number: int, fault: ShardFault) -> None:
        """Go on without a shard, or raise its fault."""
        if not self._skip_damaged:
            raise fault
        logger.warning("%s (its blocks are replaced by those of the next shard that can be read)", fault)
        self._lost_shards.add(number)

    def _row_group(self, file: pq.ParquetFile, number: int, group: int) -> TokenArray:
        """One row group of the split as a view of Arrow's memory, (blocks, seq_length)."""
        shard = self._shards[number]
        first = int(self._group_ends[number - 1]) if number else 0
        try:
            column = file.read_row_group(group - first, use_threads=False).column(0)
            tokens: TokenArray = column.combine_chunks().flatten().to_numpy(zero_copy_only=True)
        except (OSError, pa.ArrowException) as error:
            raise self._fault(shard, f"cannot be read ({error})") from error
        if len(tokens) and int(tokens.max()) >= self.manifest.tokenizer.vocab_size:
            raise self._fault(shard, f"holds ids that are not below vocab_size={self.manifest.tokenizer.vocab_size}")
        return tokens.reshape(-1, self.manifest.seq_length)

    def _parquet(self, number: int) -> pq.ParquetFile:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number][1]
        shard = self._shards[number]
        stream = self._files.open(shard)
        try:
            file = pq.ParquetFile(stream)
            self._check_layout(shard, file)
        except (OSError, pa.ArrowException) as error:
            stream.close()
            raise self._fault(shard, f"cannot be read ({error})") from error
        except ShardFault:
            stream.close()
            raise
        self._open[number] = (stream, file)
        if len(self._open) > self._files.keep_open:
            self._open.popitem(last=False)[1][0].close()
        return file

    def _check_layout(self, shard: Shard, file: pq.ParquetFile) -> None:
        metadata = file.metadata
        found = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        kind = str(file.schema_arrow.field(0).type)
        if (
            found != shard.row_groups(self.manifest.row_group_blocks)
            or self.manifest.dtype not in kind
            or not re.search(re.escape(f"[{self.manifest.seq_length}]") + "$", kind)
        ):
            raise self._fault(shard, f"does not hold what the manifest says ({kind})")

    def _fault(self, shard: Shard, what: str) -> ShardFault:
        fix = "restore the file or run `acn prepare` again"
        return ShardFault(Problem(f"shard {self._files.name(shard)}", wrong=what, fix=fix))
