"""Several ranks from one command: they find each other, and none outlives the others."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import ranks


def write_world(folder: str) -> int:
    """Leave RANK/WORLD_SIZE in a file."""
    Path(folder, os.environ["RANK"]).write_text(os.environ["WORLD_SIZE"])
    return 0


def return_own_code(_: None) -> int:
    return 75


def die_or_wait(folder: str) -> int:
    """Rank 0 is killed; the others would wait for an hour."""
    Path(folder, os.environ["RANK"]).write_text(str(os.getpid()))
    if os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)
    return 0


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_every_rank_knows_its_world(tmp_path):
    assert ranks.run_local_ranks(3, write_world, str(tmp_path)) == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "3", "1": "3", "2": "3"}


def write_allocator(folder: str) -> int:
    settings = [os.environ[name] for name in ranks.KEEP_FREED_MEMORY]
    Path(folder, os.environ["RANK"]).write_text(" ".join(settings))
    return 0


def test_ranks_keep_the_memory_they_free_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    for name in ranks.KEEP_FREED_MEMORY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4096")
    assert ranks.run_local_ranks(1, write_allocator, str(tmp_path)) == 0
    assert (tmp_path / "0").read_text() == "0 4096 1"


def test_the_ranks_exit_code_is_the_commands():
    assert ranks.run_local_ranks(2, return_own_code, None) == 75


def test_a_dead_rank_is_named_and_ends_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 1.0)
    assert ranks.run_local_ranks(2, die_or_wait, str(tmp_path)) == 128 + signal.SIGKILL
    assert f"on {socket.gethostname()} was killed by SIGKILL" in capsys.readouterr().err
    waiting = tmp_path / "1"
    assert not waiting.exists() or gone(int(waiting.read_text()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel ends orphans on Linux only")
def test_a_killed_launcher_leaves_no_rank_behind(tmp_path):
    code = (
        "from launch.ranks import run_local_ranks; from tests.launch.test_ranks import wait\n"
        f"if __name__ == '__main__': run_local_ranks(2, wait, {str(tmp_path)!r})"
    )
    (tmp_path / "main.py").write_text(code)
    root = str(Path(__file__).parents[2])
    launcher = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=os.environ | {"PYTHONPATH": root})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("pid-?"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    launcher.kill()
    launcher.wait()
    pids = [int(path.read_text()) for path in tmp_path.glob("pid-?")]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def wait(folder: str) -> int:
    Path(folder, f"pid-{os.environ['RANK']}.tmp").write_text(str(os.getpid()))
    Path(folder, f"pid-{os.environ['RANK']}.tmp").rename(Path(folder, f"pid-{os.environ['RANK']}"))
    time.sleep(3600)
    return 0
