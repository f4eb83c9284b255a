"""A run's folder belongs to one job at a time."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from pretrain.errors import PretrainError
from pretrain.lock import lock_run

HOLD = """
import sys
from pathlib import Path
from pretrain.lock import lock_run

lock = lock_run(Path(sys.argv[1]), print)
print("locked", flush=True)
sys.stdin.read()
"""


def test_one_job_at_a_time_works_in_a_run(tmp_path):
    messages: list[str] = []
    first = lock_run(tmp_path / "run", messages.append)
    with pytest.raises(PretrainError, match=f"in use by pid {os.getpid()} on"):
        lock_run(tmp_path / "run", messages.append, patience=0.1)
    assert len(messages) == 1
    first.release()
    lock_run(tmp_path / "run", messages.append, patience=0.0).release()


def test_a_job_is_named_while_it_lives_and_no_obstacle_once_it_is_killed(tmp_path):
    messages: list[str] = []
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "locked\n"
        for _ in range(2):  # who waits does not wipe out the name
            with pytest.raises(PretrainError, match=f"in use by pid {job.pid} on"):
                lock_run(tmp_path / "run", messages.append, patience=0.0)
        job.kill()
    assert len(messages) == 2
    lock_run(tmp_path / "run", messages.append, patience=0.0).release()
    assert len(messages) == 2


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_guards_nothing_and_stops_nothing(tmp_path, monkeypatch, code):
    def flock(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        lock_run(tmp_path / "run", pytest.fail, patience=0.0)
    assert (tmp_path / "run" / ".lock").read_text() == "", "no mark is left that would keep the next job out"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        lock_run(tmp_path / "run", pytest.fail)
