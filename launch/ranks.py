"""Several ranks on this machine from one command, for `--nproc_per_node`.

Ranks are forked from one server process that has imported what they need once (multiprocessing's forkserver), while the
launcher still reads options and checks them: starting costs one import however many ranks there are.
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver, process, reduction, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from data_pipeline import Problem

from . import rank_server
from .errors import LaunchError
from .interrupt import INTERRUPTED, end_with_us, interrupt, starting

GRACE_SECONDS = 30.0
KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_ARENA_MAX": "1"}
"""mallopt(3) of the ranks' C library (glibc; others ignore it). Otherwise it gives every freed block above 32 MB, such
as the gradient of the embeddings, back to the system, which maps and zeroes its pages anew in the next micro-batch. One
arena, because the others, which gloo's threads would have, can neither hold such blocks nor keep them."""
SERVER_ENVIRONMENT = KEEP_FREED_MEMORY | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""What is set before the ranks' program starts, unless it is set already. NVML: looking for GPUs must not start CUDA in
the server, which could not be used after a fork."""
_FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


def count_problems(nproc_per_node: int) -> list[Problem]:
    """Why so many local ranks cannot be started; empty when they can."""
    if nproc_per_node < 1:
        return [Problem("nproc_per_node", nproc_per_node, "must be at least 1")]
    if nproc_per_node > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        return [Problem("nproc_per_node", fix="torchrun has started the ranks already, leave it at 1")]
    return []


def start_server(modules: Sequence[str]) -> None:
    """Have a process import `modules`, in the background, to fork ranks from; once per process, later calls do nothing.

    The server ends with this process and its ranks. Modules must neither start threads nor touch a GPU when imported.
    """
    multiprocessing.set_forkserver_preload([rank_server.__name__])
    # the folder of the package, not the working directory: a file eval.py there must not stand in for ours
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    ours = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", rank_server.MODULES: " ".join(modules)}
    resource_tracker.ensure_running()  # first, as it lifts the block below
    with _environment(SERVER_ENVIRONMENT | os.environ | ours):
        # the server inherits the block: signals are for the launcher, which gets them a little later, and the ranks
        before = signal.pthread_sigmask(signal.SIG_BLOCK, rank_server.SIGNALS)
        try:
            forkserver.ensure_running()
            end_with_us.update(filter(None, [_server_pid()]))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def server_of_ranks(modules: Sequence[str]) -> Iterator[None]:
    """Meanwhile such a server is there. One that was started for this is ended at once, or its imports would be waited
    for by whoever reads our output, also after a mistake that was found in a moment."""
    running = _server_pid() is not None
    with starting():
        start_server(modules)
    try:
        yield
    finally:
        if not running and (pid := _server_pid()) is not None:
            os.kill(pid, signal.SIGKILL)
            end_with_us.discard(pid)


def _server_pid() -> int | None:
    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


def run_local_ranks(count: int, function: Callable[[Any], int], argument: Any) -> int:
    """Run `function(argument)` in `count` processes joined by RANK, WORLD_SIZE and MASTER_PORT; returns an exit code.

    0 when all ranks return 0, otherwise the first other code. When one rank dies, which is said with its number and
    cause, the others are ended within GRACE_SECONDS. Ctrl-C reaches the ranks through the terminal; this process waits
    for what they make of it.

    Raises:
        LaunchError: the ranks' server ended while it imported what they need; its traceback is on stderr.
    """
    start_server(["torch"])
    with _reserved_port() as port:
        return _run_ranks(count, port, function, argument)


def _run_ranks(count: int, port: int, function: Callable[[Any], int], argument: Any) -> int:
    context = multiprocessing.get_context("forkserver")
    ranks = [
        context.Process(target=_run_rank, args=(_Place(rank, count, port), function, argument), name=f"rank {rank}")
        for rank in range(count)
    ]
    forward = {number: signal.signal(number, lambda number, _: _signal(ranks, number)) for number in _FORWARDED}
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        for rank in ranks:
            _start(rank)
        _ignore_interrupt()  # only now is there somebody else to answer Ctrl-C
        return _wait(ranks)
    finally:
        _ignore_interrupt()
        _signal(ranks, signal.SIGKILL)
        for rank in ranks:
            if rank.pid is not None:
                rank.join()
        signal.signal(signal.SIGINT, interrupt)
        for number, handler in forward.items():
            signal.signal(number, handler)


@dataclass
class _Place:
    """Where a rank stands: its number, and everything of its launcher that the server may not have.

    One server can serve several launchers, so the environment, the output and the process group, which Ctrl-C and job
    control go by, are handed over.
    """

    rank: int
    count: int
    port: int
    group: int = field(default_factory=os.getpgrp)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def __getstate__(self) -> dict[str, Any]:
        """What travels to the rank: copies of stdout and stderr, too."""
        sys.stdout.flush()
        sys.stderr.flush()
        return vars(self) | {"outputs": [(number, reduction.DupFd(number)) for number in (1, 2)]}

    def take(self) -> None:
        """Make this process the rank."""
        for number, copy in vars(self).pop("outputs"):
            os.dup2(copy.detach(), number)
        if os.getpgrp() != self.group:
            os.setpgid(0, self.group)
        _set_environment(SERVER_ENVIRONMENT | self.environment)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.count)))
        os.environ.update(
            RANK=str(self.rank),
            LOCAL_RANK=str(self.rank),
            WORLD_SIZE=str(self.count),
            LOCAL_WORLD_SIZE=str(self.count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(self.port),
        )


def _run_rank(place: _Place, function: Callable[[Any], int], argument: Any) -> None:
    place.take()
    for number in rank_server.SIGNALS:
        signal.signal(number, interrupt if number == signal.SIGINT else signal.SIG_DFL)
    _end_with_launcher()
    if (torch := sys.modules.get("torch")) is not None:  # it read the server's environment
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
    try:
        # blocked in the server, so that none was lost until here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, rank_server.SIGNALS)
        code = function(argument)
    except KeyboardInterrupt:
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near
    raise SystemExit(code)


def _end_with_launcher() -> None:
    """Get SIGTERM when the launcher or the server is gone, so that a killed launcher leaves no ranks behind."""
    launcher = process.parent_process()
    assert launcher is not None

    def watch() -> None:
        connection.wait([launcher.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _start(rank: BaseProcess) -> None:
    try:
        rank.start()
    except (OSError, EOFError) as error:
        raise LaunchError(f"{rank.name} could not be started ({error!r}); the reason is above") from error


def _wait(ranks: Sequence[BaseProcess]) -> int:
    """The exit code of the command, once all ranks have ended or one has failed."""
    alive = list(ranks)
    while alive:
        connection.wait([rank.sentinel for rank in alive])
        if failed := next((rank for rank in alive if rank.exitcode), None):
            return _end_others(ranks, failed)
        alive = [rank for rank in alive if rank.exitcode is None]
    return 0


def _end_others(ranks: Sequence[BaseProcess], failed: BaseProcess) -> int:
    """Give the other ranks a moment to reach the same end by themselves; the caller ends them then."""
    assert failed.exitcode is not None
    if failed.exitcode < 0:
        cause = f"was killed by {signal.Signals(-failed.exitcode).name}"
        where = f"{failed.name} (pid {failed.pid}) on {socket.gethostname()}"
        print(f"ERROR: {where} {cause}; the other ranks end within {GRACE_SECONDS:.0f} s", file=sys.stderr, flush=True)
    deadline = time.monotonic() + GRACE_SECONDS
    for rank in ranks:
        rank.join(max(0.0, deadline - time.monotonic()))
    return failed.exitcode if failed.exitcode > 0 else 128 - failed.exitcode


def _signal(ranks: Sequence[BaseProcess], number: int) -> None:
    for rank in ranks:
        if rank.pid is not None and rank.is_alive():
            os.kill(rank.pid, number)


def _ignore_interrupt() -> Any:
    """Ignore Ctrl-C; returns the handler to put back."""
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have exactly these environment variables for a moment."""
    before = dict(os.environ)
    try:
        _set_environment(values)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that the system gives to nobody else meanwhile; the first rank may listen there, with SO_REUSEADDR."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
