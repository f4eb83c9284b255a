"""The wrong end of a pipe: whatever becomes of stdout and stderr, the work goes on and its exit code is its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.tiny import TINY
from tests.processes import Started, start, start_acn

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "launch"]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


def shell(script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which ACN is the command; its exit code is that of ACN, also before a pipe."""
    script = f"set -o pipefail\n{script.replace('ACN', ' '.join(COMMAND))}"
    return subprocess.run(
        ["bash", "-c", script], env=environment(**more), capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    "script",
    [
        "ACN --help | true",
        "ACN pretrain --help all | head -1",
        "ACN pretrain --help >&-",
        "ACN pretrain --help >&- 2>&-",
        "ACN pretrain --help <&- >&- 2>&-",
        "ACN data verify {data} 2>&1 | true",
    ],
)
def test_nobody_has_to_read_what_is_said(prepared, script):
    done = shell(script.format(data=prepared))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_text_that_a_full_disk_loses_is_an_error():
    done = shell("ACN pretrain --help > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "acn: error: stdout cannot be written (No space left on device), text is lost: make room\n"


def test_the_exit_code_of_a_mistake_stays_when_nobody_reads_it(tmp_path):
    assert shell(f"ACN data verify {tmp_path}/none 2>&1 | true").returncode == 2
    assert shell("ACN data look nowhere >&- 2>&-").returncode == 2


def test_a_file_that_is_opened_later_does_not_take_the_number_of_a_closed_stdout(prepared, tmp_path):
    done = shell(f"ACN data stats {prepared} --output {tmp_path}/stats >&- 2>&-")
    assert done.returncode == 0
    assert json.loads((tmp_path / "stats" / "stats.json").read_text())


ESCAPED, AS_IT_CAME = b"\\u4efb\\u52a1", "任务".encode()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, ESCAPED),
        ({"PYTHONIOENCODING": "cp1252"}, ESCAPED),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, AS_IT_CAME),
    ],
)
def test_a_terminal_that_is_not_utf_8_gets_what_it_can_show(tmp_path, given, shown):
    words = ["launch", "torchrun", "--data", "/任务", "--output", "/runs", "--dry_run", "--preflight", "false"]
    done = subprocess.run([*COMMAND, *words], env=environment(**given), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def _close(process: Started) -> None:
    """Read a line, as `head -1` does, and go."""
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_run_whose_reader_goes_away_finishes(prepared, tmp_path, ranks):
    process = start_acn(
        "pretrain", "--data", str(prepared), "--output", "run", "--nproc_per_node", ranks, "--tracking.mlflow", "null",
        *TINY, "--log_every", "1", folder=tmp_path, merge_stderr=True,
    )  # fmt: skip
    _close(process)
    assert process.wait() == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) >= 4


def test_a_suite_whose_reader_goes_away_finishes(trained, tmp_path):
    process = start_acn(
        "glue", "--model", f"{trained}/run/model", "--glue_dir", f"{trained}/glue", "--output", f"{tmp_path}/tuned",
        "--tasks", "cats", "--tracking.mlflow", "null", "--epochs", "1", merge_stderr=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 0
    assert (tmp_path / "tuned" / "cats" / "results.json").is_file()


def _write_slowly() -> int:
    """More than a pipe holds, into one that does not block."""
    from launch.streams import guard_streams, lost_output

    os.set_blocking(1, False)
    guard_streams()
    print("x" * 300_000)
    return 0 if lost_output() is None else 1


def test_a_pipe_that_does_not_block_gets_everything():
    stdout, _ = start(_write_slowly).communicate()
    assert stdout == "x" * 300_000 + "\n"
