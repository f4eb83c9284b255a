"""Everything that stops a run leads to one checkpoint at a step boundary and exit code 75."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain.checkpoints.folder import newest_complete
from pretrain.observe.figures import read_metrics
from pretrain.stop import StopRequest, reason
from tests.pretrain import held_rank
from tests.processes import Started, run, start, start_acn, wait_until

STEPS = 100_000


@pytest.fixture
def long_run(recipe, tmp_path):
    """A run that nobody waits for: what to do once it has printed its third step, then its exit code and output."""

    def start(then: Callable[[Started], None], **overrides) -> tuple[int, str, Path]:
        path = recipe("run", nproc_per_node=2, steps=STEPS, **overrides)
        process = start_acn("pretrain", "--config", str(path), merge_stderr=True)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.match(r"step +3/", line):
                then(process)
        return process.wait(), "".join(lines), tmp_path / "run"

    return start


def stop_file(process: Started) -> None:
    run = next(Path(part) for part in process.args if str(part).endswith(".yaml")).with_suffix("")
    (run / "STOP").touch()


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda process: process.send_signal(signal.SIGTERM), "SIGTERM"),  # to the launcher alone, which passes it on
        (lambda process: process.signal_group(signal.SIGUSR1), "SIGUSR1"),  # to all, as Slurm does
        (stop_file, "the file STOP"),
    ],
)
def test_a_stop_leaves_a_checkpoint_of_the_last_step(long_run, then, reason):
    code, output, run = long_run(then)
    assert code == 75, output
    newest = newest_complete(run)
    last = max(read_metrics(run)["train/loss"])
    assert newest.progress.step == last < STEPS
    assert f"stopped by {reason} at step {last}" in output
    assert not (run / "STOP").exists()


def test_the_time_limit_stops_the_run(long_run):
    code, output, run = long_run(lambda process: None, stop_after_hours=1 / 3600)
    assert code == 75, output
    assert "stopped by stop_after_hours" in output
    assert newest_complete(run).progress.step == max(read_metrics(run)["train/loss"])


def test_a_second_interrupt_leaves_at_once(recipe, tmp_path):
    """Out of a step that would not end by itself."""
    config = recipe("run", nproc_per_node=2, steps=STEPS)
    process = start(held_rank.launch, tmp_path, config, 3, True, merge_stderr=True)
    for event in ("held", "seen"):
        wait_until(lambda event=event: len(list(tmp_path.glob(f"{event}-?"))) == 2, process)
        process.signal_group(signal.SIGINT)
    output, _ = process.communicate()
    assert process.wait() == 130, output
    assert "stopped by" not in output
    assert max(read_metrics(tmp_path / "run")["train/loss"]) == 3


def stop_twice(run: Path, number: int) -> int:
    """The code of a stop whose signal comes again when it is under way."""
    with StopRequest(run, after_hours=None) as request:
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    return request.code()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_signal_of_a_stop_may_come_again_while_the_process_leaves(tmp_path, number):
    """As it does when it is sent to a whole process group: from its sender, and passed on by the launcher."""
    assert reason(run(stop_twice, tmp_path, number).returncode) == number.name
