"""Runs benchmarks one after another and ends with one table of all goals.

    python -m benchmarks --json benchmarks/results/cpu.json
    python -m benchmarks model training --quick

Each runs in a process of its own (`python -m benchmarks.NAME`), so one that fails costs only its own figures: the
others are shown and written, and the exit code is 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline import write_json

from .timing import machine, table

DEFAULT = (
    "startup",
    "training",
    "finetune",
    "scaling",
    "communication",
    "model",
    "inference",
    "early_exit",
    "eval",
    "data",
    "memory",
    "reversible",
    "tracking",
)
"""What runs when no name is given; meant to take at most 35 minutes on two cores that have nothing else to do."""
LONG = ("faults",)
"""What runs only by name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run them, print the table, write the JSON; 0 when all of them came to their end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = f"{', '.join(DEFAULT)} (these by default); {', '.join(LONG)}"
    parser.add_argument("names", nargs="*", metavar="name", help=known)
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--quick", action="store_true", help="as little as shows that everything runs")
    options = parser.parse_args(argv)
    if unknown := sorted({*options.names} - {*DEFAULT, *LONG}):
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose from {known}")
    found: dict[str, Any] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or DEFAULT:
            record = run(name, Path(folder) / f"{name}.json", options.quick)
            if record is None:
                failed.append(name)
            else:
                found[name] = record
            if options.json:  # after each of them: an interruption keeps what there is
                write_json(options.json, {"machine": machine(), "benchmarks": found, "failed": failed})
    print(f"\n{summary(found)}")
    if failed:
        print(f"did not run to the end: {', '.join(failed)}")
    return int(bool(failed))


def run(name: str, file: Path, quick: bool) -> dict[str, Any] | None:
    """What `python -m benchmarks.NAME` measured, or None when it failed."""
    print(f"\n=== {name}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *(["--quick"] if quick else [])]
    began = time.monotonic()
    # one thread for each process, which comparisons of one core, and of two ranks on two cores, are about
    subprocess.run(command, env={"OMP_NUM_THREADS": "1"} | os.environ, check=False)
    if not file.exists():  # written last; the exit code also tells of goals
        return None
    return json.loads(file.read_text()) | {"took_seconds": round(time.monotonic() - began)}


def summary(found: dict[str, Any]) -> str:
    """One row per goal."""
    rows = [
        [f"{name}: {goal['what']}", f"{'>=' if goal['at_least'] else '<='} {goal['bound']:g}", f"{goal['value']:.3f}",
         "met" if goal["met"] else "NOT MET"]
        for name, record in found.items()
        for goal in record["goals"]
    ]  # fmt: skip
    return table(["figure", "goal", "measured", ""], rows)


if __name__ == "__main__":
    sys.exit(main())
