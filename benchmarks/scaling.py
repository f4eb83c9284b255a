"""Weak scaling of `acn pretrain` from one rank to two on this machine, split into what memory and communication cost.

    python -m benchmarks.scaling --json out.json

Every rank has one thread, a core of its own and the same micro-batches, in fp32 with ZeRO stage 1. Four processes take
turns of some steps: one rank alone, two independent ranks side by side (which share the machine's memory, and send
each other nothing), and two ranks of one run. Efficiency is the time alone over the time of the run of two. It is the
product of alone over side by side (memory) and side by side over the run of two (communication, less the half of the
optimizer's work that ZeRO saves each rank). The model of `acn plan` predicts the run of two from the time side by side,
the volume of `planning.traffic` and the bus bandwidth of an all-reduce, which is measured in the same turns.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from launch import run_local_ranks
from launch.cluster.planning import ModelSize, Network, bytes_sent, model_step_time, step_traffic
from pretrain import LARGEST_BUCKET, init_distributed

from .contenders import Setting, Shape, our_loop
from .corpus import prepared_corpus
from .timing import Benchmark, Goal, Report, Timing, ratio

SEQ_LENGTH = 128
STAGE = 1
ALONE, SIDE_BY_SIDE, RUN_OF_TWO, ALL_REDUCE = "1 rank", "1 rank, twice side by side", "2 ranks", "all-reduce"
# which processes take part in a turn: 0 and 1 are runs of one rank each, 2 and 3 the ranks of the run of two
TURNS = {ALONE: (0,), SIDE_BY_SIDE: (0, 1), RUN_OF_TWO: (2, 3), ALL_REDUCE: (2, 3)}
PATIENCE_SECONDS = 300.0
"""How long a process waits for the others' turn before it gives up."""


@dataclass(frozen=True)
class Size(Shape):
    """What each rank runs."""

    accumulation: int
    efficiency: float
    """Aimed at. gloo moves about 1 GB/s within a machine: with 6 bytes sent per parameter a step waits some 20 ms at
    tiny (3.4 million parameters) and 110 ms at mini (18 million), beside some 0.2 and 0.7 s of computing."""


SIZES = (
    Size("tiny", 128, 12, 8192, micro_batch=8, accumulation=1, turn=4, efficiency=0.8),
    Size("mini", 256, 12, 32768, micro_batch=4, accumulation=2, turn=2, efficiency=0.85),
)
QUICK = (Size("tiny", 32, 2, 512, micro_batch=4, accumulation=2, turn=2, efficiency=0.8),)


@dataclass(frozen=True)
class Job:
    """What the four processes need to know."""

    size: Size
    data: str
    rounds: int
    folder: str
    """Where runs and figures go."""
    cores: tuple[int, int]
    turn_ends: Any
    """A barrier of multiprocessing that all four pass before and after each turn."""


def measure(options: argparse.Namespace, report: Report) -> None:
    """Every size in turn."""
    sizes, megabytes = (QUICK, 0.5) if options.quick else (SIZES, 4.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            data = prepared_corpus(Path(folder), megabytes, size.vocab, SEQ_LENGTH)
            row = compared(size, take_turns(size, str(data), options.rounds, f"{folder}/{size.name}"))
            report.goals += [
                Goal(f"{size.name}, fp32: efficiency of 2 ranks", row["efficiency"], size.efficiency),
                Goal(f"{size.name}, fp32: model of step time off by", row["model_off"], 0.1, at_least=False),
            ]
            show(report, size, row)
            rows.append(row)
    report.results["rows"] = rows


def show(report: Report, size: Size, row: dict[str, Any]) -> None:
    """The tables of one size."""
    share = f"{size.accumulation} x {size.micro_batch} x {SEQ_LENGTH} tokens per rank and step"
    times = [[name, f"{1e3 * statistics.median(row['seconds'][name]):,.1f}"] for name in TURNS]
    times.append(["2 ranks, by the model", f"{1e3 * row['model_seconds']:,.1f}"])
    report.show(f"{size.name}: {size.hidden} x {size.layers}, fp32, ZeRO {STAGE}, {share}", ["case", "ms"], times)
    parts = [[name, f"{row[name]:.3f}"] for name in ("efficiency", "memory", "communication")]
    parts.append(["GB/s of all-reduce", f"{row['bandwidth'] / 1e9:.2f}"])
    parts.append(["MB sent per step", f"{row['sent'] / 1e6:.1f}"])
    report.show("efficiency = memory x communication", ["figure", "value"], parts)


def take_turns(size: Size, data: str, rounds: int, folder: str) -> dict[str, Any]:
    """Seconds per step of every case, round by round, and what else the processes found.

    Raises:
        RuntimeError: this process may not use two cores, or the others failed.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise RuntimeError("two ranks with a core each need two cores")
    Path(folder).mkdir()
    ends = multiprocessing.get_context("spawn").Barrier(4)
    code = run_local_ranks(4, _run, Job(size, data, rounds, folder, (cores[0], cores[1]), ends))
    if code:
        raise RuntimeError(f"the ranks of {size.name} ended with {code}")
    parts = [json.loads((Path(folder) / f"{process}.json").read_text()) for process in range(4)]
    seconds = {
        # a turn is over when the slower one is
        name: [max(times) for times in zip(*(parts[process]["seconds"][name] for process in processes), strict=True)]
        for name, processes in TURNS.items()
    }
    return {**parts[2], "seconds": seconds}


def compared(size: Size, found: dict[str, Any]) -> dict[str, Any]:
    """The efficiency, its parts, and the model's idea of it."""
    times = {name: Timing(seconds) for name, seconds in found["seconds"].items()}
    model = ModelSize(**found["size"])
    traffic = step_traffic(model, STAGE, "fp32", size.accumulation)
    # bus bandwidth: two ranks send one payload each
    bandwidth = found["all_reduce_bytes"] / times[ALL_REDUCE].median
    predicted = model_step_time(
        traffic, Network(2, bandwidth, bandwidth), ranks=2, micro_batch=size.micro_batch,
        accumulation=size.accumulation, tokens=2 * size.accumulation * size.micro_batch * SEQ_LENGTH,
        rank_seconds=times[SIDE_BY_SIDE].median, overlap=False,
    )  # fmt: skip
    return {
        "size": size.name,
        "parameters": model.parameters,
        "seconds": found["seconds"],
        "efficiency": ratio(times[ALONE], times[RUN_OF_TWO]),
        "memory": ratio(times[ALONE], times[SIDE_BY_SIDE]),
        "communication": ratio(times[SIDE_BY_SIDE], times[RUN_OF_TWO]),
        "sent": bytes_sent(traffic, 2),
        "bandwidth": bandwidth,
        "model_seconds": predicted.seconds,
        "model_off": abs(predicted.seconds / times[RUN_OF_TWO].median - 1),
    }


def _run(job: Job) -> int:
    """One of the four processes: becomes a rank of its run, and takes its turns."""
    process = int(os.environ["RANK"])
    os.sched_setaffinity(0, {job.cores[process % 2]})
    if process < 2:  # a world of its own, whose port it chooses itself
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_PORT="0")
    else:
        os.environ.update(RANK=str(process % 2), LOCAL_RANK=str(process % 2), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    torch.set_num_threads(1)
    device = init_distributed(600.0)
    size, ranks = job.size, dist.get_world_size()
    global_batch = ranks * size.accumulation * size.micro_batch
    setting = Setting(job.data, size.hidden, size.layers, "fp32", size.micro_batch, global_batch, log_every=size.turn)
    output = f"{job.folder}/run-{process if ranks == 1 else 'of-two'}"
    with ExitStack() as stack:
        training, advance = stack.enter_context(our_loop(setting.config(output, zero_stage=STAGE), device))
        model = ModelSize.of([p.numel() for p in training.engine.module.parameters()])
        payload = torch.zeros(min(model.parameters, LARGEST_BUCKET))

        def turn(name: str) -> None:
            if name == ALL_REDUCE:
                for _ in range(size.turn):
                    dist.all_reduce(payload)
            else:
                advance(size.turn)

        seconds = _turns(job, process, turn)
    found = {"seconds": seconds, "size": vars(model), "all_reduce_bytes": payload.numel() * payload.element_size()}
    (Path(job.folder) / f"{process}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
    return 0


def _turns(job: Job, process: int, turn: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds per step of this process's turns; the first round is warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name, processes in TURNS.items() if process in processes}
    for number in range(1 + job.rounds):
        for name, processes in TURNS.items():
            job.turn_ends.wait(PATIENCE_SECONDS)
            if process in processes:
                began = time.perf_counter()
                turn(name)
                if number:
                    seconds[name].append((time.perf_counter() - began) / job.size.turn)
            job.turn_ends.wait(PATIENCE_SECONDS)
    return seconds


BENCHMARK = Benchmark("scaling", __doc__, measure, rounds=5)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
