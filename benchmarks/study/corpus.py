"""The text of a study: documentation and the tasks cut from it, and what a constant answer scores on it.

    python -m benchmarks.study.corpus --output TEXT --mb 12

TEXT/text has train.jsonl and validation.jsonl for `acn prepare`, TEXT/tasks the tasks for `acn glue --glue_dir`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import Manifest, new_folder
from data_pipeline.stream import BlockReader
from launch.demo import write_demo_corpus, write_demo_tasks

_BLOCKS = 4096  # of the training split, for the commonest token


def main(argv: Sequence[str] | None = None) -> int:
    """Write the text and the tasks, all or nothing; what is there already is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--mb", type=float, required=True, help="megabytes of documentation")
    parser.add_argument("--train_examples", type=int, default=2000, help="of each task")
    parser.add_argument("--eval_examples", type=int, default=600, help="of each task's validation split")
    args = parser.parse_args(argv)
    if args.output.exists():
        print(f"{args.output} is there already")
        return 0
    with new_folder(args.output) as aside:
        corpus = write_demo_corpus(aside / "text", size_mb=args.mb)
        write_demo_tasks(aside / "tasks", corpus, args.train_examples, args.eval_examples)
    return 0


def baseline(tokens: Path) -> dict[str, Any]:
    """What always predicting the commonest token of the training text scores on masked positions of the validation
    text: its share of the tokens that can be masked (all but special ones)."""
    manifest = Manifest.load(tokens)
    special = list(manifest.tokenizer.special_ids)
    counts = {}
    for split in ("train", "validation"):
        blocks = min(manifest.split(split).blocks, _BLOCKS)
        ids = BlockReader(tokens, split, manifest).read(np.arange(blocks))
        counts[split] = np.bincount(ids.ravel(), minlength=manifest.tokenizer.vocab_size)
        counts[split][special] = 0
    commonest = int(counts["train"].argmax())
    return {
        "commonest_token": commonest,
        "baseline_accuracy": float(counts["validation"][commonest] / counts["validation"].sum()),
        "train_tokens": manifest.split("train").tokens,
        "vocabulary": manifest.tokenizer.vocab_size,
        "seq_length": manifest.seq_length,
    }


if __name__ == "__main__":
    sys.exit(main())
