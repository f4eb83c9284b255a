"""What every study has in common: its options, the data and model it is given, and the result it hands back."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from transformers import DataCollatorWithPadding

from data_pipeline import Problem
from modeling import AcnConfig, AcnForSequenceClassification, autocast

from ..depth import DepthSweep, depth_sweep
from ..glue import count_cut, encode, say_cut
from ..models import best_device, load_finetuned, load_for_task, most_tokens
from ..precision import resolved
from ..progress import Tracker
from ..results import TaskResults
from ..tasks import LABEL, PAPER_HIDDEN_SIZE, Task
from .config import StudyConfig, StudyOptions

# the paper's rate for fine-tuning at PAPER_HIDDEN_SIZE
PAPER_LEARNING_RATE = 2e-5

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    y_range: tuple[float, float] | None = None
    """What the picture's y axis spans, so that the pictures of two models can be held beside each other."""
    verdict: str = ""
    """What follows from it, in a sentence, by a rule that the notes state; empty where nothing is concluded."""
    draw: "Callable[[Figure], None] | None" = None
    """Draws the picture instead of the curves' common one (onto a figure of 9 x 4.5 inches)."""


@dataclass(frozen=True)
class TaskData:
    """A task, its training texts, and the validation texts that a study scores."""

    task: Task
    train: datasets.Dataset
    validation: datasets.Dataset


def draw_samples(task: Task, data: datasets.Dataset, size: int | None, seed: int) -> datasets.Dataset:
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


def base_rate(options: StudyOptions, config: AcnConfig) -> float:
    """The peak learning rate asked for, or the paper's scaled to a model's width."""
    return options.learning_rate or PAPER_LEARNING_RATE * PAPER_HIDDEN_SIZE / config.hidden_size


OpenChild = Callable[[str, Path], AbstractContextManager[Tracker]]


@dataclass(frozen=True)
class Context:
    """What a study works on. Every study loads models of its own: it may change them."""

    options: StudyConfig
    config: AcnConfig
    tokenizer: Any
    data: list[TaskData]
    results: TaskResults | None
    """Of a fine-tuned model; None for a pretrained one."""
    tracker: Tracker
    open_child: OpenChild | None = None
    """Opens the record of a part of the study, given its name and folder."""

    def child(self, name: str, folder: Path) -> AbstractContextManager[Tracker]:
        """The record of a part of the study; the study's own where parts have none."""
        return nullcontext(self.tracker) if self.open_child is None else self.open_child(name, folder)

    @property
    def only(self) -> TaskData:
        """The only task, which a fine-tuned model has."""
        assert len(self.data) == 1
        return self.data[0]

    @property
    def learning_rate(self) -> float:
        """Peak of the trainings' learning rates: the options', or the paper's scaled to the model's width."""
        return base_rate(self.options, self.config)

    @property
    def precision(self) -> str:
        """What is computed in, never auto."""
        return resolved(self.options.precision)

    @property
    def gradient_precision(self) -> str:
        """What gradients are computed in that no loss scale guards: fp16 would lose the small ones."""
        return "fp32" if self.precision == "fp16" else self.precision

    def autocast(self, model: AcnForSequenceClassification) -> AbstractContextManager[Any]:
        """Where `model` computes in the study's precision."""
        return autocast(self.precision, model.device)

    def load_finetuned(self) -> AcnForSequenceClassification:
        """The fine-tuned model, on the device."""
        return load_finetuned(self.options.model, self.precision).to(best_device())

    def load_for_task(self, task: Task) -> AcnForSequenceClassification:
        """The encoder with a new classifier for `task`, on the device; seed torch first."""
        return load_for_task(self.options.model, task, self.precision).to(best_device())

    @property
    def collate(self) -> DataCollatorWithPadding:
        """Pads rows into a batch."""
        return DataCollatorWithPadding(self.tokenizer)

    @property
    def seq_length(self) -> int:
        """Tokens per example at most."""
        return min(self.options.max_length, most_tokens(self.config) or self.options.max_length)

    def encode(self, task: Task, data: datasets.Dataset) -> datasets.Dataset:
        """Token ids and labels of texts."""
        return encode(task, data, self.tokenizer, self.seq_length)

    def truncation(self) -> dict[str, dict[str, Any]]:
        """What `max_length` cuts off each task's validation texts, also said to the user."""
        found = {}
        for data in self.data:
            encoded = self.encode(data.task, data.validation)
            cut = count_cut(data.task, data.validation, encoded, self.tokenizer, self.seq_length)
            say_cut(data.task.name, self.seq_length, most_tokens(self.config), {"validation": cut})
            found[data.task.name] = asdict(cut)
        return found

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

    def sweep(self, model: AcnForSequenceClassification, task: Task, encoded: datasets.Dataset) -> DepthSweep:
        """Every depth of `model` on tokenized examples."""
        return depth_sweep(model, encoded, task, self.collate, precision=self.precision)

    def score(self, model: AcnForSequenceClassification, task: Task, encoded: datasets.Dataset) -> float:
        """The task's metric at full depth."""
        return self.sweep(model, task, encoded).scores(task.metric)[-1]


@dataclass(frozen=True)
class Kind:
    """How a study is run, and what model it is of."""

    run: Callable[[Context, Any], Study]
    model: str
    """fine-tuned, pretrained or either."""
    classes: bool = False
    """Needs a classification task."""
    tasks: int = 1
    """Tasks it takes at least."""
    precision: str | None = None
    """The one that it computes in, whatever is asked for."""
    check: Callable[[StudyConfig], list[Problem]] | None = None
    """What else can be wrong with a request, before anything runs."""
