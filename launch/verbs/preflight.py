"""acn preflight"""

import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import Problem

from ..cluster.preflight import PreflightConfig
from ..config_file import report_problems
from ..errors import LaunchError, reported
from ..ranks import run_local_ranks, server_of_ranks
from . import pretrain as pretrain_verb

if TYPE_CHECKING:
    from ..cluster.preflight import Outcome

COMMON = (
    "config", "data", "output", "nproc_per_node", "json", "preflight.arrival_seconds", "preflight.seconds",
    "preflight.straggler", "preflight.bandwidth", "preflight.sample_mb", "preflight.scratch_gb",
)  # fmt: skip
EXAMPLE = "acn preflight --config acn-mini --data runs/tokens --output runs/acn --nproc_per_node 2"


@dataclass
class Args(pretrain_verb.Args):
    """Check every node of a job before it trains; takes the configuration and the options of `acn pretrain`."""

    data: str | None = None  # type: ignore[assignment]
    """Folder written by `acn prepare`, or its URL. Without it nothing that depends on the corpus is checked."""
    output: str | None = None  # type: ignore[assignment]
    """Folder of the run to come: is it shared, writable, and is there room? Without it the working folder."""
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    """Limits of the checks."""
    json: str | None = None
    """File for the findings and everything that was measured; an earlier report there is replaced."""

    def problems(self) -> list[Problem]:
        found = super().problems() + self.preflight.problems()
        found += [
            Problem(name, wrong="is empty", fix="name a folder, or leave it out")
            for name in ("data", "output")
            if getattr(self, name) == ""
        ]
        return found + report_problems("json", self.json, "preflight", "report of preflight")


def run(args: Args) -> int:
    """Check in one process per rank, those that a launcher has started or `nproc_per_node` of our own."""
    if problems := args.problems():
        raise LaunchError(*problems)
    if "WORLD_SIZE" in os.environ:
        return _check(args)
    with server_of_ranks(["launch.cluster.preflight.run", __name__]):
        return run_local_ranks(args.nproc_per_node, _run_rank, args)


def _run_rank(args: Args) -> int:
    """A rank in a process of its own, which reports its own errors."""
    return reported("preflight", lambda: _check(args))


def _check(args: Args) -> int:
    from ..cluster.preflight import LostError, preflight

    try:
        outcome = preflight(args, args.tracking, args.preflight, lambda outcome: _tell(outcome, args))
    except LostError as error:
        print(f"acn preflight: rank {os.environ['RANK']} on {socket.gethostname()}: {error}", file=sys.stderr)
        return 1
    code = 0 if outcome.passed else 1
    if outcome.hung:  # the interpreter would wait for the thread, and the job for this rank
        sys.stdout.flush()
        os._exit(code)
    return code


def _tell(outcome: "Outcome", args: Args) -> None:
    """Show the findings: all of them on rank 0, its own on a rank that does not find the others."""
    from rich.console import Console

    from data_pipeline import write_json

    from ..cluster.preflight import report, show

    if os.environ["RANK"] != "0":
        show(outcome.findings, "", Console(stderr=True, highlight=False))
        return
    show(outcome.findings, _verdict(outcome), Console(highlight=False))
    sys.stdout.flush()
    if args.json is not None:
        write_json(Path(args.json), report(outcome))


def _verdict(outcome: "Outcome") -> str:
    faults = sum(row.level == "fault" for row in outcome.findings)
    warnings = sum(row.level == "warning" for row in outcome.findings)
    nodes = len({place.index for place in outcome.places})
    ranks = f"{len(outcome.places)} rank(s) on {nodes} node(s)" if nodes else "not all ranks arrived"
    on = f"{ranks}, {outcome.seconds:.0f} s"
    also = f", {warnings} warning(s)" if warnings else ""
    if outcome.passed:
        return f"preflight: go on{also} ({on})"
    return f"preflight: {faults} fault(s) to fix before training{also} ({on})"
