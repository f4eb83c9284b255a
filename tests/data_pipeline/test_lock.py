"""An output folder belongs to one job at a time."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline import DataError, OutputLock

HOLD = """
import sys
from pathlib import Path
from data_pipeline import OutputLock

lock = OutputLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""
BOTH = pytest.mark.parametrize("beside", [False, True])


@BOTH
def test_one_job_at_a_time_works_in_a_folder(tmp_path, beside):
    messages: list[str] = []
    with OutputLock(tmp_path / "run", beside=beside):
        with pytest.raises(DataError, match=f"in use by pid {os.getpid()} on .*: wait for its end, or choose another"):
            OutputLock(tmp_path / "run", beside=beside)
        with pytest.raises(DataError, match="in use by pid"):
            OutputLock(tmp_path / "run", beside=beside, patience=0.1, say=messages.append)
    assert len(messages) == 1
    OutputLock(tmp_path / "run", beside=beside).release()


@BOTH
def test_nothing_is_left_of_a_job_that_wrote_nothing(tmp_path, beside):
    with OutputLock(tmp_path / "a" / "b" / "run", beside=beside):
        assert len(list((tmp_path / "a" / "b").iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_folders_that_were_there_and_what_others_put_there_stay(tmp_path, beside):
    (tmp_path / "there").mkdir()
    with OutputLock(tmp_path / "there" / "new" / "run", beside=beside):
        (tmp_path / "there" / "new" / "theirs").touch()
    assert [path.name for path in (tmp_path / "there" / "new").iterdir()] == ["theirs"]
    with OutputLock(tmp_path / "there", beside=beside):
        pass
    assert (tmp_path / "there").is_dir()


def test_a_job_is_named_while_it_lives_and_no_obstacle_once_it_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "locked\n"
        for _ in range(2):  # who waits does not wipe out the name
            with pytest.raises(DataError, match=f"in use by pid {job.pid} on"):
                OutputLock(tmp_path / "run")
        job.kill()
    OutputLock(tmp_path / "run").release()


def test_parts_share_a_folder_and_whole_jobs_do_not(tmp_path):
    with OutputLock(tmp_path, part="1/3"), OutputLock(tmp_path, part="2/3"):
        for part in ("1/3", ""):
            with pytest.raises(DataError, match="in use by pid"):
                OutputLock(tmp_path, part=part)
    with OutputLock(tmp_path), pytest.raises(DataError, match="in use by pid"):
        OutputLock(tmp_path, part="1/3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_guards_nothing_and_stops_nothing(tmp_path, monkeypatch, code):
    def flock(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    held = [OutputLock(tmp_path / "run") for _ in range(2)]
    assert (tmp_path / "run" / ".lock").read_text() == "", "no mark is left that would keep the next job out"
    del held


def _file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


def _below_a_file(folder: Path) -> Path:
    return _file(folder) / "run"


def _dangling(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def _circle(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "link")
    return folder / "link" / "run"


PLACES = {
    "a file": _file,
    "below a file": _below_a_file,
    "a link that leads nowhere": _dangling,
    "a link to itself": _circle,
    "too long a name": lambda folder: folder / ("x" * 300),
    "too long a path": lambda folder: folder / "/".join(["x" * 200] * 30),
    "no disk": lambda _: Path("/proc/acn/run"),
}


@pytest.mark.parametrize("place", PLACES)
@BOTH
def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path, place, beside):
    output = PLACES[place](tmp_path)
    if beside and place in ("a file", "a link that leads nowhere"):
        return  # whether something may be replaced is the business of who writes it
    with pytest.raises(DataError, match=r"output: .* cannot be written \(.+\): "):
        OutputLock(output, beside=beside)


@BOTH
def test_the_longest_name_there_is_can_be_locked(tmp_path, beside):
    with OutputLock(tmp_path / ("ä" * 127), beside=beside), pytest.raises(DataError, match="in use"):
        OutputLock(tmp_path / ("ä" * 127), beside=beside)
