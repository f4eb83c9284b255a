"""Kills a pretraining run again and again, restarts it, and compares it with one that was left alone.

    python -m benchmarks.faults --rounds 20 --json out.json

Each round starts `acn pretrain` (two ranks) and sends SIGKILL to one rank, to all ranks or to the launcher, after a
random number of steps or in the middle of writing a checkpoint. When the rounds are over the run is let finish. Then
its weights must equal those of the undisturbed run bit for bit, its losses at every step too, and the log of samples
must show each of them exactly once.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from safetensors.torch import load_file

from data_pipeline.corpus import CorpusConfig, PrepareConfig, prepare_corpus
from pretrain.checkpoints import MARKER, newest_complete, step_folders, step_of
from pretrain.observe import read_metrics

from .timing import Benchmark, Goal, Report

GLOBAL_BATCH = 8
VICTIMS = ("one rank", "all ranks", "launcher")
MOMENTS = ("at a step", "during a checkpoint")
GIVE_UP_SECONDS = 300.0


@dataclass(frozen=True)
class Round:
    """One kill and the restart after it."""

    victim: str
    moment: str
    killed_at: int
    """The last step whose loss had been printed."""
    resumed_at: int
    """The step of the checkpoint that the next start took."""
    ended_after: float
    """Seconds from the kill to the end of the last process of the job."""
    back_after: float
    """Seconds from the restart to the first new step."""


def measure(options: argparse.Namespace, report: Report) -> None:
    """Run both and compare; a round is a kill."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = corpus(work)
        steps = 12 * options.rounds + 20
        _finish(command(data, work / "calm", steps))
        rounds = list(disturb(command(data, work / "killed", steps), work / "killed", options.rounds, options.seed))
        report.goals += compare(work / "calm", work / "killed", steps)
    rows = [
        [str(value) if not isinstance(value, float) else f"{value:.1f}" for value in asdict(r).values()] for r in rounds
    ]
    headers = ["victim", "moment", "killed at step", "resumed at", "ended after (s)", "back after (s)"]
    report.show(f"{options.rounds} kills", headers, rows)
    report.results |= {"kills": [asdict(one) for one in rounds], "steps": steps, "seed": options.seed}


def corpus(work: Path) -> Path:
    """A prepared corpus of a few thousand short blocks of random words."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 6))) for _ in range(200)]
    for name, lines in (("train", 6000), ("validation", 100)):
        text = "\n".join(" ".join(draw.choices(words, k=12)) for _ in range(lines))
        (work / f"{name}.txt").write_text(text + "\n")
    source = CorpusConfig(train=str(work / "train.txt"), validation=str(work / "validation.txt"))
    prepare_corpus(PrepareConfig(corpus=source, output=str(work / "tokens"), vocab_size=300, seq_length=16))
    return work / "tokens"


def command(data: Path, output: Path, steps: int) -> list[str]:
    """`acn pretrain` of a tiny model on two ranks; the same command starts and continues it."""
    options = {
        "data": data, "output": output, "steps": steps, "nproc_per_node": 2, "zero_stage": 1, "sample_log": "true",
        "global_batch_size": GLOBAL_BATCH, "micro_batch_size": 2, "log_every": 1, "tracking.mlflow": "null",
        "checkpoint.every": 4, "checkpoint.keep": 2, "validation.every": 0, "validation.blocks": 8,
        "model.hidden_size": 32, "model.num_hidden_layers": 4, "model.num_attention_heads": 2,
        "model.intermediate_size": 64, "model.max_position_embeddings": 16, "model.hidden_dropout_prob": 0.1,
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "launch.cli", "pretrain", *flags]


def _start(run: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def _finish(run: list[str]) -> None:
    process = _start(run)
    output, _ = process.communicate(timeout=GIVE_UP_SECONDS)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}:\n{output[-3000:]}")


def disturb(run: list[str], folder: Path, rounds: int, seed: int) -> Iterator[Round]:
    """Kill and restart `rounds` times, then let the run finish."""
    draw = random.Random(seed)
    for number in range(rounds):
        victim, moment = VICTIMS[number % 3], MOMENTS[number % 5 == 4 or number % 5 == 2]
        process = _start(run)
        started = time.monotonic()
        first, last, back_after = None, 0, 0.0
        wait_for = draw.randint(1, 8)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if (found := re.match(r"step +(\d+)/", line)) is None:
                continue
            last = int(found[1])
            if first is None:
                first, back_after = last, time.monotonic() - started
            if last - first >= wait_for:
                break
        else:
            raise SystemExit(f"the run ended by itself with {process.wait()}:\n{''.join(lines)[-3000:]}")
        if moment == "during a checkpoint":
            _await_checkpoint(folder, last)
        killed = time.monotonic()
        _kill(process, victim, draw)
        tail = process.communicate(timeout=GIVE_UP_SECONDS)[0]  # returns when the last process has closed the pipe
        steps = [int(step) for step in re.findall(r"^step +(\d+)/", tail, re.MULTILINE)]
        newest = newest_complete(folder)
        resumed_at = newest.progress.step if newest else 0
        ended = time.monotonic() - killed
        print(f"round {number + 1}/{rounds}: {victim} {moment}, step {last}; goes on from {resumed_at}", flush=True)
        yield Round(victim, moment, max([last, *steps]), resumed_at, round(ended, 2), round(back_after, 2))
    _finish(run)


def _await_checkpoint(folder: Path, step: int) -> None:
    """Until a checkpoint after `step` is being written: its folder is there and its marker is not."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        for path in step_folders(folder / "checkpoints"):
            files = [file.name for file in path.glob("*")]  # none when it has just been deleted
            if step_of(path.name) >= step and files and MARKER not in files:
                return
    raise SystemExit("no checkpoint was being written")


def _kill(process: subprocess.Popen[str], victim: str, draw: random.Random) -> None:
    launcher = psutil.Process(process.pid)
    ranks = [child for child in launcher.children() if "spawn_main" in " ".join(child.cmdline())]
    victims = {"one rank": [draw.choice(ranks)] if ranks else [], "all ranks": ranks, "launcher": [launcher]}[victim]
    for one in victims:
        one.send_signal(signal.SIGKILL)


def compare(calm: Path, killed: Path, steps: int) -> list[Goal]:
    """Weights, losses and samples of the two runs."""
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (killed, calm))
    different = sum(not ours[name].equal(theirs[name]) for name in theirs) + len(ours.keys() ^ theirs.keys())
    losses = [read_metrics(run)["train/loss"] for run in (killed, calm)]
    unequal = sum(losses[0].get(step) != losses[1][step] for step in losses[1])
    seen = sorted(sample for samples in _samples(killed) for sample in samples)
    missed = len(set(range(steps * GLOBAL_BATCH)) ^ set(seen))
    return [
        Goal("weights that differ from the undisturbed run", different, 0, at_least=False),
        Goal("steps whose loss differs", unequal, 0, at_least=False),
        Goal("samples missed, or seen that should not be", missed, 0, at_least=False),
        Goal("samples seen twice", len(seen) - len(set(seen)), 0, at_least=False),
    ]


def _samples(run: Path) -> Iterator[list[int]]:
    for path in (run / "samples").glob("rank-*.jsonl"):
        for line in path.read_text().splitlines():
            yield json.loads(line)["samples"]


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")


BENCHMARK = Benchmark("faults", __doc__, measure, rounds=20, add_options=_add_options, exact=True)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
