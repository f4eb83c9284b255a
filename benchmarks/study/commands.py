"""What a job runs: commands that a user could type."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.demo import TASKS as DOCUMENTATION_TASKS

from .budgets import Budget
from .plan import Job

ACN = (sys.executable, "-m", "launch.cli")
STUDIES = "early_exit,pruning,noise"


@dataclass(frozen=True)
class Home:
    """Where a study's files are."""

    path: Path
    tokens_dir: Path | None = None
    """Prepared corpus that the user brought."""
    glue_dir: str | None = None
    documentation_tasks: bool = True
    """Whether any task is cut from the documentation."""
    source: Path | None = None
    """Folder of the model that is converted."""

    @property
    def text(self) -> Path:
        """What the corpus is prepared from; of the documentation also the tasks cut from it."""
        return self.path / "documentation"

    @property
    def tokens(self) -> Path:
        """The prepared corpus."""
        return self.path / "tokens" if self.tokens_dir is None else self.tokens_dir

    def task_data(self, task: str | None) -> str:
        """What `acn glue` and `acn study` read a task from."""
        cut_from_documentation = task in DOCUMENTATION_TASKS or self.glue_dir is None
        return str(self.text / "tasks") if cut_from_documentation else str(self.glue_dir)

    def folder(self, name: str) -> Path:
        """Of the job of this name."""
        return self.path / "cells" / name

    def output(self, name: str) -> Path:
        """What the job's verb writes."""
        return self.folder(name) / "run"

    def pretrained(self, job: Job) -> Path:
        """The run that a fine-tuning or a study is of."""
        return self.output(Job("pretrain", job.arm, job.seed, longer=job.longer).name)

    def finetuned(self, job: Job) -> Path:
        """The task folder that `acn glue` wrote for the model and task of `job`."""
        tuned = Job("finetune", job.arm, job.seed, longer=job.longer, task=job.task)
        return self.output(tuned.name) / str(job.task)


def commands(budget: Budget, job: Job, home: Home, rate: float | None, hours: float | None) -> list[list[str]]:
    """The commands of a job, one after the other.

    Args:
        rate: peak learning rate of a pretraining.
        hours: a pretraining stops after them, to be continued.
    """
    if job.kind == "corpus":
        return _corpus(budget, home)
    if job.kind in ("rate", "pretrain"):
        assert rate is not None
        return [[*ACN, "pretrain", *flags(pretrain_options(budget, job, home, rate, hours))]]
    shared = {"output": home.output(job.name), "glue_dir": home.task_data(job.task), "tracking.mlflow": None}
    if job.kind == "study":
        options = {"model": home.finetuned(job), **shared}
        return [[*ACN, "study", STUDIES, *flags(options), *budget.study_options]]
    return [[*ACN, "glue", *flags({"model": home.pretrained(job) / "model", **_finetuning(budget, job), **shared})]]


def pretrain_options(budget: Budget, job: Job, home: Home, rate: float, hours: float | None) -> dict[str, Any]:
    """Of `acn pretrain`: between arms only connectivity, initialisation and learning rate differ."""
    assert job.arm is not None
    trying = job.kind == "rate"
    steps = budget.steps(budget.rate_tokens if trying else budget.tokens * job.longer)
    every = steps if trying else max(1, steps // budget.validations)
    options: dict[str, Any] = {
        "data": home.tokens,
        "output": home.output(job.name),
        "model.hidden_size": budget.hidden,
        "model.num_hidden_layers": budget.layers,
        "model.num_attention_heads": budget.heads,
        "model.intermediate_size": 4 * budget.hidden,
        "model.max_position_embeddings": budget.seq_length,
        "steps": steps,
        "global_batch_size": budget.batch,
        "micro_batch_size": budget.micro_batch,
        "zero_stage": budget.zero_stage,
        "precision": budget.precision,
        "optim.lr": rate,
        "schedule.warmup_fraction": budget.warmup,
        "seed": job.seed,
        "stream.seed": job.seed,
        "validation.every": every,
        "validation.blocks": budget.validation_blocks,
        "probes.every": 0 if trying else every,
        "checkpoint.every": 0 if trying else every,
        "checkpoint.keep": 1,
        "log_every": every if trying else max(1, every // 5),
        "nproc_per_node": budget.ranks,
        "tracking.mlflow": None,
    }
    options |= job.arm.options
    return options | ({"stop_after_hours": hours} if hours is not None else {})


def _finetuning(budget: Budget, job: Job) -> dict[str, Any]:
    options: dict[str, Any] = {
        "tasks": job.task,
        "seeds": ",".join(map(str, budget.finetune_seeds)),
        "max_train_samples": budget.train_examples,
        "max_eval_samples": budget.eval_examples,
        "predict_test": False,
    }
    if budget.finetune_rates:
        name = "grid.learning_rate" if len(budget.finetune_rates) > 1 else "learning_rate"
        options[name] = ",".join(f"{rate:g}" for rate in budget.finetune_rates)
    if budget.finetune_epochs is not None:
        options["epochs"] = budget.finetune_epochs
    return options


def _corpus(budget: Budget, home: Home) -> list[list[str]]:
    """Documentation with the tasks cut from it, unless nothing of it is wanted, and the prepared corpus."""
    found = []
    if home.tokens_dir is None or home.documentation_tasks:
        sizes = {"train_examples": budget.train_examples, "eval_examples": budget.eval_examples}
        text = {"output": home.text, "mb": budget.corpus_mb or 12.0, **sizes}
        found.append([sys.executable, "-m", "benchmarks.study.corpus", *flags(text)])
    if home.tokens_dir is None:
        tokens = {
            "corpus.train": home.text / "text" / "train.jsonl",
            "corpus.validation": home.text / "text" / "validation.jsonl",
            "vocab_size": budget.vocabulary,
            "seq_length": budget.seq_length,
            "output": home.tokens,
        }
        found.append([*ACN, "prepare", *flags(tokens)])
    return found


def flags(options: Mapping[str, Any]) -> list[str]:
    """`--NAME VALUE` of each option, values as YAML has them."""
    words: list[str] = []
    for name, value in options.items():
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        words += [f"--{name}", text]
    return words
