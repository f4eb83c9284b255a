"""Fine-tuning a pretrained model on one task: which examples, and one training."""

import copy
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import TrainOutput

from data_pipeline import Problem
from eval import ranks
from modeling import AcnForSequenceClassification, DepthSupervision, compile_layers, divergence

from ..depth import depth_sweep
from ..errors import Diverged
from ..memory import keep_freed_memory
from ..models import quiet_transformers
from ..progress import ProgressCallback, Tracker
from ..tasks import Hyperparameters, Task, as_dict
from .flat import FlatCollator, flash_attention
from .supervision import supervised

MAX_GRAD_NORM = 1.0


def subset(data: datasets.Dataset, size: int | None, seed: int) -> datasets.Dataset:
    """At most `size` examples of `data`, drawn at random, in the order of `data`."""
    if size is None or size >= len(data):
        return data
    return data.select(np.sort(np.random.default_rng(seed).permutation(len(data))[:size]))


def trainer_arguments(precision: str, **given: Any) -> TrainingArguments:
    """HF's arguments for a training that reports through `ProgressCallback` and leaves nothing behind.

    Args:
        precision: resolved.
    """
    arguments = TrainingArguments(
        bf16=precision == "bf16",
        fp16=precision == "fp16",  # with the Trainer's dynamic loss scale
        use_cpu=not torch.cuda.is_available(),
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
    if precision == "fp32":  # whatever `accelerate launch` was told: results say what they were computed in
        arguments.mixed_precision = "no"
    return arguments


def run_trainer(trainer: Trainer) -> TrainOutput:
    """Train, and leave the model as it was but for its weights."""
    keep_freed_memory()
    trainer.remove_callback(PrinterCallback)
    outcome = trainer.train()
    # accelerate computes in half precision by a `forward` of its own, put over the model's: it is for this training
    for name in ("forward", "_original_forward"):
        vars(trainer.model).pop(name, None)
    return outcome


def _training_arguments(values: Hyperparameters, training: "Training", folder: str) -> TrainingArguments:
    steps = math.ceil(math.ceil(len(training.data) / values.batch_size) * values.epochs)
    on_cpus = ranks.world_size() > 1 and not torch.cuda.is_available()
    return trainer_arguments(
        training.precision,
        output_dir=folder,
        num_train_epochs=values.epochs,
        learning_rate=values.learning_rate,
        per_device_train_batch_size=values.batch_size // ranks.world_size(),
        weight_decay=values.weight_decay,
        # a whole number of steps: a fraction of less than one step means none
        warmup_steps=round(steps * values.warmup_fraction),
        seed=training.seed,
        logging_steps=max(1, steps // 100),
        ddp_backend="gloo" if on_cpus else None,
        ddp_find_unused_parameters=training.supervision.drops,
    )


@dataclass(frozen=True)
class Training:
    """What a model is trained on, and what is told meanwhile."""

    task: Task
    data: datasets.Dataset
    """Tokenized."""
    collate: DataCollatorWithPadding
    seed: int
    tracker: Tracker
    precision: str
    """Resolved."""
    validation: datasets.Dataset | None = None
    """Tokenized; given, the epoch with the best score on it is kept."""
    compile: bool = False
    """Compile the layers for it."""
    supervision: DepthSupervision = field(default_factory=DepthSupervision)
    """Which depths are trained."""
    padding_free: bool = False
    """Without padding, see flat.py."""


class KeepBestEpoch(TrainerCallback):
    """Scores the model after every epoch and remembers the best one's weights, in memory."""

    def __init__(self, training: Training):
        self.training = training
        self.scores: list[float] = []
        self.weights: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        training = self.training
        assert training.validation is not None
        with torch.compiler.set_stance("force_eager"):  # scored as the model that is kept will be
            sweep = depth_sweep(
                model, training.validation, training.task, training.collate, shared=True, precision=training.precision
            )
        score = sweep.metrics[-1][training.task.metric]
        if not self.scores or score > max(self.scores):
            self.weights = copy.deepcopy(model.state_dict())
        self.scores.append(score)
        ranks.say(f"{training.task.name}: epoch {len(self.scores)}, {training.task.metric} {score:.4f}")


def compile_problems(asked: bool) -> list[Problem]:
    """Why this machine cannot compile layers, if it is asked to: torch's compiler for CPUs writes C++."""
    compiler = os.environ.get("CXX", "g++")
    if not asked or torch.cuda.is_available() or shutil.which(compiler) is not None:
        return []
    return [Problem("compile", "true", f"needs a C++ compiler: there is no {compiler}", "install one, or leave it out")]


@contextmanager
def _compiled(model: AcnForSequenceClassification) -> Iterator[None]:
    """Within the block, the layers are compiled. Weights and their names stay what they are."""
    compile_layers(model, dynamic=True)  # batches are padded to their longest text
    try:
        yield
    finally:
        for layer in model.acn.layers:
            layer._compiled_call_impl = None  # the opposite of `compile`, which torch has no name for


def train(model: AcnForSequenceClassification, training: Training, values: Hyperparameters) -> dict[str, Any]:
    """Fine-tune `model` in place; all ranks together, where there are several.

    Returns:
        The hyperparameters and what happened, for results.json.

    Raises:
        Diverged: the loss or a weight is not finite any more.
    """
    started = time.monotonic()
    callbacks: list[TrainerCallback] = [
        ProgressCallback(training.task.name, training.tracker, interval=10.0 if ranks.is_first() else math.inf)
    ]
    best = KeepBestEpoch(training) if training.validation is not None else None
    callbacks += [best] if best is not None else []
    compiled = _compiled(model) if training.compile else nullcontext()
    attention = flash_attention(model, training.precision) if training.padding_free else nullcontext()
    depths = supervised(model, training.supervision, training.seed)
    with quiet_transformers(), compiled, attention, depths as counting, tempfile.TemporaryDirectory() as scratch:
        arguments = _training_arguments(values, training, scratch)
        collate = FlatCollator() if training.padding_free else training.collate
        trainer = Trainer(
            model, arguments, data_collator=collate, train_dataset=training.data, callbacks=[*callbacks, *counting]
        )
        outcome = run_trainer(trainer)
    if (found := divergence(model)) is not None:
        raise Diverged(f"{training.task.name}: {found} after the last step, training diverged: lower learning_rate")
    record: dict[str, Any] = {"optimizer": "adamw", "schedule": "linear", "max_grad_norm": MAX_GRAD_NORM}
    record |= as_dict(values) | {
        "samples": len(training.data),
        "steps": outcome.global_step,
        "mean_loss": outcome.training_loss,
        "device": str(model.device),
        "compile": training.compile,
        "padding_free": training.padding_free,
        "ranks": ranks.world_size(),
        "seconds": round(time.monotonic() - started, 2),
    }
    if best is not None:
        model.load_state_dict(best.weights)
        record |= {"epoch_scores": best.scores, "best_epoch": 1 + int(np.argmax(best.scores))}
    return record
