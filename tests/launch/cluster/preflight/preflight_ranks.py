"""Ranks of `acn preflight` as processes of their own, each on a machine of its own as far as Linux can pretend: host
name, mounts, network, clock, speed.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests import processes

# linux/sched.h and sys/mount.h
NEW_MOUNTS, NEW_NAMES = 0x00020000, 0x04000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000


@dataclass
class Machine:
    """What is special about the machine that a rank runs on."""

    host: str
    mounts: dict[str, str] = field(default_factory=dict)
    """What lies in place of a folder or file."""
    read_only: list[str] = field(default_factory=list)
    shim: str | None = None
    """Folder in front of sys.path, as PYTHONPATH would put it there."""
    clock: float = 0.0
    """Seconds that its clock is ahead."""
    pause: float = 0.0
    """Seconds that it rests after every matrix product."""
    dies_after: str | None = None
    """Check after which the rank is killed."""
    network: str | None = None
    """Network namespace."""
    environment: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)


@dataclass
class Result:
    """What a preflight came to."""

    codes: list[int | None]
    out: str
    """Of rank 0."""
    errors: list[str]
    """By rank."""
    report: dict
    seconds: float

    def rows(self, level: str = "fault") -> list[tuple[str, str]]:
        """(check, where) of all findings of a level."""
        return [(row["check"], row["where"]) for row in self.report["findings"] if row["level"] == level]

    def faults(self) -> list[tuple[str, str]]:
        """(check, where) of all faults, but for stragglers: this machine has other things to do, too."""
        return [row for row in self.rows() if row[0] != "compute"]

    def seen(self, check: str) -> str:
        """What a check says it saw, all rows of it."""
        return " | ".join(row["seen"] for row in self.report["findings"] if row["check"] == check)


def may_unshare() -> bool:
    """Whether this user may make namespaces."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    return processes.run(_unshare, NEW_MOUNTS | NEW_NAMES).returncode == 0


def run(
    machines: Sequence[Machine],
    options: Sequence[str],
    folder: Path,
    master: str = "127.0.0.1",
    missing: Sequence[int] = (),
) -> Result:
    """`acn preflight OPTIONS`, one rank on each machine but the missing ones, as torchrun would start them."""
    began = time.monotonic()
    ranks: dict[int, processes.Started] = {}
    with processes.reserved_port() as port:
        for rank, machine in enumerate(machines):
            if rank in missing:
                continue
            variables = {
                "RANK": rank, "WORLD_SIZE": len(machines), "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": rank,
                "MASTER_ADDR": master, "MASTER_PORT": port, "OMP_NUM_THREADS": 1, **machine.environment,
            }  # fmt: skip
            words = ["preflight", *options, *machine.options, "--json", str(folder / "report.json")]
            environment = os.environ | {name: str(value) for name, value in variables.items()}
            ranks[rank] = processes.start(_be_rank, machine, words, environment=environment)
        try:
            texts = {rank: process.communicate() for rank, process in ranks.items()}
        finally:
            for process in ranks.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
    report = folder / "report.json"
    return Result(
        codes=[ranks[rank].wait() if rank in ranks else None for rank in range(len(machines))],
        out=texts[0][0] if 0 in texts else "",
        errors=[texts[rank][1] if rank in texts else "" for rank in range(len(machines))],
        report=json.loads(report.read_text()) if report.exists() else {},
        seconds=time.monotonic() - began,
    )


def _be_rank(machine: Machine, words: list[str]) -> int:
    _unshare(NEW_MOUNTS | NEW_NAMES)
    _call("sethostname", machine.host.encode(), len(machine.host))
    if machine.network is not None:
        with open(f"/var/run/netns/{machine.network}") as namespace:
            _call("setns", namespace.fileno(), 0)
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    for place, what in machine.mounts.items():
        _call("mount", what.encode(), place.encode(), None, MS_BIND, None)
    for place in machine.read_only:
        _call("mount", place.encode(), place.encode(), None, MS_BIND, None)
        _call("mount", None, place.encode(), None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)
    if machine.shim is not None:
        sys.path.insert(0, machine.shim)
    if machine.clock:
        true = time.time
        time.time = lambda: true() + machine.clock
    _measure_speed_briefly()
    if machine.pause:
        _rest_after_products(machine.pause)
    if machine.dies_after is not None:
        _die_after(machine.dies_after)
    from launch import cli

    return cli.main(words)


def _measure_speed_briefly() -> None:
    """A fifth of a second instead of one, which is for GPUs to come to their clock."""
    from launch.cluster.preflight import compute

    measure = compute.sustained_rate
    compute.sustained_rate = lambda device, precision: measure(device, precision, seconds=0.2)


def _rest_after_products(seconds: float) -> None:
    import torch

    product = torch.mm

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return product(*arguments, **options)

    torch.mm = slow


def _die_after(name: str) -> None:
    """Have a check that is part of every job kill this rank instead of answering."""
    from launch.cluster.preflight import run as order

    def last(measure: Callable[[Any], Any], site: Any) -> None:
        measure(site)
        os.kill(os.getpid(), signal.SIGKILL)

    order.STAGES = tuple(
        tuple(
            replace(check, measure=lambda site, measure=check.measure: last(measure, site))
            if check.name == name
            else check
            for check in stage
        )
        for stage in order.STAGES
    )


def _unshare(what: int) -> None:
    _call("unshare", what)


def _call(name: str, *arguments: object) -> None:
    """A function of the C library; OSError when it fails."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
