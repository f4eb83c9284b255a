"""acn prepare"""

from dataclasses import dataclass, fields

from data_pipeline import DataError
from data_pipeline.corpus import PrepareConfig


@dataclass
class Args(PrepareConfig):
    """Turn raw text into a folder of token shards, or check one."""

    verify: str | None = None
    """Check this prepared folder or URL instead of writing one: every shard, its checksum, its blocks. Only `workers`
    goes with it. Exit code 2 when there is a fault."""


def run(args: Args) -> int:
    """Write the prepared corpus and say what to do with it, or check one and name its faults."""
    if args.verify is not None:
        return _verify(args, args.verify)
    from data_pipeline.corpus import prepare_corpus

    names = [field.name for field in fields(PrepareConfig)]
    if prepare_corpus(PrepareConfig(**{name: getattr(args, name) for name in names})) is not None:
        print(f"next: acn pretrain --config launch/recipes/acn-mini.yaml --data {args.output} --output RUN")
    return 0


def _verify(args: Args, directory: str) -> int:
    untouched = Args(verify=directory, workers=args.workers)
    given = [field.name for field in fields(Args) if getattr(args, field.name) != getattr(untouched, field.name)]
    if given:
        raise DataError(f"verify checks a folder as it is: leave out {', '.join(given)}")
    if args.workers < 1:
        raise DataError(f"workers={args.workers} must be at least 1")
    from data_pipeline.corpus import verify_corpus

    faults = verify_corpus(directory, args.workers)
    for fault in faults:
        print(f"fault: {fault}")
    print(f"{directory}: {len(faults)} faults" if faults else f"{directory}: every shard is as it was written")
    return 2 if faults else 0
