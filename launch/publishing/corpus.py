"""The card of a published corpus of token shards, and its folder."""

from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from data_pipeline import Manifest, Problem
from eval.compress import markdown_table

from .config import PublishConfig
from .files import Publication, Target, place
from .sections import describe_source, fact_table, hub_datasets, licence_metadata, licence_section
from .source import MANIFEST, Source

_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7),
          ("10M<n<100M", 10**8), ("100M<n<1B", 10**9), ("1B<n<10B", 10**10))  # fmt: skip

_FORMAT = """## Format

Tokenized text, ready for pretraining, as `acn prepare` of acn-lm writes it. Each Parquet shard has one column,
`tokens`: lists of {seq_length} ids (`{dtype}`), whole blocks `[CLS] ... [SEP]`; {packing}.
Row groups hold {row_group_blocks} blocks. `manifest.json` lists every shard with its SHA-256, and `tokenizer/` made
the ids (fingerprint `{fingerprint}...`).
"""
_USE = """## How to use it

```bash
acn pretrain --data hf://datasets/{repo_id} --output RUN
acn data verify hf://datasets/{repo_id}   # every shard against its checksum
```

or, without acn-lm:

```python
from datasets import load_dataset

blocks = load_dataset("{repo_id}", split="train", streaming=True)
```
"""


def write_corpus_publication(folder: Path, config: PublishConfig, source: Source) -> Publication:
    """Fill `folder` with manifest, tokenizer, shards (linked where that is possible) and the card.

    Raises:
        DataError: the corpus is incomplete, or its tokenizer was changed.
    """
    corpus = Manifest.load(source.folder)
    shards = [shard.file for split in corpus.splits.values() for shard in split.shards]
    tokenizer = [str(path.relative_to(source.folder)) for path in sorted((source.folder / "tokenizer").glob("*"))]
    for name in [MANIFEST, *tokenizer, *shards]:
        place(source.folder / name, folder / name)
    (folder / "README.md").write_text(corpus_card(config, corpus), encoding="utf-8")
    return Publication([Target(folder, config.repo_id)])


def shard_problems(folder: Path) -> list[Problem]:
    """Shards that are missing or of another size than the manifest says; `acn data verify` compares checksums."""
    corpus = Manifest.load(folder)
    found = []
    for split in corpus.splits.values():
        for shard in split.shards:
            path = folder / shard.file
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
    name = config.repo_id.partition("/")[2]
    packing = {
        "blocks": "documents are joined by `[SEP]` and run on from block to block, nothing is padded",
        "documents": "whole documents lie side by side, each with its own `[CLS]` and `[SEP]`, padded at the end",
    }
    values = {
        "seq_length": corpus.seq_length,
        "dtype": corpus.dtype,
        "packing": packing.get(corpus.packing, corpus.packing),
        "fingerprint": corpus.tokenizer.fingerprint[:16],
        "row_group_blocks": corpus.row_group_blocks,
    }
    parts = [
        f"# {name}\n\nText as blocks of {corpus.seq_length} token ids, for pretraining masked language models.\n",
        _USE.format(repo_id=config.repo_id),
        _contents(corpus),
        _FORMAT.format(**values),
        _origin(corpus),
        "## Limits\n\n- The text can be read back from the ids: what its licences ask for applies here too.\n"
        "- Nothing was measured of what the text says: bias, personal data, safety.\n",
        licence_section(config, "corpus"),
    ]
    text = f"---\n{_front(config, corpus).to_yaml()}\n---\n\n" + "\n".join(parts)
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


def _contents(corpus: Manifest) -> str:
    rows = [
        [name, f"{split.documents:,}", f"{split.blocks:,}", f"{split.tokens:,}", len(split.shards),
         f"{sum(shard.bytes for shard in split.shards) / 1e6:,.1f}"]
        for name, split in corpus.splits.items()
    ]  # fmt: skip
    columns = ["split", "documents", "blocks", "tokens", "shards", "MB"]
    return "## What is in it\n\n" + markdown_table(columns, rows) + "\n"


def _origin(corpus: Manifest) -> str:
    vocabulary = corpus.statistics.get("tokenizer", {})
    rows: list[tuple[str, Any]] = [
        (f"{name} text", "; ".join(describe_source(source) for source in sources))
        for name, sources in corpus.source.items()
        if sources
    ]
    rows += [
        ("vocabulary", f"{corpus.tokenizer.vocab_size:,} tokens"),
        ("characters per token", vocabulary.get("characters_per_token")),
        ("unknown tokens", vocabulary.get("unknown_rate")),
        ("documents read", _read(corpus)),
    ]
    return "## Where it comes from\n\n" + fact_table(rows) + "\n"


def _read(corpus: Manifest) -> str | None:
    sources = [source for part in corpus.statistics.get("sources", {}).values() for source in part]
    return f"{sum(source['documents'] for source in sources):,}" if sources else None
