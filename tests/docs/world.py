"""The folder that a reader of the documentation works in, and the shell."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow as pa
import pyarrow.parquet as pq

from eval.tasks import TASKS, Task
from tests import processes
from tests.conftest import sentences
from tests.docs.blocks import ROOT, Block
from tests.docs.sizes import GLUE, shrink

CORPUS_RECIPE = """corpus: {train: "corpus/train-*.parquet", validation: corpus/validation.parquet}
vocab_size: 120
seq_length: 16
"""

_ACN = """#!{python} -ES
import os, sys
from multiprocessing.connection import Client

with Client({address!r}, "AF_UNIX") as tests:
    text = "" if sys.stdin.isatty() else sys.stdin.read()
    tests.send((sys.argv[1:], text, os.getcwd(), dict(os.environ)))
    code, out, err = tests.recv()
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
_MAKE = """#!/bin/sh
exec {make} -C {root} --dry-run "$@"
"""


def make_world(folder: Path) -> None:
    """What a page may suppose before its first command: texts, GLUE in a folder, a data set as if from the Hub."""
    for split, count, seed in (("train-0", 200, 1), ("train-1", 200, 2), ("validation", 60, 3)):
        _write(folder / "corpus" / f"{split}.parquet", {"text": sentences(count, seed).splitlines()})
    for task in TASKS.values():
        for split, seed in (("train", 1), *((name, 2) for name in task.validation_splits)):
            _write(folder / GLUE / task.name / f"{split}.parquet", _rows(task, 48, seed))
    for split, seed in (("train", 1), ("test", 2)):
        rows = _rows(TASKS["sst2"], 48, seed)
        _write(folder / "stanfordnlp" / "imdb" / f"{split}.parquet", {"text": rows["sentence"], "label": rows["label"]})
    rows = _rows(TASKS["sst2"], 60, seed=3)
    moods = [("good", "bad")[label] for label in rows["label"]]
    reviews = zip(rows["sentence"], moods, strict=True)
    (folder / "reviews.csv").write_text("review,label\n" + "".join(f"{text},{mood}\n" for text, mood in reviews))
    for name, part in (("train", slice(40)), ("dev", slice(40, None))):
        found = zip(rows["sentence"][part], moods[part], strict=True)
        records = [{"title": "the cat", "body": text, "mood": mood} for text, mood in found]
        (folder / f"{name}.json").write_text(json.dumps(records))
    (folder / "corpus.yaml").write_text(CORPUS_RECIPE)
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()  # the commands are on the PATH already


def _write(path: Path, columns: dict[str, list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _rows(task: Task, count: int, seed: int) -> dict[str, list]:
    """Rows of a task in which a cat is the last class, or the highest score, and a dog the first."""
    draw = random.Random(f"{task.name} {seed}")
    texts = {column: sentences(count, seed=draw.randrange(1000)).splitlines() for column in task.columns}
    classes = len(task.labels)
    labels = [draw.randrange(classes) if classes else draw.uniform(0, 5) for _ in range(count)]
    middle = (classes - 1) / 2 if classes else 2.5
    first = texts[task.columns[0]]
    for row, label in enumerate(labels):
        first[row] = f"the {'cat' if label > middle else 'dog'} {first[row]}"
    return {**texts, "label": labels, "idx": list(range(count))}


class Shell:
    """Runs the blocks of a page in one folder.

    They run in bash as they stand there, but for two commands: `acn` is forked from the tests' warm server with the
    options that make it small (`sizes`), and `make` only says what it would do.
    """

    def __init__(self, folder: Path, commands: Path):
        self.folder = folder
        path = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._environment = os.environ | {"PATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1"}

    def run(self, block: Block) -> CompletedProcess[str]:
        """Run a block of shell; the first command that fails ends it."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code], cwd=self.folder, env=self._environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip

    def run_python(self, blocks: list[Block]) -> CompletedProcess[str]:
        """Run blocks of Python one after another, each with the names of those before."""
        sources = [(str(block.page), "\n" * (block.line - 1) + block.code) for block in blocks]
        return processes.run(_run_python, sources, environment=self._environment, folder=self.folder)

    def read_options(self, words: list[str]) -> CompletedProcess[str]:
        """Read the options of an `acn` command without running it."""
        return processes.run(_read_options, words, environment=self._environment, folder=self.folder)


@contextmanager
def open_shell(folder: Path, commands: Path) -> Iterator[Shell]:
    """A shell in `folder`, whose own commands are written to `commands`."""
    commands.mkdir(parents=True)
    with Listener(family="AF_UNIX") as listener:
        make = subprocess.run(["which", "make"], capture_output=True, text=True, check=True).stdout.strip()
        for name, text in (
            ("acn", _ACN.format(python=sys.executable, address=listener.address)),
            ("make", _MAKE.format(make=make, root=ROOT)),
        ):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        server = threading.Thread(target=_serve, args=(listener,))
        server.start()
        try:
            yield Shell(folder, commands)
        finally:
            with Client(listener.address, "AF_UNIX") as last:
                last.send(None)
            server.join()


def _serve(listener: Listener) -> None:
    """Answer the command `acn` until a caller says nothing; the two ends of a pipe call at the same time."""
    while True:
        caller = listener.accept()
        request = caller.recv()
        if request is None:
            return
        threading.Thread(target=_answer, args=(caller, *request)).start()


def _answer(caller: Connection, words: list[str], text: str, folder: str, environment: dict[str, str]) -> None:
    done = processes.run(_run_acn, text, shrink(words), environment=environment, folder=Path(folder))
    caller.send((done.returncode, done.stdout, done.stderr))
    caller.close()


def _run_acn(text: str, words: list[str]) -> int:
    from launch import cli

    stdin, end = os.pipe()
    os.write(end, text.encode())  # a page has less to say than a pipe holds
    os.close(end)
    os.dup2(stdin, 0)
    sys.argv = ["acn", *words]
    return cli.main(words)


def _read_options(words: list[str]) -> int:
    from launch import cli

    cli.read_args(words[0], words)
    return 0


def _run_python(sources: list[tuple[str, str]]) -> int:
    names: dict = {"__name__": "__main__"}
    for page, source in sources:
        exec(compile(source, page, "exec"), names)
    return 0
