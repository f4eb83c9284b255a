"""The reading side of a prepared folder: blocks by id, row group by row group."""

import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.errors import DataError
from data_pipeline.hashing import Int64Array
from data_pipeline.shards import Manifest, Shard, TokenArray

_OPEN_SHARDS = 64


class BlockReader:
    """Reads blocks of a split by id. One thread at a time may use a reader."""

    def __init__(self, directory: str | Path, split: str, manifest: Manifest | None = None) -> None:
        """Open a split; pass the manifest where it is already loaded.

        Raises DataError naming the first shard that is missing or has another size than the manifest says.
        """
        self._directory = Path(directory)
        self.manifest = manifest or Manifest.load(directory)
        self._shards = self.manifest.split(split).shards
        self.blocks = self.manifest.split(split).blocks
        self._group_ends = np.cumsum(
            [-(-shard.blocks // self.manifest.row_group_blocks) for shard in self._shards], dtype=np.int64
        )
        self._open: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        for shard in self._shards:
            self._check_file(shard)

    def read(self, ids: Int64Array) -> TokenArray:
        """The blocks with the given ids, in the given order: (n,) -> (n, seq_length), row group by row group."""
        cell = self.manifest.row_group_blocks
        groups, rows = np.divmod(ids, cell)
        result = np.empty((len(ids), self.manifest.seq_length), dtype=self.manifest.dtype)
        for group in np.unique(groups):
            chosen = np.flatnonzero(groups == group)
            result[chosen] = self._row_group(int(group))[rows[chosen]]
        return result

    def close(self) -> None:
        """Close all open shards."""
        while self._open:
            self._open.popitem()[1].close()

    def _row_group(self, group: int) -> TokenArray:
        """One row group of the split as a view of Arrow's memory, (blocks, seq_length)."""
        number = int(np.searchsorted(self._group_ends, group, side="right"))
        shard = self._shards[number]
        first = int(self._group_ends[number - 1]) if number else 0
        try:
            column = self._parquet(number).read_row_group(group - first, use_threads=False).column(0)
            tokens: TokenArray = column.combine_chunks().flatten().to_numpy(zero_copy_only=True)
        except (OSError, pa.ArrowException) as error:
            raise self._fault(shard, f"cannot be read ({error})") from error
        return tokens.reshape(-1, self.manifest.seq_length)

    def _parquet(self, number: int) -> pq.ParquetFile:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self._shards[number]
        self._check_file(shard)
        file = pq.ParquetFile(self._directory / shard.file)
        metadata = file.metadata
        found = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        kind = str(file.schema_arrow.field(0).type)
        expected = f"[{self.manifest.seq_length}]"
        if (
            found != shard.row_groups(self.manifest.row_group_blocks)
            or self.manifest.dtype not in kind
            or not re.search(re.escape(expected) + "$", kind)
        ):
            file.close()
            raise self._fault(shard, f"does not hold what the manifest says ({kind})")
        self._open[number] = file
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return file

    def _check_file(self, shard: Shard) -> None:
        try:
            size = (self._directory / shard.file).stat().st_size
        except FileNotFoundError as error:
            raise self._fault(shard, "is missing") from error
        if size != shard.bytes:
            raise self._fault(shard, f"has {size} bytes instead of {shard.bytes}")

    def _fault(self, shard: Shard, what: str) -> DataError:
        return DataError(f"shard {self._directory / shard.file} {what}: restore the file or run `acn prepare` again")
