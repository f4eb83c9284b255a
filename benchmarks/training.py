"""Pretraining against what a user would pick instead: `acn pretrain`'s loop and Hugging Face Trainer.

    python -m benchmarks.training --json out.json

Both train on the same blocks with the same model size, precision, optimizer and global batch, on two ranks of one
thread each, in turns of some steps within the same processes; tokens per second contain data, masking, logging and
optimizer. Ours runs as docs/pretraining.md has it for CPUs: layers compiled where there is a C++ compiler, ZeRO 0; at
the smallest size each of these is also switched off in turn. Beforehand the residual twin gets Trainer's very batches,
and the same weights, and has to have its losses. bf16 is left out on processors without instructions for it, where a
step of the largest size takes minutes and nobody would train in it.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import default_data_collator

from data_pipeline.stream import IGNORED_LABEL, MaskingConfig, StreamConfig, TokenStream
from launch import run_local_ranks
from modeling import cpu_multiplies_bf16
from modeling.conversion import acn_to_bert
from pretrain import PretrainConfig, init_distributed
from pretrain.observe import read_metrics
from pretrain.optim import OptimConfig

from .aims import PRECISIONS, over_trainer, same_losses
from .contenders import AfterSteps, Setting, Shape, bert, blocks_dataset, initial_weights, our_loop, trainer
from .corpus import prepared_corpus
from .timing import Benchmark, Goal, Report, Timing, ratio

RANKS = 2
SEQ_LENGTH = 128
TRAINER = "Hugging Face Trainer"
CONNECTIVITIES = ("acn", "residual")
CURVE_STEPS = 20
OURS: dict[str, Any] = {"compile": shutil.which(os.environ.get("CXX", "g++")) is not None, "zero_stage": 0}
SWITCHED_OFF: dict[str, dict[str, Any]] = {
    "acn, not compiled": {"compile": False},
    "acn, fused attention": {"attention": "sdpa"},  # as it is anyway in fp32
    "acn, ZeRO 1": {"zero_stage": 1},
    "acn, AdamW not fused": {"optim": OptimConfig(fused=False)},
}


@dataclass(frozen=True)
class Size(Shape):
    """Every one has global batches of 16 blocks."""

    switched_off: bool = False
    """Measure `SWITCHED_OFF` too."""


SIZES = (
    Size("tiny", 128, 12, 8192, micro_batch=8, turn=5, switched_off=True),
    Size("mini", 256, 12, 32768, micro_batch=4, turn=3),
    Size("base", 768, 12, 32768, micro_batch=2, turn=1),
)
QUICK = (Size("tiny", 32, 2, 512, micro_batch=4, turn=2, switched_off=True),)


@dataclass(frozen=True)
class Job:
    """What the ranks of one case need to know."""

    setting: Setting
    rounds: int
    turn: int
    folder: str
    """Where runs and, from rank 0, the figures go."""
    switched_off: bool = False
    ours: dict[str, Any] = field(default_factory=lambda: OURS)
    """Fields of `acn pretrain` in all our cases."""

    def config(self, case: str) -> PretrainConfig:
        """Of one of our cases: a connectivity, or one of SWITCHED_OFF."""
        connectivity = case if case in CONNECTIVITIES else "acn"
        fields = self.ours | SWITCHED_OFF.get(case, {})
        return self.setting.config(f"{self.folder}/{case.replace(' ', '-')}", connectivity, **fields)

    @property
    def cases(self) -> tuple[str, ...]:
        """Ours."""
        return (*CONNECTIVITIES, *(SWITCHED_OFF if self.switched_off else ()))


def measure(options: argparse.Namespace, report: Report) -> None:
    """The loss curves at the smallest size, then the speeds of all of them."""
    precisions = PRECISIONS if cpu_multiplies_bf16() else PRECISIONS[:1]
    sizes, megabytes, steps = (QUICK, 0.5, 3) if options.quick else (SIZES, 4.0, CURVE_STEPS)
    curves: dict[str, dict[str, list[float]]] = {}
    speeds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            data = prepared_corpus(Path(folder), megabytes, size.vocab, SEQ_LENGTH)
            for precision in precisions:
                if size is sizes[0]:
                    setting = _setting(size, data, precision, log_every=1)
                    curves[precision] = loss_curves(Job(setting, 1, steps, f"{folder}/curves-{precision}"))
                    report.goals.append(same_losses(precision).measured(difference(curves[precision])))
                setting = _setting(size, data, precision, log_every=size.turn)
                rows, goals = take_turns(
                    size,
                    Job(setting, options.rounds, size.turn, f"{folder}/{size.name}-{precision}", size.switched_off),
                )
                speeds += rows
                report.goals += goals
                show(report, size, precision, rows)
    report.results |= {"speeds": speeds, "losses": curves}
    if len(precisions) < len(PRECISIONS):
        report.show("Left out", ["rows", "why"], [["bf16", "this processor has no bf16 instructions"]])


def _setting(size: Size, data: Path, precision: str, log_every: int) -> Setting:
    return Setting(str(data), size.hidden, size.layers, precision, size.micro_batch, 16, log_every)


def show(report: Report, size: Size, precision: str, rows: list[dict[str, Any]]) -> None:
    """The table of one size and precision."""
    columns = [[row["case"], f"{row['tokens_per_second']:,.0f}", f"{row['times_trainer']:.2f}"] for row in rows]
    title = f"{size.name}: {size.hidden} x {size.layers}, {precision}, {RANKS} ranks, global batch 16 x {SEQ_LENGTH}"
    report.show(title, ["case", "tokens/s", "x Trainer"], columns)


def in_ranks(function: Any, job: Job) -> Any:
    """What `function(job)` left in the job's folder, after running on every rank."""
    Path(job.folder).mkdir(exist_ok=True)
    code = run_local_ranks(RANKS, function, job)
    if code:
        raise RuntimeError(f"the ranks of {job.setting} ended with {code}")
    return json.loads((Path(job.folder) / "found.json").read_text())


def _leave(job: Job, found: Any) -> int:
    if dist.get_rank() == 0:
        (Path(job.folder) / "found.json").write_text(json.dumps(found))
    dist.barrier()
    # the group is not destroyed: DDP's reducer would take it along when it goes, and torch then waits, holding Python's
    # lock, for gloo threads that may want that lock
    return 0


def take_turns(size: Size, job: Job) -> tuple[list[dict[str, Any]], list[Goal]]:
    """One row per contender, and the goals of this size and precision."""
    times = {name: Timing(seconds) for name, seconds in in_ranks(_run_turns, job).items()}
    tokens = job.turn * job.setting.global_batch * SEQ_LENGTH
    rows = [
        {
            "size": size.name, "precision": job.setting.precision, "case": name, "seconds": timing.seconds,
            "tokens_per_second": tokens / timing.median, "times_trainer": ratio(times[TRAINER], timing),
        }
        for name, timing in times.items()
    ]  # fmt: skip
    goals = [over_trainer(size.name, job.setting.precision, name).measured(ratio(times[TRAINER], times[name]))
             for name in CONNECTIVITIES]  # fmt: skip
    return rows, goals


def _run_turns(job: Job) -> int:
    """A rank's part: Trainer trains, and after each of its turns the others have theirs."""
    torch.set_num_threads(1)
    device = init_distributed(600.0)
    seconds: dict[str, list[float]] = {name: [] for name in (TRAINER, *job.cases)}
    with ExitStack() as stack:
        ours = {name: stack.enter_context(our_loop(job.config(name), device))[1] for name in job.cases}
        turn, began = -1, 0.0  # the first is warm-up

        def others_turns() -> bool:
            nonlocal turn, began
            now = _together()
            if turn >= 0:
                seconds[TRAINER].append(now - began)
            for name, advance in ours.items():
                began = now
                advance(job.turn)
                now = _together()
                if turn >= 0:
                    seconds[name].append(now - began)
            turn, began = turn + 1, now
            return turn == job.rounds

        dataset = blocks_dataset(job.setting.data)
        callback = AfterSteps(job.turn, others_turns)
        trainer(job.setting, bert(job.setting), dataset, callback, f"{job.folder}/trainer", RANKS).train()
    return _leave(job, seconds)


def _together() -> float:
    """The time at which all ranks have come here."""
    dist.barrier()
    return time.perf_counter()


def loss_curves(job: Job) -> dict[str, list[float]]:
    """The losses, step by step, of the residual twin and of Trainer with the same initial weights and batches."""
    return in_ranks(_run_curves, job)


def difference(curves: dict[str, list[float]]) -> float:
    """The largest relative difference of two curves."""
    ours, theirs = curves.values()
    return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))


def _run_curves(job: Job) -> int:
    torch.set_num_threads(1)
    device = init_distributed(600.0)
    config = job.config("residual")
    with our_loop(config, device) as (training, advance):
        advance(job.turn)
        model = acn_to_bert(initial_weights(training))
    rows = masked_rows(job.setting.data, job.turn * job.setting.global_batch)
    callback = AfterSteps(job.turn, lambda: True)
    fields = {"train_sampling_strategy": "sequential", "data_collator": default_data_collator}
    other = trainer(job.setting, model, rows, callback, f"{job.folder}/trainer", RANKS, **fields)
    # Trainer hands BERT the number of targets to divide by, which BERT ignores: losses, and gradients before they are
    # clipped, would be as many times too large as there are ranks and micro-batches
    other.model_accepts_loss_kwargs = False
    other.train()
    theirs = [entry["loss"] for entry in other.state.log_history if "loss" in entry]
    ours = read_metrics(Path(config.output))["train/loss"] if dist.get_rank() == 0 else {}
    assert all(map(math.isfinite, theirs))
    return _leave(job, {"residual": [ours[step] for step in sorted(ours)], TRAINER: theirs})


def masked_rows(data: str, samples: int) -> list[dict[str, torch.Tensor]]:
    """The first samples of a run as `acn pretrain` masks them, in the form of BERT's inputs."""
    stream = TokenStream(data, StreamConfig(), MaskingConfig())
    batches = stream.micro_batches(0, samples)
    batch = next(batches)
    batches.close()
    labels = torch.full_like(batch.input_ids, IGNORED_LABEL).scatter(1, batch.masked_positions, batch.labels)
    return [{"input_ids": ids, "labels": row} for ids, row in zip(batch.input_ids, labels, strict=True)]


BENCHMARK = Benchmark("training", __doc__, measure, rounds=3)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
