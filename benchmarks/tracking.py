"""What recording 100 metrics a step costs training: `python -m benchmarks.tracking --json out.json`.

The same training step runs with and without a tracker in turn, into metrics.jsonl alone, an SQLite store, a real
`mlflow server`, and that server while it hangs (SIGSTOP). Figures are CPU time, which other programs do not touch: what
the training thread spends in `log_metrics` as a share of a step, and all that this process spends on a tracked step
against a bare one (median over rounds). The second contains the tracker's own thread, so it is what training would lose
if there were no second core to run it on. The longest call is wall-clock time: it would show a wait for the server.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.timing import Benchmark, Goal, Report, interleave, ratio
from launch.tracking import Tracker, TrackingConfig, open_tracker
from modeling import AcnConfig, AcnForMaskedLM

METRICS = 100
SERVER_SECONDS = 120


def measure(options: argparse.Namespace, report: Report) -> None:
    """Every store."""
    step = training_step()
    figures = {}
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as (uri, process):
        stores = {
            "metrics.jsonl": None,
            "sqlite": f"sqlite:///{folder}/local.db",
            "server": uri,
            "server, hanging": uri,
        }
        for name, store in stores.items():
            config = TrackingConfig(mlflow=store, close_seconds=1)
            tracker = open_tracker(config, Path(folder) / name, name, {}, {})
            tracker.mlflow_run_id  # noqa: B018  the first connection, with the tables of a new database, is no step
            if "hanging" in name:
                os.killpg(process.pid, signal.SIGSTOP)
            figures[name] = measure_tracker(step, tracker, options.rounds)
            tracker.close()
        os.killpg(process.pid, signal.SIGCONT)
    show(figures, report)


def training_step() -> Callable[[], None]:
    """Forward, backward and optimizer step of a 6 x 256 encoder on 8 blocks of 128 tokens."""
    torch.manual_seed(0)
    config = AcnConfig(
        vocab_size=8192, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024
    )
    model = AcnForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(5, 8192, (8, 128))
    positions = torch.arange(0, 128, 7).repeat(8, 1)

    def step() -> None:
        model(input_ids=ids, masked_positions=positions, labels=ids.gather(1, positions)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_tracker(step: Callable[[], None], tracker: Tracker, rounds: int) -> dict[str, float]:
    """CPU time of a step, time and share of the calls of `log_metrics`, and the ratio of tracked to bare steps."""
    calls: list[float] = []
    waits: list[float] = []
    number = 0

    def tracked() -> None:
        nonlocal number
        number += 1
        step()
        values = {f"metric/{i:03d}": number + i / METRICS for i in range(METRICS)}
        began, waited = time.thread_time(), time.perf_counter()
        tracker.log_metrics(values, number)
        calls.append(time.thread_time() - began)
        waits.append(time.perf_counter() - waited)

    timings = interleave({"bare": step, "tracked": tracked, "bare again": step}, rounds, clock=time.process_time)
    return {
        "step_ms": 1e3 * timings["bare"].median,
        "log_ms": 1e3 * statistics.median(calls),
        "log_ms_longest": 1e3 * max(waits),
        "log_share": statistics.median(calls) / timings["bare"].median,
        "ratio": ratio(timings["tracked"], timings["bare"]),
        "ratio_of_bare_steps": ratio(timings["bare again"], timings["bare"]),
    }


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A real server on this machine: its URI and its process group's leader."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", f"{folder}/artifacts", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + SERVER_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def show(figures: dict[str, dict[str, float]], report: Report) -> None:
    """The table and the goals."""
    headers = ["recorded in", "step, ms", "log_metrics, ms", "longest, ms", "share of a step", "all CPU, times bare"]
    rows = [
        [
            name,
            f"{found['step_ms']:.0f}",
            f"{found['log_ms']:.2f}",
            f"{found['log_ms_longest']:.2f}",
            f"{found['log_share']:.2%}",
            f"{found['ratio']:.3f} ({found['ratio_of_bare_steps']:.3f})",
        ]
        for name, found in figures.items()
    ]
    report.show("in brackets: two bare steps against each other, which is the noise", headers, rows)
    report.goals += [
        Goal(f"{name}: share of a step that logging {METRICS} metrics takes", found["log_share"], 0.01, at_least=False)
        for name, found in figures.items()
    ]
    report.results |= {"figures": figures, "metrics": METRICS}


BENCHMARK = Benchmark("tracking", __doc__, measure, rounds=8)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
