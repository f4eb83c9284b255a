"""Several processes that do the units of a job, and one that hands the units out.

A worker reports over a pipe about once per megabyte. When the parent is gone, killed included, the next report fails
and the worker ends; when a worker is gone, the parent reads the end of its pipe. `concurrent.futures` is not used:
its workers outlive a parent that is killed, and a killed worker breaks the whole pool without saying which unit it had.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess

from ..errors import DataError, UnfinishedError
from ..tokenizer import Vocabulary
from .encode import Worker
from .job import Job
from .progress import Progress, Step
from .units import Unit

_WAITS = (1.0, 4.0, 16.0)  # seconds before a unit is tried again after the network failed


def do_units(job: Job, vocabulary: Vocabulary | None, units: list[Unit], workers: int, progress: Progress) -> None:
    """Do the units with `workers` processes; 1 works in this one, with the tokenizer's own threads.

    Without a vocabulary the units are hashed only. Raises DataError for what a user can fix, UnfinishedError when a
    worker was killed or the network stays away; finished units stay finished.
    """
    if workers == 1 or len(units) < 2:
        worker = Worker(job, vocabulary)
        for unit in units:
            for step in _persistent(worker, unit):
                progress.update(unit.number, step)
            progress.finish(unit.number)
        return
    pool = _Pool(job, vocabulary, min(workers, len(units)))
    try:
        pool.run(units, progress)
    finally:
        pool.close()


def _persistent(worker: Worker, unit: Unit) -> Iterator[Step]:
    """The steps of a unit, begun again after a pause when the network fails."""
    for pause in (*_WAITS, None):
        try:
            yield from worker.steps(unit)
        except UnfinishedError:
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return


class _Pool:
    def __init__(self, job: Job, vocabulary: Vocabulary | None, workers: int) -> None:
        # Not forked from this process, which may hold threads and network connections, but from a clean one that has
        # paid for the imports once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._processes: dict[Connection, ForkServerProcess] = {}
        # Ctrl-C reaches the whole group: the server and the workers, which it forks with its mask, leave it to this one
        resource_tracker.ensure_running()  # first, as it lifts the block
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for _ in range(workers):
                self._start(context, job, vocabulary)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self, units: list[Unit], progress: Progress) -> None:
        """Hand out the units in order and follow them to their end."""
        waiting = iter(units)
        busy: dict[Connection, Unit] = {}
        for pipe in self._processes:
            if (unit := next(waiting, None)) is not None:
                self._send(pipe, unit, busy)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                unit, message = busy[ready], self._receive(ready)
                if isinstance(message, Step):
                    progress.update(unit.number, message)
                    continue
                if isinstance(message, BaseException):
                    raise message
                progress.finish(unit.number)
                del busy[ready]
                if (following := next(waiting, None)) is not None:
                    self._send(ready, following, busy)

    def close(self) -> None:
        """End all workers, idle or not: what they have not finished is begun anew another time."""
        for pipe, process in self._processes.items():
            pipe.close()
            process.kill()
            process.join()

    def _start(self, context: ForkServerContext, job: Job, vocabulary: Vocabulary | None) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, job, vocabulary, dict(os.environ)), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process

    def _send(self, pipe: Connection, unit: Unit, busy: dict[Connection, Unit]) -> None:
        busy[pipe] = unit
        try:
            pipe.send(unit)
        except OSError as error:
            raise self._lost(pipe) from error

    def _receive(self, pipe: Connection) -> object:
        try:
            return pipe.recv()
        except (EOFError, OSError) as error:
            raise self._lost(pipe) from error

    def _lost(self, pipe: Connection) -> UnfinishedError:
        process = self._processes[pipe]
        process.join(timeout=5)
        return UnfinishedError(
            f"a worker process ended with exit code {process.exitcode} (out of memory?): run the same command again, "
            "it goes on; fewer workers need less memory"
        )


def _serve(pipe: Connection, job: Job, vocabulary: Vocabulary | None, environment: dict[str, str]) -> None:
    """The life of a worker process: receive a unit, send its steps, then None or the error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also where the server was there before and blocks nothing
    os.environ.update(environment)  # the server was started with an older one
    os.environ["RAYON_NUM_THREADS"] = "1"  # one core per worker; read when the tokenizer first encodes
    try:
        worker = Worker(job, vocabulary)
        while True:
            unit = pipe.recv()
            for step in _persistent(worker, unit):
                pipe.send(step)
            pipe.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except (DataError, OSError) as error:  # a full disk for instance
        pipe.send(error)
    except Exception:
        pipe.send(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))
