"""The two sides of a comparison of fine-tuning, each in a process of its own, which work in turns.

Ours is `acn glue` itself: what the command runs, from reading the files to the table of depths. The other side does
what transformers' example run_glue.py does with its Trainer: read, tokenize, train, evaluate, save.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from eval import TASKS, FinetuneConfig, quiet_transformers, run_suite
from eval.models import load_for_task
from eval.progress import NoTracker
from eval.tasks.hyperparameters import Hyperparameters, choose_hyperparameters
from modeling.conversion import acn_to_bert

from .contenders import AfterSteps
from .sst2 import Shape, write_model

SEED = 42
TASK = "sst2"
EVAL_BATCH = 64
MAX_LENGTH = 128
"""run_glue.py's own, to which it pads everything unless told otherwise."""


@dataclass(frozen=True)
class Contender:
    """Who fine-tunes, and how."""

    name: str
    precision: str
    turn: int
    """Steps of a turn."""
    connectivity: str | None = None
    """Of ours; None: transformers' BERT."""
    grouped: bool = True
    """Batches of similar lengths, as ours always are."""
    pad_to_max_length: bool = False
    eval_batch: int = EVAL_BATCH


@dataclass(frozen=True)
class Bench:
    """The data and the models of all contenders, in one folder."""

    folder: Path
    shape: Shape
    epoch: int
    """Steps of one."""

    @property
    def glue_dir(self) -> Path:
        """Where `write_task` put the task."""
        return self.folder / "glue"

    @property
    def values(self) -> Hyperparameters:
        """How `acn glue` fine-tunes such a model where nothing is asked for."""
        return choose_hyperparameters(TASK, self.shape.hidden, {}, None)

    @property
    def whole(self) -> int:
        """Steps of a whole fine-tuning."""
        return round(self.epoch * self.values.epochs)

    def model(self, connectivity: str) -> str:
        """A pretrained model of ours, or "bert" for the residual one's weights as transformers has them."""
        return str(self.folder / f"model-{connectivity}")

    def output(self, contender: Contender) -> str:
        """Where a contender leaves its work."""
        return str(self.folder / f"{contender.name}-{contender.precision}".replace(" ", "-"))

    def write_models(self) -> None:
        """The three, all of the same random weights as far as they have the same."""
        for connectivity in ("acn", "residual"):
            write_model(Path(self.model(connectivity)), connectivity, self.shape, self.glue_dir / TASK)
        set_seed(SEED)  # as a trial of `acn glue` does: the new classifier is the same
        bert = acn_to_bert(load_for_task(self.model("residual"), TASKS[TASK]))
        with quiet_transformers():
            bert.save_pretrained(self.model("bert"))
            AutoTokenizer.from_pretrained(self.model("residual")).save_pretrained(self.model("bert"))


@dataclass
class Baton:
    """In a contender's process: works while it has it, and takes the time."""

    connection: Connection
    seconds: list[float] = field(default_factory=list)
    """Of each turn: getting ready and the first step; some steps each; and what comes after the last of them."""

    def take(self) -> None:
        """Wait for one's turn."""
        self.connection.recv()
        self._began = now()

    def pass_on(self) -> None:
        """Let the others have theirs, and wait for the next."""
        self.seconds.append(now() - self._began)
        self.connection.send(None)
        self.take()

    def after(self, step: int, turn: int) -> None:
        """A step was made: the first is a turn of its own, because it warms up."""
        if step % turn == 1 % turn:
            self.pass_on()


def now() -> float:
    """Seconds of this process's processor time, which others at work do not touch; on a GPU, when all is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@dataclass(frozen=True)
class Found:
    """What a contender took, and the losses that it logged."""

    seconds: list[float]
    losses: list[float]


class _PausingTracker(NoTracker):
    """Hears every loss of `acn glue`, and passes the baton on."""

    def __init__(self, baton: Baton, turn: int) -> None:
        self.baton, self.turn = baton, turn
        self.losses: list[float] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        if f"{TASK}/loss" in values:
            self.losses.append(values[f"{TASK}/loss"])
            self.baton.after(step, self.turn)


def acn_glue(bench: Bench, contender: Contender, steps: int, baton: Baton) -> list[float]:
    """`acn glue` with its defaults, stopped after some steps of the first epoch; returns the losses."""
    assert contender.connectivity is not None
    tracker = _PausingTracker(baton, contender.turn)
    config = FinetuneConfig(
        model=bench.model(contender.connectivity), tasks=TASK, output=bench.output(contender),
        glue_dir=str(bench.glue_dir), seed=SEED, precision=contender.precision,  # type: ignore[arg-type]
        epochs=(steps - 0.5) / bench.epoch,  # rounded up
    )  # fmt: skip
    run_suite(config, lambda: tracker)
    return tracker.losses


def run_glue(bench: Bench, contender: Contender, steps: int, baton: Baton) -> list[float]:
    """What run_glue.py does, with the hyperparameters of `acn glue`; returns the losses."""
    set_seed(SEED)
    files = {split: str(bench.glue_dir / TASK / f"{split}.parquet") for split in ("train", "validation")}
    raw = datasets.load_dataset("parquet", data_files=files, cache_dir=f"{bench.output(contender)}/cache")
    model = BertForSequenceClassification.from_pretrained(bench.model("bert"))
    tokenizer = AutoTokenizer.from_pretrained(bench.model("bert"))
    padding = "max_length" if contender.pad_to_max_length else False

    def tokenize(rows: dict[str, Any]) -> Any:
        return tokenizer(rows["sentence"], padding=padding, max_length=MAX_LENGTH, truncation=True)

    data = raw.map(tokenize, batched=True)

    def made_a_step() -> bool:
        baton.after(trainer.state.global_step, contender.turn)
        return False

    trainer = Trainer(
        model,
        training_arguments(bench, contender, steps),
        data_collator=default_data_collator if contender.pad_to_max_length else DataCollatorWithPadding(tokenizer),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
        callbacks=[AfterSteps(1, made_a_step)],
    )
    trainer.train()
    trainer.save_model()
    trainer.evaluate()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def training_arguments(bench: Bench, contender: Contender, steps: int) -> TrainingArguments:
    """Trainer's own but for the hyperparameters, so that both sides do the same."""
    values = bench.values
    return TrainingArguments(
        output_dir=bench.output(contender),
        max_steps=steps,
        learning_rate=values.learning_rate,
        weight_decay=values.weight_decay,
        warmup_steps=round(steps * values.warmup_fraction),
        per_device_train_batch_size=values.batch_size,
        per_device_eval_batch_size=contender.eval_batch,
        seed=SEED,
        bf16=contender.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length" if contender.grouped else "random",
        logging_steps=1 if contender.grouped else 500,  # ours logs all losses of so few steps
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def work(bench: Bench, contender: Contender, rounds: int, connection: Connection) -> None:
    """A contender's process."""
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    baton, job = Baton(connection), run_glue if contender.connectivity is None else acn_glue
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), quiet_transformers():
        baton.take()
        losses = job(bench, contender, 1 + rounds * contender.turn, baton)
    connection.send(Found([*baton.seconds, now() - baton._began], losses))


def take_turns(bench: Bench, contenders: Sequence[Contender], rounds: int) -> dict[str, Found]:
    """What each contender took; every round begins with another one.

    Raises:
        RuntimeError: one of them failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    waiting: dict[str, tuple[Any, Connection]] = {}
    for contender in contenders:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(bench, contender, rounds, theirs), daemon=True)
        process.start()
        theirs.close()  # or its end would never be noticed
        waiting[contender.name] = process, ours
    found: dict[str, Found] = {}
    names = list(waiting)
    while waiting:
        names = names[1:] + names[:1]
        for name in (n for n in names if n in waiting):
            process, connection = waiting[name]
            with suppress(EOFError, BrokenPipeError, ConnectionResetError):
                connection.send(None)
                if (answer := connection.recv()) is not None:
                    found[name] = answer
                    process.join()
                    del waiting[name]
                continue
            raise RuntimeError(f"{name}: its process failed")
    return found
