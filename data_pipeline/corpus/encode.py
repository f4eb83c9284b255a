"""What is done to one unit: its documents are tokenized, packed and written as shards, a tail and a record.

The record is written last. A unit that has one is finished and never done again; whatever a killed process left of an
unfinished unit is overwritten by the next one with the same bytes.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..folder import TOKENIZER_FOLDER, WORK_FOLDER
from ..shards import Shard, ShardWriter, TokenArray, dtype_for
from ..tokenizer import Vocabulary
from .packing import PACKERS, Packer
from .progress import Step
from .selection import hash_unit, hashes_file, hashes_to_bytes, unit_duplicates
from .sources import CorpusConfig
from .store import Store
from .units import Kept, Unit, used_documents

SPLITS = ("train", "validation")
UNITS_FOLDER = f"{WORK_FOLDER}/units"
_BATCH_CHARACTERS = 1 << 20  # text encoded at once
_BATCH_DOCUMENTS = 4096


@dataclass(frozen=True)
class Job:
    """All that a worker process needs to know."""

    output: str
    corpus: CorpusConfig
    seq_length: int
    row_group_blocks: int
    shard_row_groups: int
    packing: str

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
        """Read the record of a finished unit."""
        content = json.loads(store.read(cls.file(unit)))
        for name, split in content["splits"].items():
            shards = [Shard(**shard) for shard in split.pop("shards")]
            content["splits"][name] = UnitSplit(shards=shards, **split)
        return cls(**content)


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


class Worker:
    """Does units of a job in this process, one after the other."""

    def __init__(self, job: Job, vocabulary: Vocabulary | None = None) -> None:
        """The vocabulary is needed to encode; hashing does without a tokenizer."""
        self._job = job
        self._vocabulary = vocabulary
        self._store = Store(job.output)
        if vocabulary is not None:
            self._backend = Tokenizer.from_str(self._store.read(f"{TOKENIZER_FOLDER}/tokenizer.json").decode())
            self._backend.no_truncation()
            self._backend.no_padding()
            self._backend.encode_special_tokens = True  # a "[MASK]" in someone's text is text

    def steps(self, unit: Unit) -> Iterator[Step]:
        """Do a unit, reporting on the way: encode it when there is a vocabulary, else hash its documents."""
        return self._hash(unit) if self._vocabulary is None else self._encode(unit, self._vocabulary)

    def _hash(self, unit: Unit) -> Iterator[Step]:
        documents, size, hashes = 0, 0, bytearray()
        for more, read, share, digests in hash_unit(self._job.corpus, unit):
            documents, size = documents + more, size + read
            hashes += digests
            yield Step(documents, size, 0, share)
        self._store.write(hashes_file(unit.number), hashes_to_bytes(bytes(hashes)))

    def _encode(self, unit: Unit, vocabulary: Vocabulary) -> Iterator[Step]:
        tally: Counter[str] = Counter()
        with self._store.scratch() as folder:
            stem = f"shard-{unit.number:05d}"
            packers = {split: self._job.packer(folder, split, stem, vocabulary) for split in SPLITS}
            duplicates = unit_duplicates(self._job.corpus, unit, self._store)
            for batch, share in _batches(used_documents(self._job.corpus, unit, duplicates, tally)):
                self._pack(batch, packers, vocabulary, tally)
                yield Step(tally["documents"], tally["bytes"], tally["tokens"], share)
            splits = {}
            for split, packer in packers.items():
                tail, shards = packer.take_tail(), packer.shards
                for shard in shards:
                    self._store.put(folder / shard.file, shard.file)
                if tail:
                    save_tail(self._store, unit.number, split, tail)
                splits[split] = UnitSplit(shards, packer.blocks, packer.documents, packer.padding)
        Record(unit.number, splits, dict(sorted(tally.items()))).save(self._store)

    def _pack(self, batch: list[Kept], packers: dict[str, Packer], vocabulary: Vocabulary, tally: Counter[str]) -> None:
        texts = [text for _, text in batch]
        dtype = dtype_for(vocabulary.vocab_size)
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        ids = [np.array(encoding.ids, dtype=dtype) for encoding in encodings]
        for split, packer in packers.items():
            packer.add([part for (name, _), part in zip(batch, ids, strict=True) if name == split])
        if vocabulary.unk_token_id is not None:
            tally["unknown"] += sum(int(np.count_nonzero(part == vocabulary.unk_token_id)) for part in ids)
        tally["documents"] += len(batch)
        tally["tokens"] += sum(map(len, ids))
        tally["characters"] += sum(map(len, texts))
        tally["bytes"] += sum(len(text.encode("utf-8", "replace")) for text in texts)


def _batches(read: Iterator[tuple[list[Kept], float]]) -> Iterator[tuple[list[Kept], float]]:
    """Consecutive documents about a million characters at a time; a single longer one goes by itself."""
    batch: list[Kept] = []
    size, share = 0, 0.0
    for documents, share in read:
        for document in documents:
            batch.append(document)
            size += len(document[1])
            if size >= _BATCH_CHARACTERS or len(batch) == _BATCH_DOCUMENTS:
                yield batch, share
                batch, size = [], 0
    if batch:
        yield batch, share
