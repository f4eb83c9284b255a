"""How a prepared corpus is read and masked."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..problems import Problem

SPAN_LENGTH = 3.8
"""Mean tokens of a span where nothing is given: SpanBERT's (Joshi et al., arXiv 1907.10529)."""


@dataclass
class MaskingConfig:
    """Which tokens a model has to predict, and what it sees in their place (BERT's 15 % and 80/10/10)."""

    probability: float = 0.15
    """Share of a block's tokens to predict; every block gets exactly the same number of targets."""
    mask_fraction: float = 0.8
    """Share of the targets that the model sees as the mask token."""
    random_fraction: float = 0.1
    """Share of the targets that the model sees as a random token; the rest stay as they are."""
    unit: Literal["token", "word", "span"] = "token"
    """What is chosen together: single tokens, all pieces of a word, or spans of neighbouring tokens that are also
    replaced together. The last word or span of a block is cut where the exact number of targets asks for it."""
    span_length: float | None = None
    """Mean tokens of a span, whose lengths are geometric; 3.8 when not given. Only with masking.unit=span."""

    def problems(self) -> list[Problem]:
        found = []
        if not 0 < self.probability < 1:
            found.append(Problem("masking.probability", self.probability, "must lie between 0 and 1"))
        found += [
            Problem(f"masking.{name}", getattr(self, name), "must lie from 0 to 1")
            for name in ("mask_fraction", "random_fraction")
            if not 0 <= getattr(self, name) <= 1
        ]
        if self.mask_fraction + self.random_fraction > 1 + 1e-9:
            found.append(
                Problem(
                    "masking.mask_fraction",
                    wrong="and masking.random_fraction add up to more than 1",
                    fix="lower one of them",
                )
            )
        if self.unit not in ("token", "word", "span"):
            found.append(Problem("masking.unit", self.unit, "is unknown", "use token, word or span"))
        if self.span_length is not None:
            if self.unit != "span":
                found.append(
                    Problem(
                        "masking.span_length", self.span_length, "needs masking.unit=span", "set that, or leave it out"
                    )
                )
            if not self.span_length >= 1:
                found.append(Problem("masking.span_length", self.span_length, "must be at least 1"))
        return found

    def targets(self, seq_length: int) -> int:
        """Targets per block, M, from the seq_length - 2 places between [CLS] and [SEP]."""
        return max(1, int(self.probability * (seq_length - 2) + 0.5))

    def identity(self) -> dict[str, Any]:
        """What decides the masks, as JSON values; a setting that came later counts only where it is used."""
        settings = asdict(self)
        if self.unit == "token":
            del settings["unit"]
        if self.unit == "span":
            settings["span_length"] = self.span_length or SPAN_LENGTH
        else:
            del settings["span_length"]
        return settings


@dataclass
class RemoteConfig:
    """How a prepared folder behind a URL is read: where its shards are kept, and how patiently they are fetched."""

    cache: str = "~/.cache/acn-lm"
    """Folder for fetched shards, on a disk of the machine itself; all ranks and runs of the machine share it. It also
    remembers which local shards were found to have the sha256 that their manifest says."""
    cache_gb: float = 50.0
    """Most gigabytes (10^9 bytes) of shards to keep there; the least recently used go first."""
    connections: int = 8
    """Shards fetched at a time by each rank."""
    retries: int = 8
    """Further attempts after a request failed or timed out, before the run stops."""
    backoff: float = 0.5
    """Seconds before the second attempt; each further pause is twice as long, up to 30 s, less a random part."""
    timeout: float = 60.0
    """Seconds that a request (of at most 16 MiB) may take."""

    def problems(self) -> list[Problem]:
        found = [] if self.cache else [Problem("stream.remote.cache", wrong="is empty", fix="name a folder")]
        found += [
            Problem(f"stream.remote.{name}", getattr(self, name), "must be above 0")
            for name in ("cache_gb", "backoff", "timeout")
            if not getattr(self, name) > 0
        ]
        least = {"connections": 1, "retries": 0}
        return found + [
            Problem(f"stream.remote.{name}", getattr(self, name), f"must be at least {minimum}")
            for name, minimum in least.items()
            if getattr(self, name) < minimum
        ]


@dataclass
class StreamConfig:
    """The order of the training blocks, and how far to read ahead."""

    lanes: int = 0
    """Strands that the corpus is read in, a constant of the run. The number of ranks must divide it. 0 chooses by
    the size of the corpus: 960 where there are as many row groups, fewer on smaller corpora, at least 12."""
    window: int = 4
    """Row groups of a lane that are shuffled together; a rank keeps as many of each of its lanes in memory."""
    prefetch: int = 4
    """Micro-batches prepared ahead of the training step."""
    seed: int = 0
    """Seed of the order and of the masks."""
    damaged: Literal["stop", "skip"] = "stop"
    """What to do about a missing or damaged shard: stop with its name, or skip it. The blocks of a skipped row group
    are replaced by those of the next one that can be read, so batches keep their shapes; they are counted."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    """Cache and patience for a prepared folder behind a URL (s3://, gs://, https://, hf://)."""

    def problems(self) -> list[Problem]:
        least = {"lanes": 0, "window": 1, "prefetch": 1, "seed": 0}
        found = [
            Problem(f"stream.{name}", getattr(self, name), f"must be at least {minimum}")
            for name, minimum in least.items()
            if getattr(self, name) < minimum
        ]
        if self.damaged not in ("stop", "skip"):
            found.append(Problem("stream.damaged", self.damaged, "is unknown", "use stop or skip"))
        return found + self.remote.problems()
