"""Ctrl-C at moments that are hard to hit by hand: 130, no traceback, nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import sentences
from tests.launch.test_starting import processes_of
from tests.launch.tiny import TINY
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]

# Ctrl-C comes when a module is looked for; to the whole group, as at a terminal.
COMMAND = """
import os, signal, sys

moment, *words = sys.argv[1:]
sys.argv = ["acn", *words]

class Striker:
    def find_spec(self, name, path=None, target=None):
        global moment
        if name == moment:
            moment = ""
            os.killpg(0, signal.SIGINT)

sys.meta_path.insert(0, Striker())
from launch.__main__ import main
sys.exit(main())
"""


def interrupted(folder: Path, moment: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `acn WORDS`, with Ctrl-C when the module `moment` is imported."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, moment, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    stdout, stderr = process.communicate(timeout=300)
    wait_until(lambda: not processes_of(process.pid))
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


PREPARE = (
    "prepare", "--corpus.train", "*.txt", "--corpus.validation_fraction", "0.2", "--output", "tokens", "--workers", "2",
    "--seq_length", "16", "--vocab_size", "120", "--unit_mb", "0.001",
)  # fmt: skip
PRETRAIN = ("pretrain", "--output", "run", "--tracking.mlflow", "null", *TINY, "--data")


@pytest.mark.parametrize(
    ("verb", "moment"),
    [
        ("prepare", "launch.cli"),
        ("prepare", "jsonargparse"),
        ("prepare", "tokenizers"),
        ("prepare", "multiprocessing.popen_forkserver"),
        ("pretrain", "launch.errors"),
        ("pretrain", "launch.verbs.pretrain"),
        ("pretrain", "multiprocessing.forkserver"),
        ("pretrain", "numpy"),
        ("pretrain", "torch._C"),
        ("pretrain", "pretrain.check"),
        # waits for the launcher and the ranks' server to import everything: half a minute where cores are shared
        pytest.param("pretrain", "multiprocessing.popen_forkserver", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_at_any_moment_is_130_and_no_traceback(prepared, tmp_path, verb, moment):
    (tmp_path / "a.txt").write_text(sentences(200, seed=1))
    words = PREPARE if verb == "prepare" else (*PRETRAIN, str(prepared))
    done = interrupted(tmp_path, moment, *words)
    assert done.returncode == 130, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    assert "interrupted" in done.stderr
    left = {path.name for path in tmp_path.iterdir()} - {"a.txt"}
    if moment == "multiprocessing.popen_forkserver" and verb == "prepare":  # the same command goes on
        assert {path.name for path in (tmp_path / "tokens").iterdir()} == {"tokenizer", ".work"}
        left.remove("tokens")
    assert not left, "nothing is left behind"
