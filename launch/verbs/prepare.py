"""acn prepare"""

from dataclasses import dataclass

from data_pipeline import PrepareConfig, prepare


@dataclass
class Args(PrepareConfig):
    """Turn raw text into a folder of token shards."""


def run(args: Args) -> int:
    """Write the prepared corpus and say what to do with it."""
    prepare(args)
    print(f"next: acn pretrain --config launch/recipes/acn-mini.yaml --data {args.output} --output RUN")
    return 0
