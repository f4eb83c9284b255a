"""acn prepare"""

import sys
from dataclasses import dataclass, fields

from data_pipeline import DataError
from data_pipeline.corpus import PrepareConfig

from . import data

COMMON = (
    "config", "corpus.train", "corpus.validation", "corpus.validation_fraction", "corpus.text_column",
    "corpus.deduplicate", "output", "vocab_size", "seq_length", "tokenizer", "tokenizer_kind", "packing",
    "workers",
)  # fmt: skip
EXAMPLE = "acn prepare --corpus.train 'corpus/train-*.parquet' --vocab_size 8192 --output runs/tokens"


@dataclass
class Args(PrepareConfig):
    """Turn raw text into a folder of token shards."""

    verify: str | None = None
    """The former name of `acn data verify DIR`; the next release has it no more."""


def run(args: Args) -> int:
    """Write the prepared corpus and say what to do with it."""
    if args.verify is not None:
        return _verify(args, args.verify)
    from data_pipeline.corpus import prepare_corpus

    names = [field.name for field in fields(PrepareConfig)]
    if prepare_corpus(PrepareConfig(**{name: getattr(args, name) for name in names})) is not None:
        print(f"next: acn pretrain --config acn-mini --data {args.output} --output RUN")
    return 0


def _verify(args: Args, directory: str) -> int:
    untouched = Args(verify=directory, workers=args.workers)
    given = [field.name for field in fields(Args) if getattr(args, field.name) != getattr(untouched, field.name)]
    if given:
        raise DataError(f"verify checks a folder as it is: leave out {', '.join(given)}")
    if args.workers < 1:
        raise DataError(f"workers={args.workers} must be at least 1")
    print(f"note: this is `acn data verify {directory}` now; --verify goes with the next release", file=sys.stderr)
    return data.verify(directory, args.workers)
