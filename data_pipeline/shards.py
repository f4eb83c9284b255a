"""The prepared corpus on disk: a manifest, a tokenizer, and Parquet shards of whole token blocks.

    DIR/manifest.json   DIR/config.yaml   DIR/tokenizer/   DIR/train/shard-00000.parquet ...   DIR/validation/...

A shard has one column, "tokens": fixed-size lists of seq_length ids (uint16, or uint32 above 65,536 ids). All row
groups hold exactly row_group_blocks blocks, and all shards whole row groups; only the very last row group of a
split may be shorter. So block b of a split is row b mod row_group_blocks of row group b // row_group_blocks.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DataError
from .filesystem import file_sha256, write_bytes
from .folder import MANIFEST_FILE, TOKENIZER_FOLDER, Packing, folder_problem
from .names import name_problem, path_inside
from .problems import Problem
from .records import parse_json, parse_record
from .tokenizer import Vocabulary, vocabulary_faults

FORMAT_VERSION = 1
COLUMN = "tokens"
_SHA256 = re.compile("[0-9a-f]{64}")

TokenArray = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(slots=True)
class Shard:
    """One Parquet file of a split."""

    file: str
    """Path relative to the prepared folder."""
    sha256: str
    bytes: int
    blocks: int

    def row_groups(self, row_group_blocks: int) -> list[int]:
        """Blocks per row group; only the last of a split may differ from `row_group_blocks`."""
        full, rest = divmod(self.blocks, row_group_blocks)
        return [row_group_blocks] * full + [rest] * (rest > 0)


_SHARD_TYPES = get_type_hints(Shard)


def _shard_or_dict(parsed: dict[str, Any]) -> Any:
    """Make shards while parsing: a million dictionaries of them would take twice the memory of what they become."""
    is_shard = parsed.keys() == _SHARD_TYPES.keys() and all(type(parsed[name]) is _SHARD_TYPES[name] for name in parsed)
    return Shard(**parsed) if is_shard else parsed


@dataclass
class Split:
    """The shards of a split and what went into them."""

    shards: list[Shard]
    blocks: int
    tokens: int
    """Token positions in the blocks, [CLS] and [SEP] included: blocks * seq_length."""
    documents: int
    tokens_dropped: int
    """Ids at the end of the split that did not fill a block."""
    padding: int = 0
    """[PAD] positions in the blocks; none where documents run on from block to block."""
    fewest_ordinary: int | None = None
    """The least number of tokens in a block that are not special, which are those that can be masked; None where an
    earlier version did not count them."""


@dataclass
class Manifest:
    """What a prepared folder holds; written last, so a folder with a manifest is complete."""

    seq_length: int
    dtype: Literal["uint16", "uint32"]
    """How ids are stored."""
    row_group_blocks: int
    tokenizer: Vocabulary
    source: dict[str, list[dict[str, Any]]]
    """Where the text came from: per field of the corpus configuration, the sources with their files."""
    splits: dict[str, Split]
    """"train" and "validation"."""
    packing: Packing = "blocks"
    """"blocks": documents joined by [SEP] run on from block to block; "documents": whole documents side by side in a
    block, each with its own [CLS] and [SEP], padded at the end (see `find_documents` in documents.py)."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """What was read, what was left out and why, and how the tokenizer did, for people to look at."""
    format_version: int = FORMAT_VERSION

    def save(self, directory: str | Path) -> None:
        """Write DIR/manifest.json atomically."""
        write_bytes(Path(directory) / MANIFEST_FILE, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of manifest.json."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def load(cls, directory: str | Path) -> "Manifest":
        """Read and check DIR/manifest.json.

        Raises DataError when DIR is not a prepared folder, its format is unknown, the manifest is damaged, or the
        tokenizer beside it is not the one the shards were written with.
        """
        directory = Path(directory)
        if problem := folder_problem(directory):
            raise DataError(problem)
        file = directory / MANIFEST_FILE
        manifest = cls.from_bytes(file.read_bytes(), str(file))
        manifest._check(directory)
        return manifest

    @classmethod
    def from_bytes(cls, data: bytes, file: str) -> "Manifest":
        """Parse and check the content of manifest.json, read from `file`; DataError when unknown or damaged."""
        fix = "run `acn prepare` again"
        content = parse_json(data, file, fix=fix, object_hook=_shard_or_dict)
        version = content.get("format_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise DataError(
                Problem(
                    file,
                    wrong=f"has format_version {version}, this program reads {FORMAT_VERSION}",
                    fix="prepare again, or use the version of acn-lm that wrote it",
                )
            )
        try:
            manifest = parse_record(cls, content)
            if version is None or manifest.seq_length < 1 or manifest.row_group_blocks < 1:
                raise ValueError("format_version is missing, or seq_length or row_group_blocks not above 0")
            if any(shard.blocks < 1 for split in manifest.splits.values() for shard in split.shards):
                raise ValueError("a shard has no blocks")
        except ValueError as reason:
            raise DataError(Problem(file, wrong=f"is damaged: {reason}", fix=fix)) from reason
        for name, split in manifest.splits.items():
            if sum(shard.blocks for shard in split.shards) != split.blocks or any(
                shard.blocks % manifest.row_group_blocks for shard in split.shards[:-1]
            ):
                raise DataError(Problem(file, wrong=f": the shards of {name!r} do not add up", fix="prepare again"))
        manifest._check_names(file)
        return manifest

    def split(self, name: str) -> Split:
        """A split by name; DataError when the folder has none of that name."""
        if name not in self.splits:
            raise DataError(f"there is no split {name!r}, only {', '.join(self.splits)}")
        return self.splits[name]

    def _check_names(self, file: str) -> None:
        """Shards are read, sent and kept in caches under what the manifest calls them."""
        for shard in (shard for split in self.splits.values() for shard in split.shards):
            if problem := name_problem(shard.file, in_url=True):
                wrong = f"names the shard {str(shard.file)[:200]!r}, which {problem}"
                raise DataError(Problem(file, wrong=wrong, fix="do not use it: `acn prepare` writes no such name"))
            if not isinstance(shard.sha256, str) or not _SHA256.fullmatch(shard.sha256):
                wrong = f"has {str(shard.sha256)[:80]!r} as the sha256 of {shard.file}"
                raise DataError(Problem(file, wrong=wrong, fix="run `acn prepare` again"))

    def _check(self, directory: Path) -> None:
        folder = directory / TOKENIZER_FOLDER
        faults = vocabulary_faults(
            self.tokenizer, lambda name: path_inside(directory, f"{TOKENIZER_FOLDER}/{name}").read_bytes()
        )
        if faults:
            fix = "put the original folder back, or run `acn prepare` again with this tokenizer"
            raise DataError(*(Problem("", wrong=f"vocabulary mismatch: {folder}/{fault}", fix=fix) for fault in faults))


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest stored type that holds every id below `vocab_size`."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def block_type(dtype: str, seq_length: int) -> pa.DataType:
    """The Arrow type of the token column."""
    # nothing is ever null: saying so saves the definition levels and a fifth of the reading time
    return pa.list_(pa.field("element", pa.type_for_alias(dtype), nullable=False), seq_length)


class ShardWriter:
    """Writes the blocks of one split, given row group by row group, as numbered shards."""

    def __init__(
        self,
        root: Path,
        split: str,
        seq_length: int,
        dtype: str,
        row_group_blocks: int,
        shard_row_groups: int,
        stem: str = "shard",
    ) -> None:
        """Write ROOT/SPLIT/STEM-00000.parquet and so on, each of `shard_row_groups` row groups but the last."""
        self.shards: list[Shard] = []
        self._root, self._split, self._stem = root, split, stem
        self._row_group_blocks = row_group_blocks
        self._shard_blocks = row_group_blocks * shard_row_groups
        self._type = block_type(dtype, seq_length)
        self._schema = pa.schema([pa.field(COLUMN, self._type, nullable=False)])
        self._writer: pq.ParquetWriter | None = None
        self._blocks = 0
        (root / split).mkdir()

    def write_row_group(self, blocks: TokenArray) -> None:
        """Append a row group, (row_group_blocks, seq_length); only the split's last may be shorter."""
        assert 0 < len(blocks) <= self._row_group_blocks
        if self._writer is None:
            # ids are stored as 32-bit integers with two empty bytes; splitting the bytes into streams lets zstd
            # drop those: a fifth smaller and a fifth faster to read than plain or dictionary encoding
            self._writer = pq.ParquetWriter(
                self._root / self._name(),
                self._schema,
                compression="zstd",
                use_dictionary=False,
                column_encoding={f"{COLUMN}.list.element": "BYTE_STREAM_SPLIT"},
                write_statistics=False,
            )
        flat = pa.array(np.ascontiguousarray(blocks).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, type=self._type)
        table = pa.Table.from_arrays([column], schema=self._schema)
        self._writer.write_table(table, row_group_size=self._row_group_blocks)
        self._blocks += len(blocks)
        if self._blocks == self._shard_blocks:
            self.close()

    def close(self) -> None:
        """Finish the shard being written, if any."""
        if self._writer is None:
            return
        self._writer.close()
        file = self._root / self._name()
        self.shards.append(Shard(self._name(), file_sha256(file), file.stat().st_size, self._blocks))
        self._writer, self._blocks = None, 0

    def _name(self) -> str:
        return f"{self._split}/{self._stem}-{len(self.shards):05d}.parquet"
