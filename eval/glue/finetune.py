"""Fine-tuning a pretrained model on one task: the options of a suite, tokenizing, and one training."""

import copy
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from eval import ranks
from modeling import AcnForSequenceClassification

from ..depth import depth_sweep
from ..models import quiet_transformers
from ..progress import ProgressCallback, Tracker
from ..tasks import (
    FIELDS,
    LABEL,
    DatasetConfig,
    GlueTask,
    GridConfig,
    Hyperparameters,
    as_dict,
    read_table,
    value_problems,
)

MAX_GRAD_NORM = 1.0


@dataclass
class FinetuneConfig:
    """Fine-tuning on GLUE tasks, or on any other classification data. AdamW, linear warm-up and decay.

    Hyperparameters that are left out come from a table by task (eval/tasks/hyperparameters.yaml: the paper's).
    """

    model: str
    """Folder of the pretrained model (RUN/model): weights, configuration and tokenizer."""
    tasks: str | list[str]
    """Tasks, with commas between: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, or folders of glue_dir."""
    output: str
    """Folder to write OUTPUT/TASK into. The finished seeds of an interrupted suite are kept, the others start over."""
    glue_dir: str | None = None
    """Local folder with TASK/SPLIT.parquet (or .tsv, .csv, .jsonl), columns as in nyu-mll/glue; left out: the Hub."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Any other data set, local or on the Hub, as the only task."""
    seed: int = 42
    """Seed of the new classifier, the order of examples and dropout."""
    seeds: str | list[int] | None = None
    """Several seeds, with commas between: 1,2,3; left out, the one of `seed`."""
    epochs: float | None = None
    """Passes over the training split; left out, the table's (paper: up to 6)."""
    learning_rate: float | None = None
    """Peak learning rate; left out, the table's, scaled to the model's width: 2e-5 * 768 / hidden_size."""
    batch_size: int | None = None
    """Examples per optimizer step, over all ranks; left out, the table's."""
    weight_decay: float | None = None
    """AdamW's weight decay, on matrices only; left out, the table's."""
    warmup_fraction: float | None = None
    """Share of the steps over which the learning rate rises from 0; left out, the table's."""
    max_length: int | None = None
    """Tokens per example at most, longer ones are cut; also the length that FLOPs are stated for; left out: table's."""
    hyperparameters: str | None = None
    """YAML file over the table: defaults: {epochs: 5}, tasks: {rte: {epochs: 10}}."""
    grid: GridConfig = field(default_factory=GridConfig)
    """Hyperparameters to choose from on the validation split."""
    best_epoch: bool = False
    """Keep the epoch with the best validation score instead of the last. Its score is then a maximum over epochs, which
    results.json declares."""
    max_train_samples: int | None = None
    """Use only this many training examples, drawn at random with the seed; left out, all."""
    max_eval_samples: int | None = None
    """Use only this many examples of each validation split, the same for every seed; left out, all."""
    keep_models: bool = False
    """Keep every seed's weights, in OUTPUT/TASK/seed-N, not those of the best seed only (in OUTPUT/TASK)."""
    cut_then_finetune: float | None = None
    """Also cut the fine-tuned model at a quarter and at half of its layers and train each on for this many epochs."""
    probes: bool = False
    """Also score a linear probe (logistic or ridge regression on frozen features) of every depth, before and after."""
    speed: bool = True
    """Measure latency and throughput of the model in OUTPUT/TASK, whole and cut."""
    predict_test: bool = True
    """Write predictions for the test splits that there are into OUTPUT/submission, in GLUE's format."""
    tolerance: float = 0.005
    """Score that the cut model may lose: the cut depth is the smallest with score >= full score - tolerance."""

    @property
    def task_names(self) -> list[str]:
        """`tasks` as a list."""
        names = self.tasks.split(",") if isinstance(self.tasks, str) else self.tasks
        return [name.strip() for name in names if name.strip()]

    @property
    def seed_list(self) -> list[int]:
        """`seeds` as numbers, or the one `seed`."""
        if self.seeds is None:
            return [self.seed]
        parts = self.seeds.split(",") if isinstance(self.seeds, str) else self.seeds
        return [int(part) for part in parts]

    def given(self) -> dict[str, Any]:
        """The hyperparameters that were given as options, None for the others."""
        return {name: getattr(self, name) for name in FIELDS}

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each with its mend."""
        problems = []
        names = self.task_names
        if not names:
            problems.append("tasks is empty: name at least one, for example sst2")
        if len(set(names)) < len(names):
            problems.append(f"tasks={','.join(names)} names a task twice: name each once")
        problems += value_problems(self.given())
        for name in ("max_train_samples", "max_eval_samples", "cut_then_finetune"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                unit = "more than 0" if name == "cut_then_finetune" else "1 or more"
                problems.append(f"{name}={value}: give {unit}, or leave it out")
        if not 0 <= self.tolerance < math.inf:
            problems.append(f"tolerance={self.tolerance}: give 0 or more")
        problems += self._seed_problems() + self.grid.problems() + self.dataset.problems(names)
        if self.hyperparameters is not None:
            read_table(Path(self.hyperparameters))
        return problems

    def _seed_problems(self) -> list[str]:
        name = "seed" if self.seeds is None else "seeds"
        try:
            seeds = self.seed_list
        except ValueError:
            return [f"seeds={self.seeds}: give whole numbers with commas between, for example 1,2,3"]
        problems = [f"{name}={seed}: give 0 to 2**32 - 1" for seed in seeds if not 0 <= seed < 2**32]
        if not seeds:
            problems.append("seeds is empty: name at least one, or leave it out")
        if len(set(seeds)) < len(seeds):
            problems.append(f"seeds={self.seeds} names a seed twice: name each once")
        return problems


def encode(task: GlueTask, data: datasets.Dataset, tokenizer: Any, max_length: int) -> datasets.Dataset:
    """Tokenize a split: the tokenizer's outputs, unpadded, and `labels` (floats for regression), in the same order."""
    tables = []
    for batch in data.iter(batch_size=1000):
        columns = dict(tokenizer(*(batch[c] for c in task.columns), truncation=True, max_length=max_length))
        columns["labels"] = [float(label) for label in batch[LABEL]] if task.is_regression else batch[LABEL]
        tables.append(pa.table(columns))
    return datasets.Dataset(pa.concat_tables(tables))


def subset(data: datasets.Dataset, size: int | None, seed: int) -> datasets.Dataset:
    """At most `size` examples of `data`, drawn at random, in the order of `data`."""
    if size is None or size >= len(data):
        return data
    return data.select(np.sort(np.random.default_rng(seed).permutation(len(data))[:size]))


def trainer_arguments(**given: Any) -> TrainingArguments:
    """HF's arguments for a training that reports through `ProgressCallback` and leaves nothing behind."""
    arguments = TrainingArguments(
        max_grad_norm=MAX_GRAD_NORM,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        logging_nan_inf_filter=False,  # ProgressCallback stops on them
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        **given,
    )
    # several visible GPUs would mean DataParallel and a batch several times as large: one process uses one
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _training_arguments(values: Hyperparameters, seed: int, samples: int, folder: str) -> TrainingArguments:
    steps = math.ceil(math.ceil(samples / values.batch_size) * values.epochs)
    on_cpus = ranks.world_size() > 1 and not torch.cuda.is_available()
    return trainer_arguments(
        output_dir=folder,
        num_train_epochs=values.epochs,
        learning_rate=values.learning_rate,
        per_device_train_batch_size=values.batch_size // ranks.world_size(),
        weight_decay=values.weight_decay,
        # a whole number of steps: a fraction of less than one step means none
        warmup_steps=round(steps * values.warmup_fraction),
        seed=seed,
        logging_steps=max(1, steps // 100),
        use_cpu=on_cpus,
        ddp_backend="gloo" if on_cpus else None,
        ddp_find_unused_parameters=False,
    )


@dataclass(frozen=True)
class Training:
    """What a model is trained on, and what is told meanwhile."""

    task: GlueTask
    data: datasets.Dataset
    """Tokenized."""
    collate: DataCollatorWithPadding
    seed: int
    tracker: Tracker
    validation: datasets.Dataset | None = None
    """Tokenized; given, the epoch with the best score on it is kept."""


class KeepBestEpoch(TrainerCallback):
    """Scores the model after every epoch and remembers the best one's weights, in memory."""

    def __init__(self, training: Training):
        self.training = training
        self.scores: list[float] = []
        self.weights: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        what = self.training
        assert what.validation is not None
        sweep = depth_sweep(model, what.validation, what.task, what.collate, shared=True)
        score = sweep.metrics[-1][what.task.metric]
        if not self.scores or score > max(self.scores):
            self.weights = copy.deepcopy(model.state_dict())
        self.scores.append(score)
        ranks.say(f"{what.task.name}: epoch {len(self.scores)}, {what.task.metric} {score:.4f}")


def train(model: AcnForSequenceClassification, what: Training, values: Hyperparameters) -> dict[str, Any]:
    """Fine-tune `model` in place; all ranks together, where there are several.

    Returns:
        The hyperparameters and what happened, for results.json.

    Raises:
        EvalError: the loss is not finite any more.
    """
    started = time.monotonic()
    callbacks: list[TrainerCallback] = [
        ProgressCallback(what.task.name, what.tracker, interval=10.0 if ranks.is_first() else math.inf)
    ]
    best = KeepBestEpoch(what) if what.validation is not None else None
    callbacks += [best] if best is not None else []
    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        arguments = _training_arguments(values, what.seed, len(what.data), scratch)
        trainer = Trainer(model, arguments, data_collator=what.collate, train_dataset=what.data, callbacks=callbacks)
        trainer.remove_callback(PrinterCallback)
        outcome = trainer.train()
    record: dict[str, Any] = {"optimizer": "adamw", "schedule": "linear", "max_grad_norm": MAX_GRAD_NORM}
    record |= as_dict(values) | {
        "samples": len(what.data),
        "steps": outcome.global_step,
        "mean_loss": outcome.training_loss,
        "device": str(model.device),
        "ranks": ranks.world_size(),
        "seconds": round(time.monotonic() - started, 2),
    }
    if best is not None:
        model.load_state_dict(best.weights)
        record |= {"epoch_scores": best.scores, "best_epoch": 1 + int(np.argmax(best.scores))}
    return record
