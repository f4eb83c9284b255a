"""The job of preparing a corpus: what everyone who does a part of it is told, and what is left behind of each unit.

The record of a unit is written last. A unit that has one is finished and never done again; whatever a killed process
left of an unfinished unit is overwritten by the next one with the same bytes.
"""

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..folder import WORK_FOLDER, Packing
from ..shards import Shard, ShardWriter, TokenArray, dtype_for
from ..tokenizer import Vocabulary
from .packing import PACKERS, Packer
from .sources import CorpusConfig
from .store import Store

SPLITS = ("train", "validation")
UNITS_FOLDER = f"{WORK_FOLDER}/units"


@dataclass(frozen=True)
class Job:
    """All that a worker process needs to know."""

    output: str
    corpus: CorpusConfig
    seq_length: int
    row_group_blocks: int
    shard_row_groups: int
    packing: Packing

    def packer(self, folder: Any, split: str, stem: str, vocabulary: Vocabulary) -> Packer:
        """A packer that writes FOLDER/SPLIT/STEM-00000.parquet and so on."""
        dtype = dtype_for(vocabulary.vocab_size)
        writer = ShardWriter(folder, split, self.seq_length, dtype, self.row_group_blocks, self.shard_row_groups, stem)
        return PACKERS[self.packing](writer, vocabulary, self.seq_length, self.row_group_blocks, dtype)


@dataclass
class UnitSplit:
    """What a unit gave to one split."""

    shards: list[Shard]
    blocks: int
    documents: int
    padding: int
    fewest_ordinary: int | None = None
    """As in `Split`; None where there are no blocks, too."""


@dataclass
class Record:
    """What became of a unit; as a file, the sign that it is finished."""

    unit: int
    splits: dict[str, UnitSplit]
    tally: dict[str, int] = field(default_factory=dict)
    """Counts over the unit: documents, bytes, characters, tokens, unknown, and what was left out by reason."""

    @staticmethod
    def file(unit: int) -> str:
        """Where the record of a unit is kept."""
        return f"{UNITS_FOLDER}/{unit:05d}.json"

    def save(self, store: Store) -> None:
        """Write the record."""
        store.write(self.file(self.unit), json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, store: Store, unit: int) -> "Record":
        """Read the record of a finished unit; DataError when it is damaged."""
        return store.read_record(cls, cls.file(unit))


def finished_units(store: Store) -> set[int]:
    """Numbers of the units that have a record."""
    return {int(name.removesuffix(".json")) for name in store.names(UNITS_FOLDER) if name.endswith(".json")}


def tail_file(unit: int, split: str) -> str:
    """Where the ids that filled no row group are kept."""
    return f"{UNITS_FOLDER}/{unit:05d}.{split}.npz"


def save_tail(store: Store, unit: int, split: str, pieces: list[TokenArray]) -> None:
    """Write the tail of a unit: its pieces, joined, and their lengths."""
    stream = io.BytesIO()
    np.savez(stream, ids=np.concatenate(pieces), lengths=np.array([len(piece) for piece in pieces]))
    store.write(tail_file(unit, split), stream.getvalue())


def load_tail(store: Store, unit: int, split: str) -> list[TokenArray]:
    """The pieces of a unit's tail; none where it has no tail."""
    try:
        content = np.load(io.BytesIO(store.read(tail_file(unit, split))), allow_pickle=False)
    except FileNotFoundError:
        return []
    ends: npt.NDArray[np.int64] = np.cumsum(content["lengths"])
    return np.split(content["ids"], ends[:-1])
