"""Ranks of `acn preflight` as processes of their own, each on a machine of its own as far as Linux can pretend: host
name, mounts, network, clock. Forked from a server that has imported everything, which saves seconds for each of them.
"""

import ctypes
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# linux/sched.h and sys/mount.h
NEW_MOUNTS, NEW_NAMES = 0x00020000, 0x04000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["launch.verbs.preflight", "torch.distributed.distributed_c10d"])


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
    trial = _SERVER.Process(target=_unshare, args=(NEW_MOUNTS | NEW_NAMES,))
    trial.start()
    trial.join()
    return trial.exitcode == 0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(
    machines: Sequence[Machine],
    options: Sequence[str],
    folder: Path,
    master: str = "127.0.0.1",
    missing: Sequence[int] = (),
    meanwhile: Callable[[list], None] = lambda ranks: None,
) -> Result:
    """`acn preflight OPTIONS`, one rank on each machine but the missing ones, as torchrun would start them."""
    port, began = free_port(), time.monotonic()
    ranks = []
    for rank, machine in enumerate(machines):
        environment = {
            "RANK": rank, "WORLD_SIZE": len(machines), "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": rank,
            "MASTER_ADDR": master, "MASTER_PORT": port, "OMP_NUM_THREADS": 1, **machine.environment,
        }  # fmt: skip
        words = ["preflight", *options, *machine.options, "--json", str(folder / "report.json")]
        texts = {name: str(value) for name, value in environment.items()}
        arguments = (machine, texts, words, str(folder / f"rank-{rank}"))
        ranks.append(_SERVER.Process(target=_be_rank, args=arguments))
    started = [process for rank, process in enumerate(ranks) if rank not in missing]
    for process in started:
        process.start()
    meanwhile(ranks)
    for process in started:
        process.join(90)
        assert process.exitcode is not None, f"{process} hangs"
    return Result(
        codes=[process.exitcode if process in started else None for process in ranks],
        out=_read(folder / "rank-0.out"),
        errors=[_read(folder / f"rank-{rank}.err") for rank in range(len(ranks))],
        report=json.loads(_read(folder / "report.json") or "{}"),
        seconds=time.monotonic() - began,
    )


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _be_rank(machine: Machine, environment: dict[str, str], words: list[str], output: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
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
    from launch import cli

    raise SystemExit(cli.main(words))


def _unshare(what: int) -> None:
    _call("unshare", what)


def _call(name: str, *arguments: object) -> None:
    """A function of the C library; OSError when it fails."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
