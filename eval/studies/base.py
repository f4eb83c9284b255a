"""What every study has in common: its options, the data and model it is given, and the result it hands back."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

import datasets
import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import DataCollatorWithPadding

from modeling import AcnConfig, AcnForSequenceClassification

from ..depth import DepthSweep, depth_sweep
from ..glue import encode
from ..progress import Tracker, duration
from ..results import Results
from ..tasks import LABEL, GlueTask


def numbers(text: str | Sequence[float], kind: Callable[[Any], Any] = float) -> list[Any]:
    """'0.1,0.2' as [0.1, 0.2]; a list stays one.

    Raises:
        ValueError: a word is not a number.
    """
    words = [word for word in text.split(",") if word.strip()] if isinstance(text, str) else list(text)
    return [kind(word) for word in words]


def number_problems(
    name: str, text: str | Sequence[float], low: float, high: float = math.inf, kind: Callable[[Any], Any] = float
) -> list[str]:
    """What is wrong with an option that lists numbers in low..high, each once."""
    try:
        values = numbers(text, kind)
    except ValueError:
        return [f"{name}={text}: give numbers with commas between"]
    if not values or len(set(values)) < len(values) or not all(low <= value <= high for value in values):
        upper = "" if high == math.inf else f" and at most {high:g}"
        return [f"{name}={text}: give one number or more, each once, at least {low:g}{upper}"]
    return []


@dataclass
class StudyOptions:
    """What all studies share."""

    studies: str
    """Studies, with commas between: early_exit, pruning, noise, lesion (of a fine-tuned model), low_data, forgetting
    (of a pretrained one), geometry, similarity (of either)."""
    model: str
    """Folder of the model: a fine-tuned one (OUTPUT/TASK of `acn glue`) or a pretrained one (RUN/model)."""
    output: str
    """Folder to write OUTPUT/STUDY into. Studies finished there with the same settings are kept, the others run."""
    tasks: str | None = None
    """Tasks for a pretrained model, with commas between; a fine-tuned one brings its own."""
    glue_dir: str | None = None
    """Local folder with TASK/SPLIT.parquet, columns as in nyu-mll/glue; left out, the data comes from the Hub."""
    seeds: str | list[int] = "1,2"
    """Seeds, with commas between: of the noise, the subsets, the new heads, the order of training."""
    max_train_samples: int | None = 400
    """Training examples per task at most (stratified, by seed), where a study trains; null for all."""
    max_eval_samples: int | None = 200
    """Validation examples per task at most (stratified, always the same); null for all."""
    max_length: int = 128
    """Tokens per example at most; longer ones are cut."""
    epochs: float = 1.0
    """Passes over the training examples, where a study trains."""
    learning_rate: float | None = None
    """Peak learning rate, where a study trains; left out, the paper's 2e-5 scaled to the width: 2e-5 * 768 / width."""
    batch_size: int = 16
    """Examples per optimizer step."""

    @property
    def names(self) -> list[str]:
        """`studies` as a list."""
        return [name.strip() for name in self.studies.split(",") if name.strip()]

    @property
    def task_names(self) -> list[str]:
        """`tasks` as a list."""
        return [name.strip() for name in (self.tasks or "").split(",") if name.strip()]

    @property
    def seed_list(self) -> list[int]:
        """`seeds` as a list."""
        return numbers(self.seeds, int)

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each with its mend."""
        problems = number_problems("seeds", self.seeds, 0, 2**32 - 1, int)
        for name, low, mend in (
            ("max_train_samples", 0, "1 or more, or null for all"),
            ("max_eval_samples", 3, "4 or more, or null for all"),
            ("max_length", 2, "3 or more, room for [CLS], a token and [SEP]"),
            ("epochs", 0, "more than 0"),
            ("learning_rate", 0, "more than 0, or leave it out"),
            ("batch_size", 0, "1 or more"),
        ):
            value = getattr(self, name)
            if value is not None and not low < value < math.inf:
                problems.append(f"{name}={value}: give {mend}")
        if len(set(self.task_names)) < len(self.task_names):
            problems.append(f"tasks={self.tasks} names a task twice: name each once")
        return problems


@dataclass(frozen=True)
class Point:
    """What was measured at one x: a value per seed, or a single one where nothing is random."""

    x: float
    values: list[float]

    def as_json(self) -> dict[str, Any]:
        """Mean and sample standard deviation (null for a single value) beside the raw values."""
        std = stdev(self.values) if len(self.values) > 1 else None
        return {"x": float(self.x), "mean": fmean(self.values), "std": std, "values": list(map(float, self.values))}


@dataclass(frozen=True)
class Curve:
    """One line of a picture."""

    label: str
    x_label: str
    y_label: str
    points: list[Point]
    reference: float | None = None
    """The y value that the curve is to be compared with, where there is one (the unharmed model's score)."""

    def as_json(self) -> dict[str, Any]:
        """As study.json has it."""
        return asdict(self) | {"points": [point.as_json() for point in self.points]}


@dataclass(frozen=True)
class Study:
    """What a study found."""

    curves: list[Curve]
    columns: list[str]
    rows: list[list[Any]]
    notes: str
    """How the numbers were made, in a few sentences: definitions, units, the paper followed."""
    seeds: list[int] = field(default_factory=list)
    """The seeds whose deviation the curves show; none where nothing is random."""
    draw: Callable[[Figure], None] | None = None
    """Draws the picture instead of the curves' common one (onto a figure of 9 x 4.5 inches)."""


@dataclass(frozen=True)
class TaskData:
    """A task, its training texts, and the validation texts that a study scores."""

    task: GlueTask
    train: datasets.Dataset
    validation: datasets.Dataset


def draw_samples(task: GlueTask, data: datasets.Dataset, size: int | None, seed: int) -> datasets.Dataset:
    """`size` examples at random, each class in proportion (largest remainders); nested: a smaller size is a subset.

    With regression, or where `size` is None or more than there is, classes play no part.
    """
    if size is None or size >= len(data):
        return data
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    if not task.is_regression:
        labels = np.asarray(data[LABEL])[order]
        # the j-th example of a class with n members stands at (j + 1/2) / n: every prefix has the proportions
        place = np.empty(len(data))
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            place[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(place, kind="stable")]
    return data.select(np.sort(order[:size]))


class Progress:
    """Counts the steps of a study and says about every `interval` seconds how long it will take."""

    def __init__(self, study: str, total: int, interval: float = 5.0):
        self.study, self.total, self.interval = study, total, interval
        self.done = 0
        self.started = self.printed = time.monotonic()

    def step(self, what: str) -> None:
        """`what` is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.printed < self.interval and self.done < self.total:
            return
        self.printed = now
        left = (now - self.started) / self.done * (self.total - self.done)
        print(f"{self.study}: {self.done}/{self.total} ({what}), {duration(left)} left", flush=True)


@dataclass(frozen=True)
class Context:
    """What a study works on. Models are loaded by the study: it may change them."""

    options: StudyOptions
    config: AcnConfig
    tokenizer: Any
    data: list[TaskData]
    results: Results | None
    """Of a fine-tuned model; None for a pretrained one."""
    tracker: Tracker

    @property
    def only(self) -> TaskData:
        """The task of a fine-tuned model."""
        assert len(self.data) == 1
        return self.data[0]

    @property
    def collate(self) -> DataCollatorWithPadding:
        """Pads rows into a batch."""
        return DataCollatorWithPadding(self.tokenizer)

    def encode(self, task: GlueTask, data: datasets.Dataset) -> datasets.Dataset:
        """Token ids and labels of texts."""
        length = min(self.options.max_length, self.config.max_position_embeddings)
        return encode(task, data, self.tokenizer, length)

    def train_samples(self, data: TaskData, seed: int) -> datasets.Dataset:
        """Tokenized training examples, at most `max_train_samples`."""
        return self.encode(data.task, draw_samples(data.task, data.train, self.options.max_train_samples, seed))

    def batches(
        self, model: AcnForSequenceClassification, encoded: datasets.Dataset, size: int
    ) -> list[dict[str, torch.Tensor]]:
        """All of `encoded` on the model's device, similar lengths together."""
        order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable")
        batches = [self.collate([encoded[int(row)] for row in order[i : i + size]]) for i in range(0, len(order), size)]
        return [{name: value.to(model.device) for name, value in batch.items()} for batch in batches]

    def sweep(self, model: AcnForSequenceClassification, task: GlueTask, encoded: datasets.Dataset) -> DepthSweep:
        """Every depth of `model` on tokenized examples."""
        return depth_sweep(model, encoded, task, self.collate)

    def score(self, model: AcnForSequenceClassification, task: GlueTask, encoded: datasets.Dataset) -> float:
        """The task's metric at full depth."""
        return self.sweep(model, task, encoded).scores(task.metric)[-1]
