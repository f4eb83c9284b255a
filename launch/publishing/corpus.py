"""The card of a published corpus of token shards, and its folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from data_pipeline import Manifest, Problem, drop_local_fields, files_inside, parse_record, path_inside
from eval.compress import Markdown, read_templates

from ..errors import LaunchError
from .config import PublishConfig
from .facts import (
    TEMPLATES,
    describe_sources,
    fact_table,
    find_sources,
    hub_datasets,
    licence_line,
    licence_metadata,
)
from .files import Publication, Target, place
from .source import MANIFEST, Source

_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7),
          ("10M<n<100M", 10**8), ("100M<n<1B", 10**9), ("1B<n<10B", 10**10))  # fmt: skip
_PACKING = {
    "blocks": "documents are joined by `[SEP]` and run on from block to block, nothing is padded",
    "documents": "whole documents lie side by side, each with its own `[CLS]` and `[SEP]`, padded at the end",
}


def write_corpus_publication(folder: Path, config: PublishConfig, source: Source) -> Publication:
    """Fill `folder` with manifest, tokenizer, shards (linked where that is possible) and the card.

    Raises:
        DataError: the corpus is incomplete, its tokenizer was changed, or something in it leads out of it.
    """
    corpus = Manifest.load(source.folder)
    shards = [shard.file for split in corpus.splits.values() for shard in split.shards]
    tokenizer = [f"tokenizer/{name}" for name in files_inside(path_inside(source.folder, "tokenizer"))]
    for name in [MANIFEST, *tokenizer, *shards]:
        place(source.folder, name, path_inside(folder, name))
    drop_local_fields(folder / "tokenizer")
    (folder / "README.md").write_text(corpus_card(config, corpus), encoding="utf-8")
    return Publication([Target(folder, config.repo_id)])


def shard_problems(folder: Path) -> list[Problem]:
    """Shards that are missing or of another size than the manifest says; `acn data verify` compares checksums.

    Raises:
        DataError: it is no prepared folder, or a shard leads out of it.
    """
    corpus = Manifest.load(folder)
    found = []
    for split in corpus.splits.values():
        for shard in split.shards:
            path = path_inside(folder, shard.file)
            if not path.is_file():
                found.append(Problem(str(path), wrong=f"is missing, though {MANIFEST} names it", fix="prepare again"))
            elif path.stat().st_size != shard.bytes:
                found.append(
                    Problem(
                        str(path),
                        wrong=f"has {path.stat().st_size} bytes instead of {shard.bytes}",
                        fix="prepare again",
                    )
                )
    return found[:20]


def corpus_card(config: PublishConfig, corpus: Manifest) -> str:
    """README.md of the data set, from its manifest."""
    text = (
        read_templates(TEMPLATES)
        .get_template("corpus.md")
        .render(
            metadata=Markdown(_front(config, corpus).to_yaml()),
            name=config.repo_id.partition("/")[2],
            repo_id=config.repo_id,
            corpus=corpus,
            packing=Markdown(_PACKING[corpus.packing]) if corpus.packing in _PACKING else corpus.packing,
            origin=_origin(corpus),
            licence=licence_line(config, "corpus"),
            fact_table=fact_table,
        )
    )
    DatasetCard(text)  # raises where the Hub could not read the metadata
    return text


def _front(config: PublishConfig, corpus: Manifest) -> DatasetCardData:
    blocks = sum(split.blocks for split in corpus.splits.values())
    size = next((name for name, limit in _SIZES if blocks < limit), "n>1T" if blocks >= 10**12 else None)
    files = [{"split": name, "path": f"{name}/*.parquet"} for name, split in corpus.splits.items() if split.shards]
    front = DatasetCardData(
        task_categories=["fill-mask"],
        tags=["acn", "tokenized", "token-shards"],
        size_categories=[size] if size else None,
        source_datasets=hub_datasets(corpus) or None,
        language=[config.language] if config.language else None,
        configs=[{"config_name": "default", "data_files": files}],
    )
    for key, value in licence_metadata(config).items():
        front[key] = value
    return front


def _origin(corpus: Manifest) -> list[tuple[str, Any]]:
    facts = _read_facts(corpus)
    sources = {name: find_sources(corpus, name) for name in corpus.source}
    rows: list[tuple[str, Any]] = [
        (f"{name} text", describe_sources(found)) for name, found in sources.items() if found
    ]
    return [
        *rows,
        ("vocabulary", f"{corpus.tokenizer.vocab_size:,} tokens"),
        ("characters per token", facts.tokenizer.characters_per_token),
        ("unknown tokens", facts.tokenizer.unknown_rate),
        ("documents read", facts.documents),
    ]


@dataclass(frozen=True)
class _TokenizerFacts:
    characters_per_token: float | None = None
    unknown_rate: float | None = None


@dataclass(frozen=True)
class _SourceCounts:
    documents: int = 0


@dataclass(frozen=True)
class _CorpusFacts:
    """The statistics of a manifest, as far as the card speaks of them."""

    tokenizer: _TokenizerFacts = field(default_factory=_TokenizerFacts)
    sources: dict[str, list[_SourceCounts]] = field(default_factory=dict)

    @property
    def documents(self) -> str | None:
        """Documents read, over all sources."""
        counts = [source for part in self.sources.values() for source in part]
        return f"{sum(source.documents for source in counts):,}" if counts else None


def _read_facts(corpus: Manifest) -> _CorpusFacts:
    try:
        return parse_record(_CorpusFacts, corpus.statistics)
    except ValueError as error:
        raise LaunchError(f"the corpus' manifest.json is damaged: statistics: {error}: prepare again") from error
