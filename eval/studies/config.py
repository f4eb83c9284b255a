"""The options of the studies."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data_pipeline import Problem, number_problems
from modeling.supervision import DEFAULTS as SUPERVISIONS

from ..precision import Precision
from ..tasks import DataPlace


def numbers(text: str | Sequence[float], kind: Callable[[Any], Any] = float) -> list[Any]:
    """'0.1,0.2' as [0.1, 0.2]; a list stays one.

    Raises:
        ValueError: a word is not a number.
    """
    words = [word for word in text.split(",") if word.strip()] if isinstance(text, str) else list(text)
    return [kind(word) for word in words]


def list_problems(
    name: str, text: str | Sequence[float], low: float, high: float = math.inf, kind: Callable[[Any], Any] = float
) -> list[Problem]:
    """What is wrong with an option that lists numbers in low..high, each once."""
    try:
        values = numbers(text, kind)
    except ValueError:
        return [Problem(name, text, fix="give numbers with commas between")]
    if not values or len(set(values)) < len(values) or not all(low <= value <= high for value in values):
        upper = "" if high == math.inf else f" and at most {high:g}"
        return [Problem(name, text, fix=f"give one number or more, each once, at least {low:g}{upper}")]
    return []


@dataclass
class StudyOptions:
    """What all studies share."""

    studies: str
    """Studies, with commas between: early_exit, pruning, noise, lesion (of a fine-tuned model), low_data, forgetting,
    shallow (of a pretrained one), geometry, similarity (of either)."""
    model: str
    """The model: a fine-tuned one (OUTPUT/TASK of `acn glue`) or a pretrained one (RUN/model, or a model of the BERT
    line); a folder, or NAME[@REVISION] of the Hub."""
    output: str
    """Folder to write OUTPUT/STUDY into. Studies finished there with the same settings are kept, the others run."""
    tasks: str | None = None
    """Tasks for a pretrained model, with commas between; a fine-tuned one brings its own."""
    glue_dir: str | None = None
    """Local folder with TASK/SPLIT.parquet, columns as in nyu-mll/glue; left out, the data comes from the Hub, and
    that of a fine-tuned model from where `acn glue` found it."""
    dataset: DataPlace = field(default_factory=DataPlace)
    """Where the data is now of a model that was fine-tuned with `--dataset`; left out, where it was."""
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
    precision: Precision = "auto"
    """Of matrix products, over float32 weights; auto: bf16 where the device multiplies it, else fp32. fp16 needs a GPU.
    Geometry alone computes in float64."""

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

    def problems(self) -> list[Problem]:
        problems = number_problems(self) + list_problems("seeds", self.seeds, 0, 2**32 - 1, int)
        for name, low, fix in (
            ("max_train_samples", 0, "1 or more, or null for all"),
            ("max_eval_samples", 3, "4 or more, or null for all"),
            ("max_length", 2, "3 or more, room for [CLS], a token and [SEP]"),
            ("epochs", 0, "more than 0"),
            ("learning_rate", 0, "more than 0, or leave it out"),
            ("batch_size", 0, "1 or more"),
        ):
            value = getattr(self, name)
            if value is not None and not low < value < math.inf:
                problems.append(Problem(name, value, fix=f"give {fix}"))
        if len(set(self.task_names)) < len(self.task_names):
            problems.append(Problem("tasks", self.tasks, "names a task twice", "name each once"))
        return problems


EXIT_CRITERIA = ("entropy", "confidence", "patience")


@dataclass
class EarlyExitOptions:
    """Early exit by the certainty of the shared head."""

    criteria: str = "entropy,confidence,patience"
    """What tells that an answer is certain, with commas between: entropy (over log classes), confidence (1 - largest
    probability), patience (so many depths in a row gave the same answer; every number of them is tried)."""
    thresholds: str | list[float] = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
    """Thresholds on entropy and confidence, 0 (never leave early) to 1."""
    tolerance: float = 0.005
    """Score that may be lost: the threshold picked is the most eager one with score >= full score - tolerance on one
    half of the validation examples; what is reported is measured on the other half."""
    latency_batch: int = 16
    """Examples per batch where time is measured."""
    latency_samples: int = 48
    """Examples that time is measured on."""
    latency_rounds: int = 3
    """Times that each latency is measured; the median counts."""
    train: bool = False
    """Also train on with a loss at every depth (weights rising linearly with the depth), and compare with training on
    as long with the ordinary loss."""

    @property
    def names(self) -> list[str]:
        """`criteria` as a list."""
        return [name.strip() for name in self.criteria.split(",") if name.strip()]

    def problems(self) -> list[Problem]:
        problems = list_problems("early_exit.thresholds", self.thresholds, 0, 1)
        unknown = [name for name in self.names if name not in EXIT_CRITERIA]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            problems.append(
                Problem("early_exit.criteria", self.criteria, fix=f"give {', '.join(EXIT_CRITERIA)} or one of them")
            )
        if not self.tolerance >= 0:
            problems.append(
                Problem("early_exit.tolerance", self.tolerance, fix="give 0 or more, the score that may be lost")
            )
        for name in ("latency_batch", "latency_samples", "latency_rounds"):
            if getattr(self, name) < 1:
                problems.append(Problem(f"early_exit.{name}", getattr(self, name), fix="give 1 or more"))
        return problems


PRUNING_METHODS = ("magnitude", "movement", "structured")
IMPORTANCES = ("magnitude", "gradient")


@dataclass
class PruningOptions:
    """Pruning of the encoder's weight matrices."""

    methods: str = "magnitude,movement,structured"
    """Methods, with commas between: magnitude (after fine-tuning), movement (during a further fine-tuning on the
    training examples), structured (whole heads and neurons, the matrices shrink)."""
    sparsities: str | list[float] = "0.2,0.4,0.6,0.8,0.9"
    """Shares of the weights that magnitude pruning removes, and of heads and neurons that structured removal does."""
    movement_rates: str | list[float] = "0.2,0.4"
    """Shares of the weights still there that movement pruning removes in each epoch."""
    movement_epochs: int = 2
    """Epochs of movement pruning; each gives a point."""
    importance: str = "gradient"
    """What structured removal ranks heads and neurons by: magnitude (norm of their weights) or gradient (the
    first-order change of the loss on training examples if they are removed)."""
    depth: int | None = None
    """Depth of the cut model that is pruned too; left out, the cut depth in results.json."""

    @property
    def names(self) -> list[str]:
        """`methods` as a list."""
        return [name.strip() for name in self.methods.split(",") if name.strip()]

    def problems(self) -> list[Problem]:
        problems = list_problems("pruning.sparsities", self.sparsities, 0, 1)
        problems += list_problems("pruning.movement_rates", self.movement_rates, 0, 0.99)
        unknown = [name for name in self.names if name not in PRUNING_METHODS]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            problems.append(
                Problem("pruning.methods", self.methods, fix=f"give each of {', '.join(PRUNING_METHODS)} at most once")
            )
        if self.importance not in IMPORTANCES:
            problems.append(Problem("pruning.importance", self.importance, fix=f"give {' or '.join(IMPORTANCES)}"))
        if self.movement_epochs < 1:
            problems.append(Problem("pruning.movement_epochs", self.movement_epochs, fix="give 1 or more"))
        if self.depth is not None and self.depth < 1:
            problems.append(Problem("pruning.depth", self.depth, fix="give 1 or more, or leave it out"))
        return problems


NOISES = ("char_swap", "char_drop", "char_insert", "typo", "word_drop", "token_replace", "embedding")


@dataclass
class NoiseOptions:
    """Noise on the input."""

    kinds: str = ",".join(NOISES)
    """Kinds of noise, with commas between: char_swap, char_drop, char_insert, typo (a neighbouring key), word_drop,
    token_replace (a random token), embedding (Gaussian)."""
    strengths: str | list[float] = "0.1,0.3,0.5"
    """Strengths beside 0: the share of words (tokens) hit; for embedding the deviation, in units of the embeddings'."""

    @property
    def names(self) -> list[str]:
        """`kinds` as a list."""
        return [kind.strip() for kind in self.kinds.split(",") if kind.strip()]

    def problems(self) -> list[Problem]:
        problems = list_problems("noise.strengths", self.strengths, 0, 1)
        unknown = [kind for kind in self.names if kind not in NOISES]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            problems.append(
                Problem(
                    "noise.kinds", self.kinds, fix=f"give each of {', '.join(NOISES)} at most once, and at least one"
                )
            )
        return problems


LESIONS = ("delete", "swap", "repeat")


@dataclass
class LesionOptions:
    """Lesions of single layers."""

    kinds: str = "delete,swap,repeat"
    """Lesions, with commas between: delete a layer, swap it with the next, repeat it."""

    @property
    def names(self) -> list[str]:
        """`kinds` as a list."""
        return [kind.strip() for kind in self.kinds.split(",") if kind.strip()]

    def problems(self) -> list[Problem]:
        unknown = [kind for kind in self.names if kind not in LESIONS]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            return [
                Problem(
                    "lesion.kinds", self.kinds, fix=f"give each of {', '.join(LESIONS)} at most once, and at least one"
                )
            ]
        return []


@dataclass
class LowDataOptions:
    """Fine-tuning on small subsets."""

    sizes: str | list[int] = "32,128"
    """Training examples, stratified; each seed's smaller subset is part of its larger ones. max_train_samples (else
    the whole split) is the largest size and always among them."""
    min_steps: int = 12
    """Optimizer steps at least, where `epochs` over a small subset would be fewer."""

    def problems(self) -> list[Problem]:
        problems = list_problems("low_data.sizes", self.sizes, 1, kind=int)
        if self.min_steps < 1:
            problems.append(Problem("low_data.min_steps", self.min_steps, fix="give 1 or more"))
        return problems


FORGETTING_METHODS = ("naive", "si", "ewc")


@dataclass
class ForgettingOptions:
    """Tasks in sequence."""

    methods: str = "naive,si,ewc"
    """Methods, with commas between: naive, si (Synaptic Intelligence), ewc (Elastic Weight Consolidation)."""
    si_strength: float = 1.0
    """Synaptic Intelligence's c."""
    si_damping: float = 1e-3
    """Synaptic Intelligence's xi."""
    ewc_strength: float = 1000.0
    """Elastic Weight Consolidation's lambda."""
    ewc_samples: int = 64
    """Training examples that the Fisher information of a task is estimated on."""

    @property
    def names(self) -> list[str]:
        """`methods` as a list."""
        return [name.strip() for name in self.methods.split(",") if name.strip()]

    def problems(self) -> list[Problem]:
        problems = []
        unknown = [name for name in self.names if name not in FORGETTING_METHODS]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            problems.append(
                Problem(
                    "forgetting.methods", self.methods, fix=f"give each of {', '.join(FORGETTING_METHODS)} at most once"
                )
            )
        for name in ("si_strength", "ewc_strength"):
            if not getattr(self, name) >= 0:
                problems.append(Problem(f"forgetting.{name}", getattr(self, name), fix="give 0 or more"))
        if not self.si_damping > 0:
            problems.append(Problem("forgetting.si_damping", self.si_damping, fix="give more than 0"))
        if self.ewc_samples < 1:
            problems.append(Problem("forgetting.ewc_samples", self.ewc_samples, fix="give 1 or more"))
        return problems


RANKS = (1, 2, 4, 8)
"""Of the eigenvalues that are shown, 1 for the largest."""


@dataclass
class GeometryOptions:
    """Spectra of the layers' pull-back metrics."""

    samples: int = 4
    """Validation texts per task and seed at which the layers are linearised."""
    lanczos_steps: int = 16
    """Lanczos iterations per text and layer: eigenvalues found, the largest best."""
    exact_up_to: int = 512
    """Tokens x width up to which the whole Jacobian is formed instead."""

    def problems(self) -> list[Problem]:
        return [
            Problem(f"geometry.{name}", getattr(self, name), fix=f"give {low} or more")
            for name, low in (("samples", 1), ("lanczos_steps", max(RANKS)), ("exact_up_to", 0))
            if getattr(self, name) < low
        ]


@dataclass
class SimilarityOptions:
    """Similarity of the representations of all pairs of depths."""

    batch_size: int = 64
    """Examples per forward pass."""

    def problems(self) -> list[Problem]:
        return [] if self.batch_size >= 1 else [Problem("similarity.batch_size", self.batch_size, fix="give 1 or more")]


@dataclass
class ShallowOptions:
    """Which model to ship when there is time for a part of the layers."""

    against: str | list[str] | None = None
    """Further models to start from beside `model`, with commas between, given like it; none fine-tuned."""
    supervision: str = "none,deep,adaptive,layerskip,layerdrop"
    """Depth supervision that each model is fine-tuned with, one after the other, with commas between (see `acn glue
    --supervision.kind`)."""
    rate_multiples: str | list[float] = "1,3,10"
    """Learning rates that each contender's own is chosen from on held-out training examples, as multiples of
    learning_rate; 1 alone: no choice."""
    budgets: str | list[float] = "0.25,0.5,1"
    """Shares of the time of the slowest whole model, for each of which the study says what to ship."""
    tolerance: float = 0.005
    """Score that a faster model may lose to the best one within a budget."""

    @property
    def models(self) -> list[str]:
        """`against` as a list."""
        names = self.against.split(",") if isinstance(self.against, str) else self.against or []
        return [name.strip() for name in names if name.strip()]

    @property
    def kinds(self) -> list[str]:
        """`supervision` as a list."""
        return [kind.strip() for kind in self.supervision.split(",") if kind.strip()]

    @property
    def multiples(self) -> list[float]:
        """`rate_multiples` as a list."""
        return numbers(self.rate_multiples)

    def problems(self) -> list[Problem]:
        problems = list_problems("shallow.rate_multiples", self.rate_multiples, 1e-6)
        problems += list_problems("shallow.budgets", self.budgets, 0.01, 1)
        if not self.kinds or not {*self.kinds} <= {*SUPERVISIONS} or len(set(self.kinds)) < len(self.kinds):
            fix = f"give each of {', '.join(SUPERVISIONS)} at most once, and at least one"
            problems.append(Problem("shallow.supervision", self.supervision, fix=fix))
        if len(set(self.models)) < len(self.models):
            problems.append(Problem("shallow.against", self.against, "names a model twice", "name each once"))
        if not 0 <= self.tolerance < math.inf:
            problems.append(Problem("shallow.tolerance", self.tolerance, fix="give 0 or more"))
        return problems


@dataclass
class StudyConfig(StudyOptions):
    """Studies of a model: what it withstands, and what its layers do."""

    early_exit: EarlyExitOptions = field(default_factory=EarlyExitOptions)
    """Early exit."""
    pruning: PruningOptions = field(default_factory=PruningOptions)
    """Pruning."""
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    """Noise on the input."""
    lesion: LesionOptions = field(default_factory=LesionOptions)
    """Lesions of layers."""
    low_data: LowDataOptions = field(default_factory=LowDataOptions)
    """Small training sets."""
    forgetting: ForgettingOptions = field(default_factory=ForgettingOptions)
    """Tasks in sequence."""
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    """Pull-back metrics."""
    similarity: SimilarityOptions = field(default_factory=SimilarityOptions)
    """Similarity of depths."""
    shallow: ShallowOptions = field(default_factory=ShallowOptions)
    """Contenders for a shallow model."""

    def problems(self) -> list[Problem]:
        problems = super().problems()
        unknown = [name for name in self.names if name not in STUDIES]
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            problems.append(
                Problem(
                    "studies", self.studies, fix=f"give each of {', '.join(STUDIES)} at most once, and at least one"
                )
            )
        for name in self.names:
            if name in STUDIES:
                problems += getattr(self, name).problems()
        if "shallow" in self.names and self.model in self.shallow.models:
            problems.append(Problem("shallow.against", self.shallow.against, "names `model`, too", "name each once"))
        return problems

    def settings(self, study: str) -> dict[str, Any]:
        """Everything that decides the result of a study but the model's weights, as JSON has it."""
        shared = {name: value for name, value in asdict(self).items() if name not in STUDIES}
        for name in ("studies", "output"):
            del shared[name]
        if not self.dataset.given:  # as studies of version 0.1 have it
            del shared["dataset"]
        return json.loads(json.dumps(shared | {study: asdict(getattr(self, study))}))


STUDIES = tuple(field.name for field in fields(StudyConfig))[len(fields(StudyOptions)) :]
"""The names of all studies; each has its options in the field of `StudyConfig` that bears its name."""
