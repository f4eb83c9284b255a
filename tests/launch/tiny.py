"""A model and a task so small that `acn` trains and fine-tunes in seconds."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TINY = [
    "--model.hidden_size", "16", "--model.num_hidden_layers", "2", "--model.num_attention_heads", "2",
    "--model.intermediate_size", "24", "--model.max_position_embeddings", "16", "--steps", "4",
    "--global_batch_size", "8", "--micro_batch_size", "4", "--log_every", "2", "--validation.blocks", "8",
    "--precision", "fp32",  # the same on every processor
]  # fmt: skip
"""Options of `acn pretrain`."""


def write_task(folder: Path, seed: int = 0) -> None:
    """A task in GLUE's format: is there a cat in the sentence?"""
    draw = random.Random(seed)
    for split, size in (("train", 64), ("validation", 32)):
        labels = [draw.randint(0, 1) for _ in range(size)]
        texts = [f"the {'cat' if label else 'dog'} sat on the {draw.choice(['mat', 'log'])}" for label in labels]
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table({"sentence": texts, "label": labels, "idx": list(range(size))})
        pq.write_table(table, folder / f"{split}.parquet")
