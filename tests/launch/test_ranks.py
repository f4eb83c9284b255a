"""Several ranks from one command: they find each other, and none outlives the others."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import ranks
from tests.processes import Started, is_gone, start, wait_until


def write_world(folder: str) -> int:
    """Leave RANK/WORLD_SIZE in a file."""
    Path(folder, os.environ["RANK"]).write_text(os.environ["WORLD_SIZE"])
    return 0


def return_own_code(_: None) -> int:
    return 75


def wait_forever(folder: str) -> int:
    """Leave the process' number in pid-RANK."""
    note = Path(folder, f"pid-{os.environ['RANK']}")
    note.with_suffix(".tmp").write_text(str(os.getpid()))
    note.with_suffix(".tmp").rename(note)
    while True:
        time.sleep(3600)


def die_or_wait(folder: str) -> int:
    """Rank 0 is killed once rank 1 waits."""
    if os.environ["RANK"] == "1":
        return wait_forever(folder)
    wait_until((Path(folder) / "pid-1").exists)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_every_rank_knows_its_world(tmp_path):
    assert ranks.run_local_ranks(3, write_world, str(tmp_path)) == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "3", "1": "3", "2": "3"}


def take_port(_: None) -> int:
    """1 where another process than the first rank gets the port at which the ranks meet."""
    with socket.socket() as other:
        try:
            other.bind((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
        except OSError as error:
            return int(error.errno != errno.EADDRINUSE)
    return 1


def test_the_port_at_which_ranks_meet_is_theirs_before_the_first_one_listens():
    assert ranks.run_local_ranks(1, take_port, None) == 0


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
    assert is_gone(int((tmp_path / "pid-1").read_text()))


def launch_two(folder: str) -> int:
    return ranks.run_local_ranks(2, wait_forever, folder)


def kill_launcher(launcher: Started | subprocess.Popen, folder: Path) -> None:
    """Kill it once its ranks are there, and wait until they are not."""
    wait_until(lambda: len(list(folder.glob("pid-?"))) == 2, launcher)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    pids = [int(path.read_text()) for path in folder.glob("pid-?")]
    wait_until(lambda: all(map(is_gone, pids)))


def test_a_killed_launcher_leaves_no_rank_behind_though_their_server_lives(tmp_path):
    kill_launcher(start(launch_two, str(tmp_path)), tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel ends orphans on Linux only")
def test_a_killed_launcher_leaves_no_rank_behind(tmp_path):
    """With a server of its own, as on a command line, which ends with it."""
    (tmp_path / "main.py").write_text(
        f"from tests.launch.test_ranks import launch_two\nif __name__ == '__main__': launch_two({str(tmp_path)!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    kill_launcher(subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=environment), tmp_path)
