"""Several ranks on this machine from one command, for `--nproc_per_node`."""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

GRACE_SECONDS = 30.0
KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_ARENA_MAX": "1"}
"""mallopt(3) of the ranks' C library (glibc; others ignore it). Otherwise it gives every freed block above 32 MB, such
as the gradient of the embeddings, back to the system, which maps and zeroes its pages anew in the next micro-batch. One
arena, because the others, which gloo's threads would have, can neither hold such blocks nor keep them."""


def count_problems(nproc_per_node: int) -> list[str]:
    """Why so many local ranks cannot be started; empty when they can."""
    if nproc_per_node < 1:
        return [f"nproc_per_node={nproc_per_node} must be at least 1"]
    if nproc_per_node > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        return ["nproc_per_node: torchrun has started the ranks already, leave it at 1"]
    return []


def run_local_ranks(count: int, function: Callable[[Any], int], argument: Any) -> int:
    """Run `function(argument)` in `count` processes joined by RANK, WORLD_SIZE and MASTER_PORT; returns an exit code.

    0 when all ranks return 0, otherwise the first other code. When one rank dies, which is said with its number and
    cause, the others are ended within GRACE_SECONDS. Ctrl-C reaches the ranks through the terminal; this process waits
    for what they make of it.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    for name, value in KEEP_FREED_MEMORY.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    ranks = [
        context.Process(target=_rank_main, args=(rank, count, port, function, argument), name=f"rank {rank}")
        for rank in range(count)
    ]
    forward = {number: signal.signal(number, lambda number, _: _signal(ranks, number)) for number in _FORWARDED}
    before_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in ranks:
            process.start()
        return _wait(ranks)
    finally:
        _signal(ranks, signal.SIGKILL)
        for process in ranks:
            if process.pid is not None:
                process.join()
        signal.signal(signal.SIGINT, before_interrupt)
        for number, handler in forward.items():
            signal.signal(number, handler)


_FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


def _rank_main(rank: int, count: int, port: int, function: Callable[[Any], int], argument: Any) -> None:
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    raise SystemExit(function(argument))


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent is gone, so that a killed launcher leaves no ranks behind."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _wait(ranks: Sequence[BaseProcess]) -> int:
    while any(process.is_alive() for process in ranks):
        failed = [process for process in ranks if process.exitcode]
        if failed:
            return _end_others(ranks, failed[0])
        time.sleep(0.1)
    return next((process.exitcode for process in ranks if process.exitcode), 0)


def _end_others(ranks: Sequence[BaseProcess], failed: BaseProcess) -> int:
    """Give the other ranks a moment to reach the same end by themselves, then end them."""
    assert failed.exitcode is not None
    if failed.exitcode < 0:
        cause = f"was killed by {signal.Signals(-failed.exitcode).name}"
        where = f"{failed.name} (pid {failed.pid}) on {socket.gethostname()}"
        print(f"ERROR: {where} {cause}; the other ranks end within {GRACE_SECONDS:.0f} s", file=sys.stderr, flush=True)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(process.is_alive() for process in ranks) and time.monotonic() < deadline:
        time.sleep(0.1)
    return failed.exitcode if failed.exitcode > 0 else 128 - failed.exitcode


def _signal(ranks: Sequence[BaseProcess], number: int) -> None:
    for process in ranks:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
