"""What each budget pays for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

GLUE_TASKS = ("sst2", "qnli", "qqp", "rte", "mrpc", "cola")
"""In order of importance; the first three are the paper's."""


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "identity": {"model.identity_attention_init": True},
    "warmup": {"model.identity_attention_init": True, "schedule.warmup_fraction": 0.5},
    "start1": {"model.hybrid_init": 1.0},
    "anneal": {"anneal.share": 0.3},
    "anneal-identity": {"anneal.share": 0.3, "model.identity_attention_init": True},
}
"""What an arm changes beside its connectivity, as options of `acn pretrain`. plain: normal(0.02). identity: the
identity added to the attention's projections. warmup: identity with the paper's warm-up over half of the steps. start1:
a hybrid whose learned scalars start at 1. anneal: an acn that begins with short residuals, scaled from 1 to 0 over the
first 30 % of the steps; anneal-identity: with the identity, too."""


@dataclass(frozen=True)
class Arm:
    """What is compared: a connectivity and a variant of how it starts. Everything else is the same for all arms."""

    connectivity: str
    variant: str = "plain"
    """One of VARIANTS."""

    @property
    def name(self) -> str:
        """Also a folder's name."""
        return f"{self.connectivity}-{self.variant}"

    @property
    def twin(self) -> "Arm":
        """The residual arm that begins alike: a residual model has no shortcuts to lose."""
        return Arm("residual", {"anneal": "plain", "anneal-identity": "identity"}.get(self.variant, self.variant))

    @property
    def options(self) -> dict[str, Any]:
        """Of `acn pretrain`."""
        return {"model.connectivity": self.connectivity, **VARIANTS[self.variant]}


ANNEALED = (Arm("acn", "anneal-identity"), Arm("acn", "anneal"))
IDENTITY, PLAIN = ((Arm("acn", variant), Arm("residual", variant)) for variant in ("identity", "plain"))


@dataclass(frozen=True)
class Speeds:
    """What the first estimates rest on; finished jobs of a kind replace them."""

    start: float
    """Seconds until a verb has imported everything."""
    tokens: float
    """Tokens per second of pretraining, validation and probes included."""
    examples: float
    """Training examples per second of fine-tuning, the depth sweep included."""
    study: float
    """Seconds of the studies of one model."""


@dataclass(frozen=True)
class Budget:
    """A plan's parameters."""

    name: str
    minutes: float
    """Time of all jobs together."""
    groups: tuple[tuple[Arm, ...], ...]
    """Arms in order of importance; those of a group are compared, and none is begun before all are paid for."""
    seeds: tuple[int, ...]
    """Of pretraining: initial weights, order of the blocks and masks."""
    layers: int
    hidden: int
    heads: int
    tokens: float
    """Of one pretraining, as many whole batches as they are enough for."""
    batch: int
    """Blocks per optimizer step."""
    micro_batch: int
    """Blocks per forward pass of a rank."""
    ranks: int
    zero_stage: int
    """The same numbers with any; 0 is the fastest for small models on a CPU."""
    warmup: float
    """Share of the steps."""
    rates: tuple[float, ...]
    """Peak learning rates that each arm's is chosen from, by validation loss after `rate_tokens`."""
    rate_tokens: float
    validations: int
    """Validations and gradient probes of a pretraining."""
    validation_blocks: int
    corpus_mb: float | None
    """Megabytes of documentation to prepare and pretrain on; None: --tokens gives the corpus."""
    vocabulary: int
    finetune_seeds: tuple[int, ...]
    finetune_rates: tuple[float, ...]
    """Of one every fine-tuning has it, of several each model the best on the validation split; none: the table of
    `acn glue`."""
    finetune_epochs: float | None
    train_examples: int
    """Of each fine-tuning at most."""
    eval_examples: int
    study_tasks: int
    """Tasks, from the first, whose models are studied."""
    study_options: tuple[str, ...]
    """Further options of `acn study`."""
    speeds: Speeds
    seq_length: int = 128
    jobs: int = 1
    """Jobs that run side by side; on a CPU two with one rank each are faster than one with two."""
    longer: int | None = None
    """The first group's arms are also trained on so many times the tokens, to compare at equal loss (paper: 2)."""
    first_tasks: int = 2
    """Tasks, from the first, that every arm of a seed is fine-tuned on before any is on the others."""
    precision: str = "auto"
    """Of pretraining, as `acn pretrain` has it."""

    @property
    def only_rate(self) -> float | None:
        """The peak learning rate of pretraining where there is no choice."""
        return self.rates[0] if len(self.rates) == 1 else None

    @property
    def batch_tokens(self) -> int:
        """Tokens of an optimizer step."""
        return self.batch * self.seq_length

    def steps(self, tokens: float) -> int:
        """Whole batches of `tokens`."""
        return int(tokens // self.batch_tokens)


def with_variants(budget: Budget, variants: Sequence[str]) -> Budget:
    """`budget` without the arms of other variants."""
    chosen = (tuple(arm for arm in group if arm.variant in variants) for group in budget.groups)
    return replace(budget, groups=tuple(group for group in chosen if group))


SMOKE = Budget(
    name="smoke", minutes=60, groups=(IDENTITY, (Arm("hybrid", "identity"),)), seeds=(0,),
    layers=2, hidden=64, heads=2, tokens=80e3, batch=16, micro_batch=8, ranks=1, zero_stage=1, warmup=0.1,
    rates=(1e-3, 3e-3), rate_tokens=16e3, validations=4, validation_blocks=32, corpus_mb=1.0, vocabulary=1024,
    finetune_seeds=(1, 2), finetune_rates=(), finetune_epochs=1, train_examples=128, eval_examples=64,
    study_tasks=1,
    study_options=("--seeds", "1", "--max_train_samples", "32", "--max_eval_samples", "48", "--max_length", "64",
                   "--noise.kinds", "char_drop,embedding", "--noise.strengths", "0.3", "--pruning.sparsities", "0.5",
                   "--pruning.methods", "magnitude", "--early_exit.thresholds", "0.5,0.9",
                   "--early_exit.latency_rounds", "1"),
    speeds=Speeds(start=12, tokens=20e3, examples=100, study=10),
)  # fmt: skip

CPU = Budget(
    name="cpu-2h", minutes=120,
    groups=(IDENTITY, PLAIN, (Arm("hybrid", "identity"), Arm("acn", "warmup")), ANNEALED),
    seeds=(0, 1, 2), layers=12, hidden=128, heads=4, tokens=4e6, batch=16, micro_batch=16, ranks=1, zero_stage=0,
    warmup=0.1, rates=(5e-4, 1e-3), rate_tokens=1e6, validations=20, validation_blocks=128, corpus_mb=12.0,
    vocabulary=4096,
    finetune_seeds=(1, 2, 3), finetune_rates=(5e-4,), finetune_epochs=2, train_examples=2400, eval_examples=1000,
    study_tasks=1,
    study_options=("--seeds", "1,2", "--max_train_samples", "300", "--max_eval_samples", "300", "--max_length", "96",
                   "--pruning.methods", "magnitude"),
    speeds=Speeds(start=20, tokens=4e3, examples=80, study=240), jobs=2, longer=2,
)  # fmt: skip

SMALL_CPU = Budget(
    name="cpu-1h", minutes=60,
    groups=(IDENTITY, PLAIN, (Arm("hybrid", "start1"), Arm("acn", "warmup")), ANNEALED),
    seeds=(0, 1, 2), layers=6, hidden=128, heads=4, tokens=6e6, batch=16, micro_batch=16, ranks=1, zero_stage=0,
    warmup=0.1, rates=(1e-3, 2e-3), rate_tokens=5e5, validations=20, validation_blocks=128, corpus_mb=12.0,
    vocabulary=4096,
    finetune_seeds=(1, 2, 3), finetune_rates=(5e-4,), finetune_epochs=2, train_examples=2400, eval_examples=1000,
    study_tasks=1,
    study_options=("--seeds", "1,2", "--max_train_samples", "200", "--max_eval_samples", "300", "--max_length", "96",
                   "--pruning.methods", "magnitude"),
    speeds=Speeds(start=20, tokens=8e3, examples=150, study=150), jobs=2,
)  # fmt: skip

GPU = Budget(
    name="gpu-30min", minutes=30, groups=(IDENTITY, PLAIN, (Arm("hybrid", "identity"),)),
    seeds=(0, 1, 2), layers=12, hidden=512, heads=8, tokens=500e6, batch=256, micro_batch=256, ranks=1, zero_stage=1,
    warmup=0.1, rates=(5e-4, 1e-3), rate_tokens=20e6, validations=25, validation_blocks=1024, corpus_mb=None,
    vocabulary=16384,
    finetune_seeds=(1, 2, 3), finetune_rates=(), finetune_epochs=3, train_examples=10000, eval_examples=5000,
    study_tasks=1,
    study_options=("--seeds", "1,2", "--max_train_samples", "2000", "--max_eval_samples", "800",
                   "--pruning.methods", "magnitude"),
    speeds=Speeds(start=20, tokens=1e6, examples=3000, study=60), longer=2, first_tasks=3,
)  # fmt: skip

BUDGETS = {budget.name: budget for budget in (SMOKE, SMALL_CPU, CPU, GPU)}
