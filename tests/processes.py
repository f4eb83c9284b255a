"""Real processes that start at once: forked from a server that has imported everything, as the ranks of `acn` are.

`acn` and its ranks run here as on a command line, in processes and a process group of their own, with pipes for their
output, and can be signalled and killed. What differs is that importing torch, DeepSpeed and transformers is paid for
once in a test session and not twice a run: the launcher is forked from the server that its ranks are forked from. Tests
of starting itself (tests/launch/test_starting.py) run the command as a user does.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, reduction
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import IO, Any

import psutil

from launch import rank_server, ranks

MODULES = (
    "pretrain.lean_deepspeed", "pretrain.trainer", "pretrain.observe.figures", "jsonargparse", "datasets", "mlflow",
    "mlflow.store.tracking.sqlalchemy_store", "eval.glue.suite", "eval.compress.compress", "eval.report.report",
    "eval.studies.registry", "launch.cluster.preflight.run", "launch.publishing.publish", "launch.tracking.tracker",
    "benchmarks.training",
)  # fmt: skip


def start_server() -> None:
    """Start the server of all processes of this session, unless it runs."""
    ranks.start_server(MODULES)


class Started:
    """A running process, with the interface of `subprocess.Popen` as far as tests need it."""

    def __init__(self, process: BaseProcess, args: list[str], stdout: IO[str], stderr: IO[str] | None):
        self._process, self.args, self.stdout, self.stderr = process, args, stdout, stderr
        assert process.pid is not None
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 120.0) -> int:
        """The exit code, once the process has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired(self.args, timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Signal the process and its ranks, as a terminal or a scheduler does."""
        os.killpg(self.pid, number)

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """Everything that is still written, and the end."""
        texts = ["", ""]

        def read(index: int, pipe: IO[str]) -> None:
            texts[index] = pipe.read()

        pipes = [pipe for pipe in (self.stdout, self.stderr) if pipe is not None]
        readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in enumerate(pipes)]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            raise
        for reader in readers:
            reader.join()
        return texts[0], texts[1]


@dataclass
class _Surroundings:
    """What a command finds: its environment and working directory, and how it reaches the server."""

    environment: dict[str, str]
    folder: Path
    server: str
    outputs: tuple[Any, Any]
    """File descriptors of stdout and stderr here; what becomes of them on the way to the process there."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"outputs": tuple(map(reduction.DupFd, self.outputs))}


def start(
    function: Callable[..., Any],
    *args: Any,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    merge_stderr: bool = False,
) -> Started:
    """Run `function(*args)` in a process and a process group of its own; what it returns is its exit code."""
    start_server()
    out_r, out_w = os.pipe()
    err_r, err_w = (out_r, out_w) if merge_stderr else os.pipe()
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    given = dict(os.environ if environment is None else environment)
    surroundings = _Surroundings(given, folder or Path.cwd(), address, (out_w, err_w))
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run, args=(surroundings, function, args))
    process.start()
    for end in {out_w, err_w}:
        os.close(end)
    return Started(process, list(map(str, args)), open(out_r), None if merge_stderr else open(err_r))


def wait_until(happened: Callable[[], bool], process: Started | None = None, seconds: float = 300.0) -> None:
    """Wait for an event, which `process` brings about if one is given.

    Raises:
        AssertionError: the process ended before, or it took longer than any machine needs.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if process is not None and process.poll() is not None and not happened():
            raise AssertionError(f"ended with {process.poll()}: {process.communicate()}")
        assert time.monotonic() < deadline, f"nothing in {seconds:.0f} s"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, whoever its parent is and whether or not that has noticed."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of the loopback that nobody else is given meanwhile, and at which nobody answers.

    It is bound, so that the system deals it to none of the other tests; a server, which sets SO_REUSEADDR as all do,
    may bind it too and listen.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def run(function: Callable[..., Any], *args: Any, timeout: float = 300.0, **options: Any) -> CompletedProcess[str]:
    """The same, and wait for its end."""
    process = start(function, *args, **options)
    stdout, stderr = process.communicate(timeout)
    return CompletedProcess(process.args, process.wait(), stdout, stderr)


def start_acn(*arguments: str, **options: Any) -> Started:
    """Start `acn ARGUMENTS`."""
    return start(_acn, *arguments, **options)


def run_acn(*arguments: str, **options: Any) -> CompletedProcess[str]:
    """Run `acn ARGUMENTS`: its exit code, stdout and stderr."""
    return run(_acn, *arguments, **options)


def run_module(name: str, *arguments: str, **options: Any) -> CompletedProcess[str]:
    """Run `python -m NAME ARGUMENTS`."""
    return run(_module, name, *arguments, **options)


def _module(name: str, *arguments: str) -> None:
    sys.argv = [name, *arguments]  # runpy puts the file in place of the name
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _acn(*arguments: str) -> int:
    from launch import cli

    sys.argv = ["acn", *arguments]
    return cli.main(list(arguments))


def _run(surroundings: _Surroundings, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.setpgid(0, 0)
    for number, copy in enumerate(surroundings.outputs, start=1):
        os.dup2(copy.detach(), number)
    os.environ.clear()
    os.environ.update(surroundings.environment)
    os.chdir(surroundings.folder)
    for number in rank_server.SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, rank_server.SIGNALS)
    # the server that this process was forked from forks its ranks, too
    server = forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_address = surroundings.server
    server.ensure_running = forkserver.ensure_running = lambda: None
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    raise SystemExit(function(*args))
