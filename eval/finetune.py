"""Fine-tune a pretrained model on GLUE tasks and sweep its depth: one folder, results.json and figure per task."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from modeling import AcnConfig, AcnForSequenceClassification, parameters_by_depth

from .depth import DepthSweep, cut_depth, depth_sweep, flops_by_depth, majority_score
from .errors import EvalError
from .figures import DepthCurve, save_depth_figure
from .files import check_absent, new_folder, write_json
from .models import load_for_task, load_tokenizer, quiet_transformers, read_model_config, save_model
from .progress import ProgressCallback, Tracker, duration
from .results import RESULTS_FILE, Results
from .tasks import LABEL, GlueTask, find_task, load_task

# the paper's rate and the width it was used at
PAPER_LEARNING_RATE, PAPER_HIDDEN_SIZE = 2e-5, 768
MAX_GRAD_NORM = 1.0
FIGURE_FILE = "depth.png"


@dataclass
class FinetuneConfig:
    """Fine-tuning on GLUE tasks, or on any local task in their format. AdamW, linear warm-up and decay."""

    model: str
    """Folder of the pretrained model (RUN/model): weights, configuration and tokenizer."""
    tasks: str | list[str]
    """Tasks, with commas between: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, or folders of glue_dir."""
    output: str
    """Folder to write OUTPUT/TASK into; OUTPUT/TASK must not exist yet."""
    glue_dir: str | None = None
    """Local folder with TASK/SPLIT.parquet, columns as in nyu-mll/glue; left out, the data comes from the Hub."""
    epochs: float = 3.0
    """Passes over the training split (paper: up to 6)."""
    learning_rate: float | None = None
    """Peak learning rate; left out, the paper's 2e-5 scaled to the model's width: 2e-5 * 768 / hidden_size."""
    batch_size: int = 32
    """Examples per optimizer step."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices only."""
    warmup_fraction: float = 0.06
    """Share of the steps over which the learning rate rises from 0."""
    max_length: int = 128
    """Tokens per example at most, longer ones are cut; also the sequence length that FLOPs are stated for."""
    max_train_samples: int | None = None
    """Use only this many training examples, drawn at random with the seed; left out, all."""
    seed: int = 42
    """Seed of the new classifier, the order of examples and dropout."""
    tolerance: float = 0.005
    """Score that the cut model may lose: the cut depth is the smallest with score >= full score - tolerance."""

    @property
    def task_names(self) -> list[str]:
        """`tasks` as a list."""
        names = self.tasks.split(",") if isinstance(self.tasks, str) else self.tasks
        return [name.strip() for name in names if name.strip()]

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each with its mend."""
        problems = []
        names = self.task_names
        if not names:
            problems.append("tasks is empty: name at least one, for example sst2")
        if len(set(names)) < len(names):
            problems.append(f"tasks={','.join(names)} names a task twice: name each once")
        for field, value, low, mend in (
            ("epochs", self.epochs, 0, "more than 0"),
            ("learning_rate", self.learning_rate, 0, "more than 0, or leave it out"),
            ("batch_size", self.batch_size, 0, "1 or more"),
            ("max_length", self.max_length, 2, "3 or more, room for [CLS], a token and [SEP]"),
            ("max_train_samples", self.max_train_samples, 0, "1 or more, or leave it out"),
        ):
            if value is not None and not low < value < math.inf:
                problems.append(f"{field}={value}: give {mend}")
        for field, value, high in (
            ("weight_decay", self.weight_decay, math.inf),
            ("tolerance", self.tolerance, math.inf),
            ("warmup_fraction", self.warmup_fraction, 1.0),
        ):
            if not 0 <= value < high:
                problems.append(f"{field}={value}: give 0 or more" + (" and less than 1" if high == 1 else ""))
        if not 0 <= self.seed < 2**32:
            problems.append(f"seed={self.seed}: give 0 to 2**32 - 1")
        return problems


def encode(task: GlueTask, data: datasets.Dataset, tokenizer: Any, max_length: int) -> datasets.Dataset:
    """Tokenize a split: the tokenizer's outputs, unpadded, and `labels` (floats for regression), in the same order."""
    tables = []
    for batch in data.iter(batch_size=1000):
        columns = dict(tokenizer(*(batch[c] for c in task.columns), truncation=True, max_length=max_length))
        columns["labels"] = [float(label) for label in batch[LABEL]] if task.is_regression else batch[LABEL]
        tables.append(pa.table(columns))
    return datasets.Dataset(pa.concat_tables(tables))


def _subset(data: datasets.Dataset, size: int | None, seed: int) -> datasets.Dataset:
    """At most `size` examples of `data`, drawn at random."""
    if size is None or size >= len(data):
        return data
    return data.select(np.sort(np.random.default_rng(seed).permutation(len(data))[:size]))


def _training_arguments(config: FinetuneConfig, learning_rate: float, samples: int, folder: str) -> TrainingArguments:
    steps = math.ceil(math.ceil(samples / config.batch_size) * config.epochs)
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=config.epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=config.batch_size,
        weight_decay=config.weight_decay,
        # a whole number of steps: a fraction of less than one step means none
        warmup_steps=round(steps * config.warmup_fraction),
        max_grad_norm=MAX_GRAD_NORM,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        seed=config.seed,
        logging_steps=max(1, steps // 100),
        logging_nan_inf_filter=False,  # ProgressCallback stops on them
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # several visible GPUs would mean DataParallel and a batch several times as large: one process uses one
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _train(
    model: AcnForSequenceClassification,
    data: datasets.Dataset,
    collate: DataCollatorWithPadding,
    config: FinetuneConfig,
    task: GlueTask,
    tracker: Tracker,
) -> dict[str, Any]:
    """Fine-tune `model` in place; returns the hyperparameters and what happened, for results.json."""
    rate = config.learning_rate or PAPER_LEARNING_RATE * PAPER_HIDDEN_SIZE / model.config.hidden_size
    started = time.monotonic()
    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        arguments = _training_arguments(config, rate, len(data), scratch)
        callback = ProgressCallback(task.name, tracker)
        trainer = Trainer(model, arguments, data_collator=collate, train_dataset=data, callbacks=[callback])
        trainer.remove_callback(PrinterCallback)
        outcome = trainer.train()
    return {
        "optimizer": "adamw",
        "schedule": "linear",
        "learning_rate": rate,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "weight_decay": config.weight_decay,
        "warmup_fraction": config.warmup_fraction,
        "max_grad_norm": MAX_GRAD_NORM,
        "max_length": config.max_length,
        "samples": len(data),
        "steps": outcome.global_step,
        "mean_loss": outcome.training_loss,
        "device": str(model.device),
        "seconds": round(time.monotonic() - started, 2),
    }


def _results(
    config: FinetuneConfig,
    task: GlueTask,
    model: AcnForSequenceClassification,
    sweeps: dict[str, DepthSweep],
    validation_labels: np.ndarray,
    seq_length: int,
    train: dict[str, Any],
) -> Results:
    scores = sweeps[task.validation_splits[0]].scores(task.metric)
    return {
        "task": task.name,
        "metric": task.metric,
        "seed": config.seed,
        "model": config.model,
        "connectivity": model.config.connectivity,
        "full_score": scores[-1],
        "depth_scores": scores,
        "cut_depth": cut_depth(scores, scores[-1], config.tolerance),
        "tolerance": config.tolerance,
        "params_by_depth": parameters_by_depth(model),
        "flops_by_depth": flops_by_depth(model, seq_length),
        "seq_length": seq_length,
        "majority_score": majority_score(task, validation_labels),
        "metrics": {split: {name: sweep.scores(name) for name in task.metrics} for split, sweep in sweeps.items()},
        "train": train,
    }


def _finetune_task(
    config: FinetuneConfig, task: GlueTask, splits: datasets.DatasetDict, tokenizer: Any, tracker: Tracker
) -> Results:
    """Train on one task, score every depth, and write OUTPUT/TASK."""
    set_seed(config.seed)
    model = load_for_task(config.model, task)
    seq_length = min(config.max_length, model.config.max_position_embeddings)
    train_data = encode(task, _subset(splits["train"], config.max_train_samples, config.seed), tokenizer, seq_length)
    collate = DataCollatorWithPadding(tokenizer)
    train = _train(model, train_data, collate, config, task, tracker)
    sweeps = {}
    for split in splits:
        if split != "train":
            sweeps[split] = depth_sweep(model, encode(task, splits[split], tokenizer, seq_length), task, collate)
    labels = np.asarray(splits[task.validation_splits[0]][LABEL])
    results = _results(config, task, model, sweeps, labels, seq_length, train)
    folder = Path(config.output) / task.name
    with new_folder(folder) as aside:
        save_model(aside, model, tokenizer)
        title = f"{task.name}: every depth of one fine-tuned model"
        save_depth_figure(aside / FIGURE_FILE, [DepthCurve.from_results(results, results["connectivity"])], title)
        write_json(aside / RESULTS_FILE, results)
    for depth, score in enumerate(results["depth_scores"]):
        tracker.log_metrics({f"{task.name}/depth_score": score}, step=depth)
    summary = {name: results[name] for name in ("full_score", "cut_depth", "majority_score")}
    tracker.log_metrics({f"{task.name}/{name}": float(value) for name, value in summary.items()}, step=train["steps"])
    tracker.log_figure(folder / FIGURE_FILE, f"figures/{task.name}")
    return results


def _check(config: FinetuneConfig) -> tuple[AcnConfig, Any, dict[GlueTask, datasets.DatasetDict]]:
    """Everything that can be wrong with the request, before the first task starts."""
    if problems := config.problems():
        raise EvalError("\n".join(problems))
    for name in config.task_names:
        check_absent(Path(config.output) / name, "output")
    model_config = read_model_config(config.model)
    tokenizer = load_tokenizer(config.model, model_config)
    tasks = [find_task(name, config.glue_dir) for name in config.task_names]
    return model_config, tokenizer, {task: load_task(task, config.glue_dir) for task in tasks}


def finetune(config: FinetuneConfig, open_tracker: Callable[[], Tracker]) -> list[Results]:
    """Fine-tune `config.model` on each task, score every depth on the validation split, and write OUTPUT/TASK.

    OUTPUT/TASK holds the model and tokenizer (Hugging Face layout), results.json ([`Results`]) and depth.png. The
    tracker gets TASK/loss and TASK/learning_rate by step, TASK/depth_score with the depth as step, and the figure.
    The same configuration on the same machine gives the same numbers. A process uses one device.

    Args:
        open_tracker: called once, when the request is known to be sound: a tracker may write as it opens.

    Returns:
        The content of each results.json, in the order of the tasks.

    Raises:
        EvalError: a wrong value, an output folder that exists, a model or data that do not fit: all tasks are checked
            before the first one is trained. Or the training diverged.
    """
    model_config, tokenizer, tasks = _check(config)
    if config.max_length > model_config.max_position_embeddings:
        print(
            f"max_length={config.max_length} is more than the positions of the model: "
            f"using {model_config.max_position_embeddings}",
            flush=True,
        )
    tracker = open_tracker()
    all_results = []
    for task, splits in tasks.items():
        samples = min(len(splits["train"]), config.max_train_samples or len(splits["train"]))
        print(f"{task.name}: fine-tuning on {samples} examples, {config.epochs:g} epochs", flush=True)
        results = _finetune_task(config, task, splits, tokenizer, tracker)
        cut = results["cut_depth"]
        print(
            f"{task.name}: {task.metric} {results['full_score']:.4f} with {model_config.num_hidden_layers} layers, "
            f"{results['depth_scores'][cut]:.4f} with {cut} (majority {results['majority_score']:.4f}), "
            f"trained in {duration(results['train']['seconds'])}; {Path(config.output) / task.name}",
            flush=True,
        )
        all_results.append(results)
    return all_results
