"""How long a user waits before anything happens: the first line, help, mistakes, `acn plan`, the first step of a run.

    python -m benchmarks startup [--json FILE] [--rounds N]

Whole commands in processes of their own, in turn, by the clock; what they print is read as it comes. The corpus is
prepared before. The first step is that of two layers of width 16, so that nearly all of its time is starting; it is
compared with `import torch, deepspeed, transformers` in the same rounds.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.cli import VERBS

from .corpus import prepared_corpus
from .timing import Benchmark, Goal, Report

IMPORTS = "import torch, deepspeed, transformers"
VOCABULARY, LENGTH = 300, 32
TINY = [
    "--model.hidden_size=16", "--model.num_hidden_layers=2", "--model.num_attention_heads=2",
    "--model.intermediate_size=24", f"--model.max_position_embeddings={LENGTH}", "--global_batch_size=4",
    "--micro_batch_size=2", "--steps=1", "--log_every=1",
]  # fmt: skip
RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "acn-base.yaml"


@dataclass(frozen=True)
class Case:
    """A command, and the line of its output that is waited for; None waits for its end."""

    what: str
    command: Callable[[Path], list[str]]
    line: str | None = None
    bound: float | None = None
    """The goal, in seconds."""


def acn(*arguments: str) -> list[str]:
    """The command of a user, from this environment."""
    return [sys.executable, "-m", "launch.cli", *arguments]


def _corpus(folder: Path) -> Path:
    return prepared_corpus(folder, megabytes=0.3, vocab_size=VOCABULARY, seq_length=LENGTH)


def pretrain(folder: Path, ranks: int) -> list[str]:
    """One step of a run in a new folder."""
    output, data = tempfile.mkdtemp(dir=folder), str(_corpus(folder))
    given = [f"--data={data}", f"--output={output}/run", f"--tracking.mlflow=sqlite:///{output}/mlruns.db"]
    return acn("pretrain", *given, f"--nproc_per_node={ranks}", *TINY)


def first_step(ranks: int) -> Case:
    """A run until its first step is shown."""
    return Case(f"acn pretrain, {ranks} rank(s): the first step", lambda folder: pretrain(folder, ranks), "step 1/")


def show_help(verb: str) -> Case:
    """The help of a verb."""
    return Case(f"acn {verb} --help", lambda _: acn(verb, "--help"), bound=1.0)


BARE = Case(f"python -c '{IMPORTS}'", lambda _: [sys.executable, "-c", IMPORTS])


FIRST_STEPS = [first_step(1), first_step(2)]
MISTAKEN = ("--steps=-1", "--data=nowhere", "--output=nowhere")
CASES = [
    BARE,
    *FIRST_STEPS,
    Case("acn pretrain: the first line", lambda folder: pretrain(folder, 1), "acn pretrain", 0.5),
    Case("acn pretrain: all mistakes", lambda _: acn("pretrain", *MISTAKEN), bound=3.0),
    Case("acn plan", lambda _: acn("plan", "--config", str(RECIPE)), bound=3.0),
    *map(show_help, VERBS),
]


def seconds(case: Case, folder: Path) -> float:
    """From starting the command to its line, or its end.

    Raises:
        RuntimeError: the line never came.
    """
    began = time.perf_counter()
    with subprocess.Popen(case.command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines, waited = [], None
        for line in process.stdout:
            lines.append(line)
            if waited is None and case.line is not None and line.startswith(case.line):
                waited = time.perf_counter() - began
        process.wait()
    if case.line is None:
        return time.perf_counter() - began
    if waited is None:
        raise RuntimeError(f"{case.what} printed no {case.line!r}:\n{''.join(lines)}")
    return waited


def measure(options: argparse.Namespace, report: Report) -> None:
    """All cases in turn, after one round that does not count."""
    times: dict[str, list[float]] = {case.what: [] for case in CASES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _corpus(folder)
        for turn in range(options.rounds + 1):
            for case in CASES:
                taken = seconds(case, folder)
                if turn:
                    times[case.what].append(taken)
    medians = {what: statistics.median(values) for what, values in times.items()}
    rows = [
        [what, f"{medians[what]:.2f}", f"{min(values):.2f}", f"{max(values):.2f}"] for what, values in times.items()
    ]
    report.show(f"Seconds, median and range of {options.rounds} rounds", ["", "median", "least", "most"], rows)
    report.results["seconds"] = times
    for case in CASES:
        if case.bound is not None:
            report.goals.append(Goal(f"{case.what}, seconds", medians[case.what], case.bound, at_least=False))
    for case in FIRST_STEPS:
        ratios = [mine / bare for mine, bare in zip(times[case.what], times[BARE.what], strict=True)]
        what = f"{case.what} over the bare imports"
        report.goals.append(Goal(what, statistics.median(ratios), 1.3, at_least=False))


BENCHMARK = Benchmark("startup", __doc__, measure, rounds=3)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
