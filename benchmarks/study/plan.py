"""The jobs of a budget in order of importance: pure data, the same for all arms but for what is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from launch.demo import TASKS as DOCUMENTATION_TASKS

from .budgets import GLUE_TASKS, Arm, Budget

Kind = Literal["corpus", "cut", "rate", "pretrain", "similarity", "tune", "finetune", "study"]
KINDS: tuple[Kind, ...] = ("corpus", "cut", "rate", "pretrain", "similarity", "tune", "finetune", "study")
"""cut takes the first layers of a model, rate tries a learning rate of pretraining, tune one of fine-tuning."""


@dataclass(frozen=True)
class Job:
    """One command, or a few, whose result is kept."""

    kind: Kind
    arm: Arm | None = None
    seed: int = 0
    """Of the pretraining."""
    rate: float | None = None
    """Of a job that tries a learning rate; others take the best of those that they come after."""
    longer: int = 1
    """Tokens, as a multiple of the budget's."""
    task: str | None = None
    after: tuple[str, ...] = ()
    """Jobs whose results this one needs."""

    @property
    def name(self) -> str:
        """Unique in a plan; also the path of the job's folder."""
        if self.arm is None:
            return self.kind
        if self.kind in ("rate", "tune"):
            return f"{self.kind}/{self.arm.name}/{self.rate:g}"
        run = f"{self.arm.name}/seed-{self.seed}" + (f"-x{self.longer}" if self.longer > 1 else "")
        return "/".join([self.kind, run, *([self.task] if self.task else [])])


def tasks_of(chosen: str | None, glue_dir: str | None) -> tuple[str, ...]:
    """The tasks in order of importance: the user's choice (names between commas), or GLUE where its data is given, or
    those cut from the documentation."""
    if chosen is not None:
        return tuple(chosen.split(","))
    return GLUE_TASKS if glue_dir is not None else DOCUMENTATION_TASKS


def plan(budget: Budget, tasks: Sequence[str]) -> list[Job]:
    """Every job of `budget`, each after those that it needs.

    The first seed of all arms comes before the second of any, and what is trained longer right after the group that it
    is compared with. Tasks after the budget's first come when every arm of a seed has had those. Studies are of the
    first seed only.
    """
    first, further = tasks[: budget.first_tasks], tasks[budget.first_tasks :]
    jobs = [Job("corpus")]
    for seed in budget.seeds:
        for group, longer in _sets(budget):
            studied = seed == budget.seeds[0] and longer == 1
            if studied:
                jobs += [rate for arm in group for rate in _rates(budget, arm)]
            runs = _pretrainings(budget, group, seed, longer)
            jobs += [*runs, *_finetunings(runs, first)]
            if studied:
                jobs += _studies(runs, tasks[: budget.study_tasks])
        for group, longer in _sets(budget):
            jobs += _finetunings(_pretrainings(budget, group, seed, longer), further)
    return jobs


def _sets(budget: Budget) -> list[tuple[tuple[Arm, ...], int]]:
    """What is pretrained with a seed: groups of arms, each with the multiple of the budget's tokens."""
    sets = [(group, 1) for group in budget.groups]
    return sets if budget.longer is None else [sets[0], (budget.groups[0], budget.longer), *sets[1:]]


def _rates(budget: Budget, arm: Arm) -> list[Job]:
    """One of each rate that may be chosen; none where there is no choice."""
    rates = budget.rates if len(budget.rates) > 1 else ()
    return [Job("rate", arm, budget.seeds[0], rate, after=("corpus",)) for rate in rates]


def _pretrainings(budget: Budget, group: Sequence[Arm], seed: int, longer: int) -> list[Job]:
    jobs = []
    for arm in group:
        needed = ("corpus", *(job.name for job in _rates(budget, arm)))
        jobs.append(Job("pretrain", arm, seed, longer=longer, after=needed))
    return jobs


def _finetunings(runs: Sequence[Job], tasks: Sequence[str]) -> list[Job]:
    """Of pretrainings, task by task."""
    return [
        Job("finetune", run.arm, run.seed, longer=run.longer, task=task, after=(run.name,))
        for task in tasks
        for run in runs
    ]


def _studies(runs: Sequence[Job], tasks: Sequence[str]) -> list[Job]:
    """Of the models that pretrainings were fine-tuned to, task by task."""
    tuned = _finetunings(runs, tasks)
    return [Job("study", one.arm, one.seed, longer=one.longer, task=one.task, after=(one.name,)) for one in tuned]


def work(budget: Budget, job: Job) -> float:
    """What a job's time is proportional to: tokens, or examples; 0 where its time is taken as it is."""
    if job.kind == "rate":
        return budget.rate_tokens
    if job.kind == "pretrain":
        return budget.tokens * job.longer
    if job.kind == "finetune":
        tried = len(budget.finetune_rates) if len(budget.finetune_rates) > 1 else 0
        return budget.train_examples * (budget.finetune_epochs or 3) * (len(budget.finetune_seeds) + tried)
    return 0.0
