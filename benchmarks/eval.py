"""What the depth sweep costs: every depth from one pass, against one full evaluation and against every cut copy.

    python -m benchmarks.eval [--json FILE] [--rounds N]

12 layers of width 256, 128 examples of 8 to 64 random tokens, single label, one thread. The sweep and the full
evaluation go over the same batches (padding, order); the naive sum evaluates the 13 truncated copies one after another.
"""

import argparse
import sys
import time
from typing import Any

import datasets
import numpy as np
import torch

from benchmarks.timing import Benchmark, Goal, Report, interleave, ratio
from eval import sweep_logits
from eval.tasks import TASKS
from modeling import AcnConfig, AcnForSequenceClassification

LAYERS, EXAMPLES, BATCH = 12, 128, 32
FULL, SWEEP, NAIVE = "one evaluation of the whole model", "every depth 0..12 in one pass", "13 truncated copies"


def make_model(connectivity: str) -> AcnForSequenceClassification:
    """A classifier with initial weights, in evaluation mode."""
    torch.manual_seed(0)
    config = AcnConfig(
        vocab_size=8192, hidden_size=256, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=1024,
        connectivity=connectivity, num_labels=TASKS["sst2"].num_labels,
    )  # fmt: skip
    return AcnForSequenceClassification(config).eval()


def make_examples() -> datasets.Dataset:
    """Random token ids of 8 to 64 tokens."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 8192, int(length)).tolist() for length in rng.integers(8, 65, EXAMPLES)]
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": [0] * EXAMPLES})


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows as one batch."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[i, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def full_logits(model: AcnForSequenceClassification, data: datasets.Dataset) -> np.ndarray:
    """Only the whole model's logits, over the batches of `sweep_logits`."""
    order = np.argsort([-len(ids) for ids in data["input_ids"]], kind="stable")
    logits = np.empty((len(data), model.config.num_labels), dtype=np.float32)
    for start in range(0, len(data), BATCH):
        index = order[start : start + BATCH]
        logits[index] = model(**pad([data[int(row)] for row in index])).logits.numpy()
    return logits


def measure_sweep(connectivity: str, rounds: int) -> tuple[list[dict[str, Any]], list[Goal]]:
    """The three cases in turn; the sweep's answers must be those of the copies."""
    data, model = make_examples(), make_model(connectivity)
    copies = [make_model(connectivity) for _ in range(LAYERS + 1)]
    for depth, copy in enumerate(copies):
        copy.truncate(depth)
    swept = sweep_logits(model, data, pad, BATCH)
    for depth, copy in enumerate(copies):
        np.testing.assert_allclose(swept[depth], full_logits(copy, data), atol=1e-5)
    cases = {
        FULL: lambda: full_logits(model, data),
        SWEEP: lambda: sweep_logits(model, data, pad, BATCH),
        NAIVE: lambda: [full_logits(copy, data) for copy in copies],
    }
    times = interleave(cases, rounds, warmup=1, clock=time.process_time)
    rows = [
        {
            "connectivity": connectivity,
            "case": case,
            "seconds": timing.seconds,
            "times_full": ratio(timing, times[FULL]),
        }
        for case, timing in times.items()
    ]
    return rows, [
        Goal(f"{connectivity}: {SWEEP} over {FULL}", ratio(times[SWEEP], times[FULL]), 1.15, at_least=False),
        Goal(f"{connectivity}: {NAIVE} over {SWEEP}", ratio(times[NAIVE], times[SWEEP]), 5.0),
    ]


def measure(options: argparse.Namespace, report: Report) -> None:
    """Both connectivities."""
    rows: list[dict[str, Any]] = []
    for connectivity in ("acn",) if options.quick else ("acn", "residual"):
        found, goals = measure_sweep(connectivity, options.rounds)
        rows += found
        report.goals += goals
    columns = [[f"{row['connectivity']}: {row['case']}", f"{np.median(row['seconds']):.2f}", f"{row['times_full']:.2f}"]
               for row in rows]  # fmt: skip
    report.show(f"{EXAMPLES} examples", ["case", "CPU s", "x one evaluation"], columns)
    report.results["sweep"] = rows


BENCHMARK = Benchmark("eval", __doc__, measure, rounds=3)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
