"""What is done to one unit: its documents are tokenized, packed and written as shards, a tail and a record."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer

from ..folder import TOKENIZER_FOLDER
from ..shards import dtype_for
from ..tokenizer import Vocabulary
from .job import SPLITS, Job, Record, UnitSplit, save_tail
from .packing import Packer
from .progress import Step
from .selection import Kept, hash_unit, hashes_file, hashes_to_bytes, unit_duplicates, used_documents
from .store import Store
from .units import Unit

_BATCH_CHARACTERS = 1 << 20  # text encoded at once
_BATCH_DOCUMENTS = 4096


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
                splits[split] = UnitSplit(
                    shards, packer.blocks, packer.documents, packer.padding, packer.fewest_ordinary
                )
        Record(unit.number, splits, dict(sorted(tally.items()))).save(self._store)

    def _pack(self, batch: list[Kept], packers: dict[str, Packer], vocabulary: Vocabulary, tally: Counter[str]) -> None:
        texts = [text for _, text in batch]
        dtype = dtype_for(vocabulary.vocab_size)
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        ids = [np.array(encoding.ids, dtype=dtype) for encoding in encodings]
        for split, packer in packers.items():
            packer.add([part for (name, _), part in zip(batch, ids, strict=True) if name == split])
        if vocabulary.unk_token_id is not None:
            counts = [int(np.count_nonzero(part == vocabulary.unk_token_id)) for part in ids]
            tally["unknown"] += sum(counts)
            unsure = [text for text, count in zip(texts, counts, strict=True) if count]
            tally["unknown_characters"] += self._unknown_characters(unsure, vocabulary.unk_token_id)
        tally["documents"] += len(batch)
        tally["tokens"] += sum(map(len, ids))
        tally["characters"] += sum(map(len, texts))
        tally["bytes"] += sum(len(text.encode("utf-8", "replace")) for text in texts)

    def _unknown_characters(self, texts: list[str], unknown: int) -> int:
        """How many characters of texts stand under an unknown token."""
        spans = (
            encoding.token_to_chars(index)
            for encoding in self._backend.encode_batch(texts, add_special_tokens=False)  # the fast one has no offsets
            for index, number in enumerate(encoding.ids)
            if number == unknown
        )
        return sum(span[1] - span[0] for span in spans if span is not None)


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
