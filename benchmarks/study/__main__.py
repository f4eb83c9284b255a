"""python -m benchmarks.study: see the package's description."""

import argparse
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

import benchmarks.study as package
from data_pipeline import Manifest
from launch import LaunchError, reported
from launch.demo import TASKS as DOCUMENTATION_TASKS

from .budgets import BUDGETS, GLUE_TASKS, Budget, with_variants
from .commands import Home
from .conversion.budget import CONVERSIONS, Conversion
from .driver import CLAIM_FILE, Study
from .plan import KINDS, tasks_of
from .process import Processes
from .records import claim_home
from .rules import CLAIM, CONVERSION


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or continue, the study of a budget. Exit code 0: done, 1: a job failed, 2: a mistake, 75: goes on."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=package.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--budget", choices=[*BUDGETS, *CONVERSIONS], required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/claim"), help="folder of the study (runs/claim)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop this call after them; go on with the next"
    )
    parser.add_argument("--total_minutes", type=float, help="whole time of the study instead of the budget's")
    parser.add_argument("--only", choices=KINDS, help="jobs of this kind only")
    parser.add_argument("--tokens", type=Path, help="prepared corpus instead of the documentation's")
    parser.add_argument("--glue_dir", help="folder with GLUE's tasks, all of them unless --tasks chooses")
    parser.add_argument("--tasks", help="names between commas, of GLUE (with --glue_dir) or docsource and docorder")
    parser.add_argument(
        "--source", type=Path, help="budgets convert-2h and rivals-3h: folder of the model instead of the Hub's"
    )
    parser.add_argument("--variants", help="names between commas: only arms that start like this (budgets.py)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="of pretraining instead of acn pretrain's choice: bf16 is faster on CPUs with AMX",
    )
    parser.add_argument("--jobs", type=int, help="jobs side by side instead of the budget's number")
    parser.add_argument("--plan", action="store_true", help="show the jobs and estimates; run nothing")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    return reported("study", lambda: _run(args))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C: the job that runs is asked to stop, and its time is recorded."""
    raise KeyboardInterrupt


def _run(args: argparse.Namespace) -> int:
    budget: Budget | Conversion = (BUDGETS | CONVERSIONS)[args.budget]
    rules = CONVERSION if isinstance(budget, Conversion) else CLAIM
    default = ",".join(budget.tasks) if isinstance(budget, Conversion) else None
    tasks = tasks_of(args.tasks or default, args.glue_dir)
    _check(budget, args, tasks)
    for name, value in (("minutes", args.total_minutes), ("jobs", args.jobs), ("precision", args.precision)):
        if value is not None:
            budget = replace(budget, **{name: value})
    if args.variants is not None and isinstance(budget, Budget):
        budget = with_variants(budget, args.variants.split(","))
    from_documentation = any(task in DOCUMENTATION_TASKS for task in tasks)
    home = Home(args.output, args.tokens, args.glue_dir, documentation_tasks=from_documentation, source=args.source)
    if not args.plan:
        claim_home(budget, home, tasks)
    threads = max(1, (os.cpu_count() or 1) // budget.jobs)
    study = Study(budget, home, rules.plan(budget, tasks), Processes(threads), rules)
    if args.plan:
        print("state    estimate  up to here  job", *study.lines(), sep="\n")
        return 0
    code = study.run(args.minutes * 60, args.only)
    print(f"results: {args.output / CLAIM_FILE}")
    print(f"next: python -m benchmarks.study.page {args.output / CLAIM_FILE} --output {args.output}/page/results.md")
    return code


def _check(budget: Budget | Conversion, args: argparse.Namespace, tasks: Sequence[str]) -> None:
    """Raise a LaunchError about every bad option."""
    found = []
    for name in ("minutes", "total_minutes", "jobs"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            found.append(f"{name}={value} must be above 0")
    if args.tokens is not None and (length := Manifest.load(args.tokens).seq_length) != budget.seq_length:
        found.append(f"tokens={args.tokens} has blocks of {length} tokens, the budget of {budget.seq_length}")
    if isinstance(budget, Conversion):
        found += _conversion_problems(budget, args, tasks)
    else:
        found += _claim_problems(budget, args, tasks)
    if found:
        raise LaunchError("\n".join(found))


def _claim_problems(budget: Budget, args: argparse.Namespace, tasks: Sequence[str]) -> Iterator[str]:
    if budget.corpus_mb is None and args.tokens is None:
        yield f"budget={budget.name} needs --tokens: a folder of `acn prepare`, see --help"
    if args.source is not None:
        yield f"source={args.source} is for budget {' and '.join(CONVERSIONS)}: nothing is converted in {budget.name}"
    if args.variants is not None:
        known = dict.fromkeys(arm.variant for group in budget.groups for arm in group)
        if unknown := [name for name in args.variants.split(",") if name not in known]:
            yield f"variants: budget {budget.name} has no {', '.join(unknown)}: use {', '.join(known)}"
    for task in tasks:
        if task in GLUE_TASKS:
            yield from _absent(task, args.glue_dir)
        elif task not in DOCUMENTATION_TASKS:
            yield f"tasks: there is no {task}: use {', '.join((*DOCUMENTATION_TASKS, *GLUE_TASKS))}"


def _conversion_problems(budget: Conversion, args: argparse.Namespace, tasks: Sequence[str]) -> Iterator[str]:
    for name in ("variants", "precision"):
        if getattr(args, name) is not None:
            yield f"{name}={getattr(args, name)} is for the other budgets: leave it out"
    if args.source is not None and not (args.source / "config.json").is_file():
        yield f"source={args.source} has no config.json: name the folder of a model"
    for task in tasks:
        if task not in budget.tasks:
            yield f"tasks: budget {budget.name} has no {task}: use {', '.join(budget.tasks)}"
        else:
            yield from _absent(task, args.glue_dir)


def _absent(task: str, glue_dir: str | None) -> Iterator[str]:
    if glue_dir is None or not (Path(glue_dir) / task).is_dir():
        yield f"tasks: {task} needs --glue_dir with a folder {task}"


if __name__ == "__main__":
    sys.exit(main())
