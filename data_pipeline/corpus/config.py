"""What `acn prepare` makes of which text."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..filesystem import is_url
from ..folder import Packing
from ..problems import Problem, number_problems
from .sources import CorpusConfig

_PART = re.compile(r"(\d+)/(\d+)")
_WITHOUT_EFFECT = ("output", "workers", "part")  # on the bytes that are written


@dataclass
class PrepareConfig:
    """Turn raw text into a folder of token shards."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """The text."""
    output: str = ""
    """Folder or URL (s3://bucket/folder) to write; it must not exist yet, unless an unfinished `acn prepare` with the
    same settings left it: then the work goes on."""
    vocab_size: int = 32768
    """Most entries of the vocabulary to train; a small corpus gives fewer. Not used when `tokenizer` is given."""
    seq_length: int = 128
    """Tokens per block, [CLS] and [SEP] included."""
    tokenizer: str | None = None
    """Existing tokenizer: a Hugging Face folder, or NAME[@REVISION] of the Hub. Without it, one is trained."""
    tokenizer_kind: Literal["wordpiece", "bpe"] = "wordpiece"
    """What to train: the paper's lower-casing WordPiece, or a byte-level BPE that keeps case and spells everything."""
    tokenizer_sample_mb: float = 100.0
    """Megabytes of training text that the vocabulary is trained on: the first documents of every unit of work, in
    proportion to its size."""
    packing: Packing = "blocks"
    """How documents become blocks: "blocks" joins them by [SEP] and cuts every seq_length tokens (the paper's, no
    padding); "documents" keeps them whole where they fit, side by side and padded, for attention within documents."""
    row_group_blocks: int = 512
    """Blocks per Parquet row group, the unit that is read and shuffled."""
    shard_row_groups: int = 64
    """Row groups per shard file at most: 64 of 512 blocks of 128 tokens are 4 million tokens."""
    unit_mb: float = 0.0
    """Stored megabytes of the sources per unit of work: what a worker does at a time, and what a killed run does again
    at most. It decides which blocks stand in which shard. 0 aims at 256 units of 4 to 256 MiB."""
    workers: int = 1
    """Processes that read and tokenize, a core each; the result is the same for any number. 1 works in this process,
    with the tokenizer's threads on all cores."""
    part: str | None = None
    """For several machines that share `output`: 'i/n' does the i-th of n parts of the work, and when all are done
    'merge' writes the manifest. The result is the same as that of one machine."""

    def problems(self) -> list[Problem]:
        """Missing files count too."""
        least = {"vocab_size": 64, "seq_length": 8, "row_group_blocks": 1, "shard_row_groups": 1, "workers": 1}
        found = number_problems(self)
        found += [
            Problem(name, getattr(self, name), f"must be at least {minimum}")
            for name, minimum in least.items()
            if getattr(self, name) < minimum
        ]
        if self.tokenizer_kind == "bpe" and self.tokenizer is None and self.vocab_size < 512:
            found.append(Problem("vocab_size", self.vocab_size, "must be at least 512 for a byte-level BPE"))
        if self.tokenizer_sample_mb <= 0:
            found.append(Problem("tokenizer_sample_mb", self.tokenizer_sample_mb, "must be above 0"))
        if self.unit_mb < 0:
            found.append(Problem("unit_mb", self.unit_mb, "must be at least 0"))
        if not self.output:
            found.append(Problem("output", wrong="is empty", fix="name a folder to write"))
        elif is_url(self.output) and any(character in self.output for character in "*?["):
            fix = "choose a name without *, ? and ["  # which fsspec takes for a pattern when it removes
            found.append(Problem("output", self.output, "looks like a pattern", fix))
        if self.part is not None and self.part != "merge":
            match = _PART.fullmatch(self.part)
            if not match or not 1 <= int(match[1]) <= int(match[2]):
                found.append(Problem("part", repr(self.part), "must be 'i/n' with i from 1 to n, or 'merge'"))
        return found + self.corpus.problems()

    def settings(self) -> dict[str, Any]:
        """What decides the bytes that are written, as plain values."""
        return {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT}

    def is_mine(self, unit: int) -> bool:
        """Whether `part` says to do this unit of work."""
        match = _PART.fullmatch(self.part or "1/1")
        return match is not None and unit % int(match[2]) == int(match[1]) - 1
