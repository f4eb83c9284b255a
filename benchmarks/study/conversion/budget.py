"""What a conversion's budget pays for."""

from dataclasses import dataclass

from ..budgets import Arm, Speeds

ORIGINAL, CONVERTED = Arm("residual", "original"), Arm("acn", "converted")
STUDENT = Arm("residual", "student")
"""The first layers of the original, distilled from it for as many tokens as the conversion reads."""


def supervised(start: Arm, kind: str) -> Arm:
    """An arm that starts as another one and is fine-tuned with depth supervision."""
    return Arm(start.connectivity, f"{start.variant}+{kind}")


def start_of(arm: Arm) -> Arm:
    """The arm without what it is fine-tuned with."""
    return Arm(arm.connectivity, arm.variant.partition("+")[0])


def supervision_of(arm: Arm) -> str:
    """The kind of depth supervision that an arm is fine-tuned with."""
    return arm.variant.partition("+")[2] or "none"


@dataclass(frozen=True)
class Fraction:
    """How much of a task's training split is learned, and how often."""

    task: str
    examples: int | None
    """Drawn at random by the fine-tuning's seed; None: all."""
    epochs: float


@dataclass(frozen=True)
class Conversion:
    """A plan's parameters."""

    name: str
    minutes: float
    """Time of all jobs together."""
    model: str
    """The original: a name on the Hub, where no folder is given."""
    recipe: str
    """Of `acn pretrain`: everything that the fields below do not say."""
    tokens: float
    """Of the conversion, as many whole batches as they are enough for."""
    only_rate: float
    """The conversion's peak learning rate."""
    batch: int
    """Blocks per optimizer step."""
    seq_length: int
    validations: int
    validation_blocks: int
    parts: tuple[Fraction, ...]
    """Tasks in order of importance."""
    finetune_seeds: tuple[int, ...]
    finetune_batch: int
    finetune_rates: tuple[float, ...]
    """Peak learning rates that each arm's is chosen from, by the score of the whole model on the first task."""
    tuning: Fraction
    """What a rate is tried on, with a seed that no result has."""
    eval_examples: int | None
    """Of each validation split at most; None: all."""
    speeds: Speeds
    supervisions: tuple[str, ...]
    """Kinds of depth supervision that the original is also fine-tuned with."""
    of_converted: tuple[str, ...]
    """And the ACN made of it."""
    jobs: int = 1
    """Jobs that run side by side."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is fine-tuned, in order of importance."""
        others = [supervised(CONVERTED, kind) for kind in self.of_converted]
        return (ORIGINAL, CONVERTED, *others, *(supervised(ORIGINAL, kind) for kind in self.supervisions))

    @property
    def groups(self) -> tuple[tuple[Arm, ...], ...]:
        """Arms, as a `Budget` has them."""
        return tuple((arm,) for arm in self.arms)

    @property
    def tasks(self) -> tuple[str, ...]:
        """In order of importance."""
        return tuple(part.task for part in self.parts)

    def part(self, task: str | None) -> Fraction:
        """That of a task."""
        return next(part for part in self.parts if part.task == task)

    @property
    def steps(self) -> int:
        """Of the conversion."""
        return int(self.tokens // (self.batch * self.seq_length))


TRAINING_SPLITS = {"sst2": 67349, "mrpc": 3668, "stsb": 5749, "qnli": 10000, "qqp": 9000, "rte": 2490}
"""Examples, for the estimates of time; those of qnli and qqp are what the study was made with, not GLUE's whole."""

CONVERT = Conversion(
    name="convert-2h", minutes=120, model="sentence-transformers/all-MiniLM-L6-v2", recipe="acn-from-minilm",
    tokens=2.5e6, only_rate=1e-3, batch=8, seq_length=128, validations=10, validation_blocks=64,
    parts=(
        Fraction("sst2", 20_000, 1), Fraction("mrpc", None, 3), Fraction("stsb", None, 2), Fraction("qnli", 10_000, 1),
        Fraction("rte", None, 3), Fraction("qqp", 9_000, 1),
    ),
    finetune_seeds=(1, 2, 3), finetune_batch=16, finetune_rates=(2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3),
    tuning=Fraction("sst2", 8_000, 1), eval_examples=None,
    speeds=Speeds(start=20, tokens=650, examples=40, study=60), supervisions=("deep",), of_converted=("deep",), jobs=2,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rivals(Conversion):
    """A conversion beside the other ways to a shallow encoder."""

    student_layers: int

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is fine-tuned, in order of importance."""
        original, converted, *others = super().arms
        return (original, converted, STUDENT, *others)


RIVALS = Rivals(
    name="rivals-3h", minutes=180, model=CONVERT.model, recipe=CONVERT.recipe, tokens=CONVERT.tokens, only_rate=1e-3,
    batch=8, seq_length=128, validations=10, validation_blocks=64,
    parts=(Fraction("sst2", 4_000, 1), Fraction("qnli", 3_000, 1), Fraction("mrpc", None, 2), Fraction("rte", None, 2)),
    finetune_seeds=(1, 2, 3), finetune_batch=16, finetune_rates=(5e-5, 2e-4, 8e-4), tuning=Fraction("sst2", 2_000, 1),
    eval_examples=None, speeds=CONVERT.speeds, jobs=2,
    supervisions=("deep", "adaptive", "layerskip", "layerdrop"), of_converted=("deep", "adaptive"), student_layers=3,
)  # fmt: skip
CONVERSIONS: dict[str, Conversion] = {budget.name: budget for budget in (CONVERT, RIVALS)}
