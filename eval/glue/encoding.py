"""Texts as token ids, and how much of them a maximum length cuts off."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from eval import ranks

from ..tasks import LABEL, Task

_BATCH = 1000
WARN_SHARE = 0.05
"""Share of the tokens from which on cutting them is a warning."""


def encode(task: Task, data: datasets.Dataset, tokenizer: Any, max_length: int) -> datasets.Dataset:
    """Tokenize a split: the tokenizer's outputs, unpadded, and `labels` (floats for regression), in the same order."""
    tables = []
    for batch in data.iter(batch_size=_BATCH):
        columns = dict(tokenizer(*(batch[c] for c in task.columns), truncation=True, max_length=max_length))
        columns["labels"] = [float(label) for label in batch[LABEL]] if task.is_regression else batch[LABEL]
        tables.append(pa.table(columns))
    return datasets.Dataset(pa.concat_tables(tables))


@dataclass(frozen=True)
class Cut:
    """What a maximum length leaves out of a split; tokens include [CLS] and [SEP]."""

    texts: int
    """Examples."""
    cut_texts: int
    """Those that are cut."""
    tokens: int
    """Of the whole examples."""
    cut_tokens: int
    """Those that are cut off."""

    @property
    def share(self) -> float:
        """Of the tokens."""
        return self.cut_tokens / self.tokens


def count_cut(task: Task, data: datasets.Dataset, encoded: datasets.Dataset, tokenizer: Any, max_length: int) -> Cut:
    """What `max_length` cut off when `data` became `encoded`."""
    lengths = [len(ids) for ids in encoded["input_ids"]]
    full = [row for row, length in enumerate(lengths) if length >= max_length]  # only these may have been longer
    whole = 0
    cut_texts = 0
    for batch in data.select(full).iter(batch_size=_BATCH):
        inputs = tokenizer(*(batch[c] for c in task.columns), truncation=False, verbose=False)["input_ids"]
        whole += sum(map(len, inputs))
        cut_texts += sum(len(ids) > max_length for ids in inputs)
    kept = sum(lengths[row] for row in full)
    return Cut(len(data), cut_texts, sum(lengths) - kept + whole, whole - kept)


def say_cut(task: str, max_length: int, positions: int | None, cuts: Mapping[str, Cut]) -> None:
    """Say how much is cut off each split, where that is anything; `positions` are the model's, None without end."""
    more = "raise max_length" if positions is None or max_length < positions else "the model has no more positions"
    for split, cut in cuts.items():
        if cut.cut_texts:
            warning, fix = ("warning: ", f": {more}") if cut.share >= WARN_SHARE else ("", "")
            ranks.say(
                f"{warning}{task}, {split}: max_length={max_length} cuts off {cut.cut_tokens} of {cut.tokens} tokens "
                f"({cut.share:.1%}), in {cut.cut_texts} of {cut.texts} texts{fix}"
            )
