"""The whole chain in minutes, offline: corpus, tokens, an ACN and its residual twin, two tasks, a cut model, a report.

Every stage but the first is a command that a user could type, and is printed as one. Only the text differs from a real
run: it is the English documentation of the Python packages installed here (see `demo_corpus`).
"""

import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data_pipeline import LOCK_FILE, OutputLock, duration
from launch import cli

from ..errors import LaunchError
from ..tracking import TrackingConfig
from .closing import closing_screen
from .config import DemoConfig
from .corpus import write_demo_corpus, write_demo_tasks

RECIPE = "acn-tiny"
TASKS = ("docorder", "docsource")
TWINS = ("acn", "residual")
# the recipe's start with the identity in the attention suits ACNs, and a residual model is better without
_START = {"acn": [], "residual": ["--model.identity_attention_init", "false"]}
MARKER = ".acn-demo"
_PARTS = {"text", "tasks", "tokens", *TWINS, *(f"glue-{twin}" for twin in TWINS), "small", "report"}
"""What is in its folder afterwards."""


@dataclass
class Stage:
    """One step of the demo: a command, or several."""

    title: str
    share: float
    """Its part of the whole time, measured on two cores: the estimate of the time left rests on it."""
    commands: list[list[str]]
    """Arguments of `acn`; none for the stage that collects the text."""


def demo(config: DemoConfig) -> int:
    """Run all stages and show what they led to; 0 when the report is there, else the failed command's exit code."""
    if problems := config.problems():
        raise LaunchError(*problems)
    home = Path(config.output)
    with OutputLock(home):
        _make_empty(home)
        return _run(config, home)


def _run(config: DemoConfig, home: Path) -> int:
    console = Console(highlight=False)
    started = time.monotonic()
    done = 0.0
    stages = _stages(config, home)
    for number, stage in enumerate(stages, 1):
        clock = _clock(time.monotonic() - started, done)
        console.print(f"\n[bold]{number}/{len(stages)}  {stage.title}[/]  [dim]{clock}[/]", soft_wrap=True)
        if not stage.commands:
            _collect_text(config, home)
        for command in stage.commands:
            console.print(f"$ acn {shlex.join(command)}", style="cyan", soft_wrap=True, markup=False)
            if code := cli.main(command):
                return code
        done += stage.share
    store = TrackingConfig(mlflow=config.mlflow).resolved.mlflow
    closing_screen(console, home, TASKS, TWINS, store, time.monotonic() - started)
    return 0


def _make_empty(home: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    found = {path.name for path in home.iterdir() if not path.name.startswith(LOCK_FILE)}
    others = sorted(name for name in found if name not in _PARTS and not name.startswith("."))
    if found and (MARKER not in found or others):
        seen = f"holds {others[0]}, which is none of" if others else "holds something else than"
        raise LaunchError(f"output={home} {seen} an earlier demo: choose another folder")
    for name in found & _PARTS:
        shutil.rmtree(home / name)
    (home / MARKER).touch()


def _stages(config: DemoConfig, home: Path) -> list[Stage]:
    tracking = ["--tracking.mlflow", config.mlflow or "null"]
    tokens = ["prepare", "--corpus.train", f"{home}/text/train.jsonl", "--corpus.validation",
              f"{home}/text/validation.jsonl", "--vocab_size", "4096", "--output", f"{home}/tokens"]  # fmt: skip
    pretrain = {
        twin: ["pretrain", "--config", RECIPE, "--data", f"{home}/tokens", "--output", f"{home}/{twin}",
               "--model.connectivity", twin, *_START[twin], "--steps", str(config.steps),
               "--nproc_per_node", str(config.nproc_per_node), *tracking]
        for twin in TWINS
    }  # fmt: skip
    glue = {
        twin: ["glue", "--model", f"{home}/{twin}/model", "--tasks", ",".join(TASKS), "--glue_dir", f"{home}/tasks",
               "--learning_rate", "5e-4", "--batch_size", "16", "--epochs", "2", "--max_length", "96",
               "--output", f"{home}/glue-{twin}", *tracking]
        for twin in TWINS
    }  # fmt: skip
    small = ["compress", "--model", f"{home}/glue-acn/{TASKS[0]}", "--tolerance", "0.01", "--output", f"{home}/small",
             "--force", *tracking]  # fmt: skip
    report = ["report", *(f"{home}/glue-{twin}" for twin in TWINS), "--output", f"{home}/report"]
    return [
        Stage("collect the documentation of the installed Python packages", 0.07, []),
        Stage("train a tokenizer and write token shards", 0.01, [tokens]),
        Stage("pretrain an ACN", 0.30, [pretrain["acn"]]),
        Stage("pretrain its residual twin", 0.30, [pretrain["residual"]]),
        Stage("fine-tune both on two tasks and score every depth", 0.30, [glue["acn"], glue["residual"]]),
        Stage("cut the ACN, draw the report", 0.02, [small, report]),
    ]


def _collect_text(config: DemoConfig, home: Path) -> None:
    corpus = write_demo_corpus(home / "text", size_mb=config.corpus_mb)
    write_demo_tasks(
        home / "tasks",
        corpus,
        train_examples=config.train_examples,
        validation_examples=config.validation_examples,
    )
    print(f"text: {home}/text   tasks in GLUE's format: {home}/tasks")


def _clock(elapsed: float, done: float) -> str:
    left = f", about {duration(elapsed / done * (1 - done))} left" if done else ""
    return f"{duration(elapsed)} so far{left}"
