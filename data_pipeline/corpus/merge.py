"""The last act of `acn prepare`: the tails of all units become the last shards, their records the manifest.

The manifest also tells people about the corpus: where its documents went, how its tokenizer does.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import Tokenizer

from ..errors import DataError, UnfinishedError
from ..folder import TOKENIZER_FOLDER
from ..shards import Manifest, Shard, Split, dtype_for
from ..tokenizer import CONTINUATION_MARK, Vocabulary
from .formats import LEFT_OUT, REPLACED
from .job import SPLITS, Job, Record, finished_units, load_tail
from .sources import CorpusConfig, no_documents
from .store import Store
from .units import Unit

_LONGEST = 10
_UNKNOWN = "unknown_characters"
MOST_UNKNOWN = 0.01
"""Share of a source's characters under the unknown token above which `acn prepare` warns."""


def merge_units(
    job: Job, store: Store, units: list[Unit], vocabulary: Vocabulary, source: dict[str, Any], tokenizer: dict[str, Any]
) -> Manifest:
    """Write the last shards and return the manifest, which is not written yet.

    `tokenizer` says where it came from, for the statistics. Cheap: less than a row group of every unit is read.
    Raises DataError when units are missing, a source has no text, or a split does not fill a block.
    """
    missing = sorted({unit.number for unit in units} - finished_units(store))
    if missing:
        raise DataError(
            f"part: {len(missing)} of {len(units)} units of work are not done yet (the first is number {missing[0]}): "
            "run the missing parts, or leave out part to do them here"
        )
    tallies = SourceTallies(job.corpus)
    for unit, record in _records(store, units):
        tallies.add(unit, record.tally)
    if (problem := tallies.problem()) is not None:
        raise problem
    splits = {split: _merge_split(job, store, units, vocabulary, split) for split in SPLITS}
    for name, split in splits.items():
        if not split.blocks:
            fix = "set corpus.validation_fraction higher" if name == "validation" else "lower seq_length"
            raise DataError(
                f"corpus: the {name} text ({split.documents} documents, {split.tokens_dropped} tokens) does not "
                f"fill one block of {job.seq_length}: give more text, or {fix}"
            )
    backend = Tokenizer.from_str(store.read(f"{TOKENIZER_FOLDER}/tokenizer.json").decode())
    report = tokenizer_report(backend, tallies, vocabulary.special_ids)
    return Manifest(
        seq_length=job.seq_length,
        dtype=dtype_for(vocabulary.vocab_size),
        row_group_blocks=job.row_group_blocks,
        tokenizer=vocabulary,
        source=source,
        splits=splits,
        packing=job.packing,
        statistics={"sources": tallies.describe(), "tokenizer": {**report, **tokenizer}},
    )


def _records(store: Store, units: list[Unit]) -> Iterator[tuple[Unit, Record]]:
    for unit in units:
        yield unit, Record.load(store, unit.number)


def _merge_split(job: Job, store: Store, units: list[Unit], vocabulary: Vocabulary, split: str) -> Split:
    shards: list[Shard] = []
    blocks, documents, padding = 0, 0, 0
    parts: list[tuple[int, int | None]] = []
    with store.scratch() as folder:
        packer = job.packer(folder, split, "shard-tail", vocabulary)
        for unit, record in _records(store, units):
            part = record.splits[split]
            _check_there(store, part.shards)
            shards += part.shards
            blocks, documents, padding = blocks + part.blocks, documents + part.documents, padding + part.padding
            parts.append((part.blocks, part.fewest_ordinary))
            packer.add_tail(load_tail(store, unit.number, split))
        tails = packer.finish()
        for shard in tails.shards:
            store.put(folder / shard.file, shard.file)
    blocks += tails.blocks
    counted = [fewest for count, fewest in (*parts, (tails.blocks, tails.fewest_ordinary)) if count]
    return Split(
        shards=shards + tails.shards,
        blocks=blocks,
        tokens=blocks * job.seq_length,
        documents=documents,
        tokens_dropped=tails.tokens_dropped,
        padding=padding + tails.padding,
        # units that an earlier version finished have not counted
        fewest_ordinary=min((fewest for fewest in counted if fewest is not None), default=None)
        if None not in counted
        else None,
    )


def _check_there(store: Store, shards: list[Shard]) -> None:
    for shard in shards:
        if store.size(shard.file) != shard.bytes:
            raise UnfinishedError(
                f"output: {store.url}/{shard.file} was written and is gone or has another size: somebody changed the "
                "folder; remove it and prepare again"
            )


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
                if not any(count for reason, count in tally.items() if not _is_no_text(reason)):
                    malformed = any(reason.startswith(LEFT_OUT) for reason in tally)
                    return no_documents(path, "all its rows are malformed" if malformed else "")
        return None

    def total(self) -> Counter[str]:
        """The sum over all sources."""
        return sum((tally for tallies in self._tallies.values() for tally in tallies), Counter[str]())

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Per field, each source's path with its counts; what stands under unknown tokens is the tokenizer's doing."""
        return {
            name: [
                {"path": path, **{reason: tally[reason] for reason in sorted(tally) if reason != _UNKNOWN}}
                for path, tally in zip(self._paths[name], tallies, strict=True)
            ]
            for name, tallies in self._tallies.items()
        }

    def unknown_character_rates(self) -> dict[str, list[float]]:
        """Per field, the share of each source's characters that stand under the unknown token."""
        return {name: list(map(_unknown_character_rate, tallies)) for name, tallies in self._tallies.items()}


def _unknown_character_rate(tally: Counter[str]) -> float:
    return round(tally[_UNKNOWN] / max(tally["characters"], 1), 8)


def _is_no_text(reason: str) -> bool:
    return reason in ("blank", REPLACED) or reason.startswith(LEFT_OUT)


def tokenizer_report(backend: Tokenizer, tallies: SourceTallies, special_ids: Sequence[int]) -> dict[str, Any]:
    """How the tokenizer did on the whole corpus: share of unknown tokens and of the characters under them (of each
    source too), characters and bytes per token, and the longest entries of its vocabulary."""
    total = tallies.total()
    tokens = max(total["tokens"], 1)
    return {
        "unknown_rate": round(total["unknown"] / tokens, 8),
        "unknown_character_rate": _unknown_character_rate(total),
        "unknown_character_rates": tallies.unknown_character_rates(),
        "characters_per_token": round(total["characters"] / tokens, 4),
        "bytes_per_token": round(total["bytes"] / tokens, 4),
        "longest_tokens": longest_tokens(backend, special_ids),
    }


def longest_tokens(backend: Tokenizer, special_ids: Sequence[int]) -> list[str]:
    """The entries of a vocabulary that stand for the most characters: a look at what the training text is full of."""
    special = set(special_ids)
    spelled = [
        backend.decode([number]).removeprefix(CONTINUATION_MARK)
        for number in backend.get_vocab().values()
        if number not in special
    ]
    return sorted(spelled, key=lambda text: (-len(text), text))[:_LONGEST]


def report_lines(statistics: dict[str, Any], splits: dict[str, Split], seq_length: int) -> list[str]:
    """The statistics of a manifest as lines for the terminal, those of the splits last."""
    tokenizer = statistics["tokenizer"]
    lines = [
        f"tokenizer: {tokenizer['characters_per_token']:.2f} characters per token, "
        f"{tokenizer['unknown_rate']:.4%} unknown ({tokenizer['unknown_character_rate']:.4%} of the characters), "
        f"longest: {', '.join(map(repr, tokenizer['longest_tokens'][:5]))}"
    ]
    total = Counter[str]()
    for name, sources in statistics["sources"].items():
        for tally, rate in zip(sources, tokenizer["unknown_character_rates"][name], strict=True):
            total.update({reason: count for reason, count in tally.items() if reason != "path"})
            if rate > MOST_UNKNOWN:
                lines.append(
                    f"warning: {rate:.1%} of the characters of {tally['path']!r} are under the unknown token, where a "
                    "model learns nothing of them: use --tokenizer_kind bpe, or a --tokenizer made for this text"
                )
    for reason, text in (("duplicates", "duplicates"), ("cleaned_away", "too short or cleaned away")):
        if total[reason]:
            lines.append(f"left out: {total[reason]:,} documents ({text})")
    causes = [f"{cause.removeprefix(LEFT_OUT)}: {total[cause]:,}" for cause in sorted(total) if LEFT_OUT in cause]
    if causes:
        lines.append(f"left out: malformed rows ({', '.join(causes)})")
    if total[REPLACED]:
        lines.append(f"replaced: {total[REPLACED]:,} lone surrogates, by U+FFFD")
    for name, split in splits.items():
        padding = f", {split.padding / split.tokens:.2%} padding" if split.padding else ""
        lines.append(
            f"{name}: {split.blocks:,} blocks of {seq_length} = {split.tokens:,} tokens "
            f"from {split.documents:,} documents ({split.tokens_dropped} tokens dropped at the end{padding})"
        )
    return lines
