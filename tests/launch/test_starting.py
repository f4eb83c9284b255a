"""Starting `acn pretrain` as a user does, in interpreters of their own: what is left behind, and early Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.launch.test_cli import TINY
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """`acn pretrain ARGUMENTS` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch.cli", "pretrain", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what a shell starts in the background ignores Ctrl-C, the tests and all they start included
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def processes_of(session: int) -> list[str]:
    """The command lines of what still runs of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_two_ranks_start_from_one_server_and_leave_nothing_behind(prepared, tmp_path):
    """A file in the working directory with the name of a package of ours is none of ours."""
    for name in ("eval.py", "pretrain.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong file was imported')")
    given = ["--data", str(prepared), "--output", "run", "--nproc_per_node", "2", "--tracking.mlflow", "null", *TINY]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "launch.cli", "pretrain", *given]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("acn pretrain: starting\n")
    assert "2 rank(s)" in done.stdout
    assert (tmp_path / "run" / "model" / "config.json").exists()


def test_a_mistake_ends_the_server_too(tmp_path):
    process = start("--steps=-1", "--data=nowhere", "--output=run", folder=tmp_path)
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert "steps=-1 must be above 0" in stderr
    wait_until(lambda: not processes_of(process.pid))


@pytest.mark.parametrize("then", ["at once", "after a moment"])
def test_an_interrupt_while_starting_is_no_traceback(prepared, tmp_path, then):
    """Ctrl-C reaches the launcher and the server; the run has not begun, and nothing of it is there."""
    process = start("--data", str(prepared), "--output", "run", *TINY, folder=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline() == "acn pretrain: starting\n"
    if then == "after a moment":  # the launcher waits for the server, which has begun to import
        wait_until(lambda: any("forkserver" in command for command in processes_of(process.pid)))
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "run" / "model").exists()
    wait_until(lambda: not processes_of(process.pid))
