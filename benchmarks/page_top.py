"""The table at the top of docs/performance.md: what a visitor would do here, what instead, and which is faster."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .aims import (
    GPU_FINETUNE,
    PRECISIONS,
    Aim,
    finetune_by_default,
    finetune_equal,
    gpu_finetune,
    gpu_over_trainer,
    over_trainer,
    study_by_hand,
    sweep_by_cuts,
)
from .timing import table

COLUMNS = ["here", "instead", "times as fast", "measured on"]
TRAINER = "Hugging Face Trainer with transformers' BERT"
Figures = Mapping[str, Mapping[str, tuple[dict[str, Any], dict[str, Any]]]]
"""By benchmark and figure: its record and its goal."""


@dataclass(frozen=True)
class Comparison:
    """Figures of a benchmark that need no further explanation."""

    here: str
    instead: str
    benchmark: str
    figures: dict[str, str]
    """Names among the goals, by what the row says of them (a precision, say; may be empty)."""
    of_times: bool = False
    """The figure is our time over the other's."""


def in_precisions(aim: Callable[[str], Aim]) -> dict[str, str]:
    """A figure that there is in each precision."""
    return {f" in {precision}": aim(precision).what for precision in PRECISIONS}


SIZES = {"tiny": "128 x 12", "mini": "256 x 12", "base": "768 x 12"}
COMPARISONS = (
    *(
        Comparison(
            f"pretrain, {size}", TRAINER, "training", in_precisions(partial(over_trainer, name, connectivity="acn"))
        )
        for name, size in SIZES.items()
    ),
    Comparison(
        "fine-tune on SST-2, 384 x 6",
        "run_glue.py as it comes: fp32, texts padded to 128 tokens",
        "finetune",
        in_precisions(finetune_by_default),
    ),
    Comparison("fine-tune on SST-2, 384 x 6", f"{TRAINER}, all else alike", "finetune", in_precisions(finetune_equal)),
    Comparison("score every depth", "predict with each truncated BERT", "finetune", in_precisions(sweep_by_cuts)),
    Comparison("a study of noise", "the same by hand with Trainer and BERT", "finetune", in_precisions(study_by_hand)),
    Comparison(
        "classify with 3 of 12 layers",
        "with all of them",
        "inference",
        {
            f" at batch size {size}": f"torch fp32, batch {size}: throughput of depth 3 over depth 12"
            for size in (1, 32)
        },
    ),
    Comparison(
        "read masked batches",
        "datasets, a collator and a DataLoader",
        "data",
        {"": "masked batches over datasets + collator + DataLoader"},
    ),
    Comparison(
        "`acn pretrain` to its first step",
        "`import torch, deepspeed, transformers` alone",
        "startup",
        {"": "acn pretrain, 1 rank(s): the first step over the bare imports"},
        of_times=True,
    ),
    *(
        Comparison(f"pretrain, {size}, on a GPU", TRAINER, "gpu", {" in bf16": gpu_over_trainer(case).what})
        for size, case in (("768 x 12", "base/128"), ("1024 x 24", "large/512"))
    ),
    Comparison(
        "fine-tune, 768 x 12, on a GPU",
        f"{TRAINER}, all else alike",
        "gpu",
        {" in bf16": gpu_finetune(GPU_FINETUNE).what},
    ),
)


def top(figures: Figures, device: Callable[[dict[str, Any]], str]) -> str:
    """The table of what was measured, and a line of what was not.

    Args:
        device: names a record's machine.
    """
    rows: list[list[str]] = []
    missing: Counter[str] = Counter()
    for line in COMPARISONS:
        measured = figures.get(line.benchmark, {})
        found = {label: measured[name] for label, name in line.figures.items() if name in measured}
        missing[line.benchmark] += len(line.figures) - len(found)
        if found:
            times = [f"{_times(goal, line):.2f}{label}" for label, (_, goal) in found.items()]
            machines = dict.fromkeys(f"{device(r['machine'])}, {r['machine']['date']}" for r, _ in found.values())
            rows.append([line.here, line.instead, ", ".join(times), "; ".join(machines)])
    parts = [table(COLUMNS, rows)] if rows else []
    if lacking := [f"{count} of `{name}`" for name, count in missing.items() if count]:
        parts.append(f"Not yet measured of what belongs here: {', '.join(lacking)}; see below.")
    return "\n\n".join(parts)


def _times(goal: dict[str, Any], line: Comparison) -> float:
    return 1 / goal["value"] if line.of_times else goal["value"]
