"""What the benchmarks share: interleaved timing, peak memory of a fresh process, tables, goals, options and JSON.

A machine's speed drifts (other programs, heat), so the cases of a comparison run in turn, round after round, and are
compared within each round: `ratio` is the median of the rounds' ratios, which drift does not touch.
"""

import argparse
import ctypes
import datetime
import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from data_pipeline import write_json
from launch.provenance import processor

Step = Callable[[], Any]

M_MMAP_THRESHOLD = -3  # of mallopt(3)


@dataclass(frozen=True)
class Timing:
    """Seconds of one case, round by round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def interleave(
    cases: dict[str, Step], rounds: int, warmup: int = 2, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Run every case once per round, each round starting with another one; the first `warmup` rounds do not count.

    Args:
        clock: seconds; `time.process_time` leaves out what other programs took, for work that neither waits nor has
            more than one thread.
    """
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            cases[name]()
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return {name: Timing(values) for name, values in seconds.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times `fast` goes into `slow`: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def _memory(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes; unlike getrusage's, this peak is not inherited from the parent."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024


def _peak_of(setup: Callable[..., Step], args: tuple[Any, ...], steps: int) -> int:
    torch.set_num_threads(1)
    # glibc keeps freed blocks of middling size; mapped one by one they go back, and the peak is what was alive
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)
    before = _memory("VmRSS")  # the interpreter and its libraries
    step = setup(*args)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # what building took is not the step's peak: see proc(5)
    for _ in range(steps):
        step()
    return _memory("VmHWM") - before


def peak_memory(setup: Callable[..., Step], *args: Any, steps: int = 2) -> int:
    """Peak resident bytes of a fresh process while it runs the step that `setup(*args)` returns (Linux with glibc).

    Its libraries do not count; what `setup` leaves behind (weights, batch) does.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([setup.__module__])  # imported once, in a process that has computed nothing
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(_peak_of, setup, args, steps).result()


@dataclass(frozen=True)
class Goal:
    """A figure and what it was meant to be."""

    what: str
    """The figure in words."""
    value: float
    """Measured."""
    bound: float
    """Aimed at."""
    at_least: bool = True
    """The value should be at least (else at most) the bound."""

    @property
    def met(self) -> bool:
        """Whether the value keeps to the bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'met    ' if self.met else 'NOT MET'}  {self.what}: {self.value:.3f} (goal {sign} {self.bound:g})"


def machine() -> dict[str, Any]:
    """What a figure has to name: processors, device, threads, versions, date."""
    found: dict[str, Any] = {"processor": processor(), "cpu_cores": os.cpu_count()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    found |= {"threads": torch.get_num_threads(), "python": sys.version.split()[0]}
    for library in ("torch", "transformers", "deepspeed"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = None
    return found | {"date": datetime.date.today().isoformat()}


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An aligned Markdown table; the first column to the left, the others to the right."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    rendered = []
    for line in lines:
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        rendered.append("| " + " | ".join([first.strip().ljust(widths[0]), *rest]) + " |")
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([rendered[0], rule, *rendered[1:]])


def write_results(path: Path, goals: Sequence[Goal], **results: Any) -> None:
    """Write machine, results and goals."""
    write_json(path, {"machine": machine(), **results, "goals": [asdict(goal) | {"met": goal.met} for goal in goals]})


@dataclass
class Report:
    """What a benchmark finds: it shows tables as it goes, and leaves its goals and measurements here."""

    goals: list[Goal] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def show(self, title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table, and keep it for the page."""
        rows = [list(row) for row in rows]
        self.results.setdefault("tables", []).append({"title": title, "columns": list(headers), "rows": rows})
        print(f"\n{title}\n{table(headers, rows)}", flush=True)


@dataclass(frozen=True)
class Benchmark:
    """A member of the suite, whose module can be run alone: `sys.exit(BENCHMARK.main())`."""

    name: str
    """That of its module in this package."""
    doc: str
    """Its help."""
    measure: Callable[[argparse.Namespace, Report], None]
    """Measures with the options of the command line, of which it has at least `rounds` and `quick`."""
    rounds: int
    """Rounds that count, unless the command line says otherwise."""
    add_options: Callable[[argparse.ArgumentParser], None] | None = None
    """Adds options of its own."""
    exact: bool = False
    """Its goals are no question of speed: exit code 1 when one is missed."""

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Measure, print tables and whether the goals were met, and write JSON if asked; returns the exit code."""
        parser = argparse.ArgumentParser(description=self.doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--json", type=Path, help="write every measurement to this file")
        parser.add_argument("--rounds", type=int, help=f"rounds that count (default: {self.rounds}; 1 with --quick)")
        parser.add_argument("--quick", action="store_true", help="as little as shows that everything runs")
        if self.add_options is not None:
            self.add_options(parser)
        options = parser.parse_args(argv)
        if options.rounds is None:
            options.rounds = 1 if options.quick else self.rounds
        torch.set_num_threads(1)
        print(" ".join(f"{name}={value}" for name, value in machine().items()), flush=True)
        report = Report()
        self.measure(options, report)
        print("\n" + "\n".join(map(str, report.goals)), flush=True)
        if options.json:
            head = {"benchmark": self.name, "quick": options.quick, "rounds": options.rounds}
            write_results(options.json, report.goals, **head, **report.results)
        return int(self.exact and not all(goal.met for goal in report.goals))
