"""What the manifest tells people about a prepared corpus: where its documents went, how its tokenizer does."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from ..errors import DataError
from ..shards import Split
from .sources import CorpusConfig, no_documents
from .units import Unit

_LONGEST = 10


class SourceTallies:
    """Adds up what units report, source by source."""

    def __init__(self, corpus: CorpusConfig) -> None:
        self._paths = {name: [source.path for source in corpus.sources(name)] for name in ("train", "validation")}
        self._tallies = {name: [Counter[str]() for _ in paths] for name, paths in self._paths.items()}

    def add(self, unit: Unit, tally: dict[str, int]) -> None:
        """Take the tally of one unit."""
        self._tallies[unit.field][unit.source].update(tally)

    def problem(self) -> DataError | None:
        """An error for the first source that gave no text at all."""
        for name, tallies in self._tallies.items():
            for path, tally in zip(self._paths[name], tallies, strict=True):
                if not any(count for reason, count in tally.items() if reason != "blank"):
                    return no_documents(path)
        return None

    def total(self) -> Counter[str]:
        """The sum over all sources."""
        return sum((tally for tallies in self._tallies.values() for tally in tallies), Counter[str]())

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Per field, each source's path with its counts."""
        return {
            name: [
                {"path": path, **dict(sorted(tally.items()))}
                for path, tally in zip(self._paths[name], tallies, strict=True)
            ]
            for name, tallies in self._tallies.items()
        }


def tokenizer_report(backend: Tokenizer, total: Counter[str], special_ids: Sequence[int]) -> dict[str, Any]:
    """How the tokenizer did on the whole corpus: unknown rate (of tokens), characters and bytes per token, and the
    longest entries of its vocabulary."""
    tokens = max(total["tokens"], 1)
    return {
        "unknown_rate": round(total["unknown"] / tokens, 8),
        "characters_per_token": round(total["characters"] / tokens, 4),
        "bytes_per_token": round(total["bytes"] / tokens, 4),
        "longest_tokens": longest_tokens(backend, special_ids),
    }


def longest_tokens(backend: Tokenizer, special_ids: Sequence[int]) -> list[str]:
    """The entries of a vocabulary that stand for the most characters: a look at what the training text is full of."""
    special = set(special_ids)
    spelled = [
        backend.decode([number]).removeprefix("##") for number in backend.get_vocab().values() if number not in special
    ]
    return sorted(spelled, key=lambda text: (-len(text), text))[:_LONGEST]


def report_lines(statistics: dict[str, Any], splits: dict[str, Split], seq_length: int) -> list[str]:
    """The statistics of a manifest as lines for the terminal, those of the splits last."""
    tokenizer = statistics["tokenizer"]
    lines = [
        f"tokenizer: {tokenizer['characters_per_token']:.2f} characters per token, "
        f"{tokenizer['unknown_rate']:.4%} unknown, longest: {', '.join(map(repr, tokenizer['longest_tokens'][:5]))}"
    ]
    tallies = [tally for sources in statistics["sources"].values() for tally in sources]
    for reason, text in (("duplicates", "duplicates"), ("cleaned_away", "too short or cleaned away")):
        if count := sum(tally.get(reason, 0) for tally in tallies):
            lines.append(f"left out: {count:,} documents ({text})")
    for name, split in splits.items():
        padding = f", {split.padding / split.tokens:.2%} padding" if split.padding else ""
        lines.append(
            f"{name}: {split.blocks:,} blocks of {seq_length} = {split.tokens:,} tokens "
            f"from {split.documents:,} documents ({split.tokens_dropped} tokens dropped at the end{padding})"
        )
    return lines
