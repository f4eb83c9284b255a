"""Wall-clock speed-up of early exit, against what its FLOPs promise.

    python -m benchmarks.early_exit --json out.json

A classifier of 12 layers x 256 sees batches of 16 texts of 32 and of 128 tokens. Which text leaves at which depth is
laid down (a seeded draw), so that the figures do not depend on what a model has learned: every text after three layers,
half of them after one and half after twelve, or all depths alike. Interleaved rounds, one thread, its processor time.
"""

import argparse
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch

from eval.studies import Leave, exit_early, exit_flops
from modeling import AcnConfig, AcnForSequenceClassification, forward_flops

from .timing import Benchmark, Goal, Report, Step, interleave, ratio

LAYERS, BATCH = 12, 16
ORDINARY, NEVER = "ordinary forward pass", "nothing leaves early"
PROFILES: dict[str, np.ndarray] = {
    NEVER: np.full(BATCH, LAYERS),
    "all leave after 3 layers": np.full(BATCH, 3),
    "half after 1, half after 12": np.repeat([1, LAYERS], BATCH // 2),
    "all depths alike": np.arange(BATCH) % LAYERS + 1,
}


def _leave_at(stops: np.ndarray) -> Leave:
    at = torch.from_numpy(stops)
    return lambda depth, logits, rows: at[rows] == depth


def measure_length(length: int, rounds: int) -> tuple[list[dict], list[Goal]]:
    """One row per profile: speed-up in FLOPs and in time over the ordinary forward pass."""
    torch.manual_seed(0)
    config = AcnConfig(hidden_size=256, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=1024)
    model = AcnForSequenceClassification(config).eval()
    ids = torch.randint(5, config.vocab_size, (BATCH, length))
    mask = torch.ones_like(ids)
    mask[::2, -length // 8 :] = 0  # padding, so that there is a mask to divide
    inputs = {"input_ids": ids, "attention_mask": mask}
    order = np.random.default_rng(0).permutation(BATCH)

    @torch.no_grad()
    def ordinary() -> None:
        model(**inputs)

    cases: dict[str, Step] = {ORDINARY: ordinary}
    for name, stops in PROFILES.items():
        cases[name] = partial(exit_early, model, inputs, _leave_at(stops[order]))
    times = interleave(cases, rounds, clock=time.process_time)
    whole = BATCH * forward_flops(config, length, num_labels=config.num_labels)
    rows: list[dict[str, Any]] = []
    for name, stops in PROFILES.items():
        promised = whole / int(exit_flops(config, np.full(BATCH, length), stops).sum())
        seconds = times[name].seconds
        faster = ratio(times[ORDINARY], times[name])
        rows.append({"length": length, "case": name, "flops": promised, "time": faster, "seconds": seconds})
    goals = [
        Goal(f"{length} tokens, {row['case']}: speed-up in time over that in FLOPs", row["time"] / row["flops"], 0.8)
        for row in rows
    ]
    return rows, goals


def measure(options: argparse.Namespace, report: Report) -> None:
    """Short and long texts."""
    measured = [measure_length(length, options.rounds) for length in ((32,) if options.quick else (32, 128))]
    rows = [row for found, _ in measured for row in found]
    report.goals += [goal for _, goals in measured for goal in goals]
    lines = [[f"{r['length']} tokens, {r['case']}", f"{r['flops']:.2f}", f"{r['time']:.2f}"] for r in rows]
    report.show(f"batch of {BATCH}", ["case", "speed-up in FLOPs", "speed-up in time"], lines)
    report.results["results"] = rows


BENCHMARK = Benchmark("early_exit", __doc__, measure, rounds=7)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
