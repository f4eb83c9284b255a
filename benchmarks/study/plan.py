"""The cells of a budget in order of importance: pure data, the same for all arms but for what is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from launch.demo import TASKS as DOCUMENTATION_TASKS

from .budgets import GLUE_TASKS, Arm, Budget

Kind = Literal["corpus", "rate", "pretrain", "finetune", "study"]
KINDS: tuple[Kind, ...] = ("corpus", "rate", "pretrain", "finetune", "study")


@dataclass(frozen=True)
class Cell:
    """One command, or a few, whose result is kept."""

    kind: Kind
    arm: Arm | None = None
    seed: int = 0
    """Of the pretraining."""
    rate: float | None = None
    """Of a cell that tries a learning rate; other pretrainings take the arm's best."""
    longer: int = 1
    """Tokens, as a multiple of the budget's."""
    task: str | None = None
    after: tuple[str, ...] = ()
    """Cells whose results this one needs."""

    @property
    def name(self) -> str:
        """Unique in a plan; also the path of the cell's folder."""
        if self.arm is None:
            return self.kind
        if self.kind == "rate":
            return f"rate/{self.arm.name}/{self.rate:g}"
        run = f"{self.arm.name}/seed-{self.seed}" + (f"-x{self.longer}" if self.longer > 1 else "")
        return "/".join([self.kind, run, *([self.task] if self.task else [])])


def tasks_of(chosen: str | None, glue_dir: str | None) -> tuple[str, ...]:
    """The tasks in order of importance: the user's choice (names between commas), or GLUE where its data is given, or
    those cut from the documentation."""
    if chosen is not None:
        return tuple(chosen.split(","))
    return GLUE_TASKS if glue_dir is not None else DOCUMENTATION_TASKS


def plan(budget: Budget, tasks: Sequence[str]) -> list[Cell]:
    """Every cell of `budget`, each after those that it needs.

    The first seed of all arms comes before the second of any, and what is trained longer right after the group that it
    is compared with. Tasks after the budget's first come when every arm of a seed has had those. Studies are of the
    first seed only.
    """
    first, further = tasks[: budget.first_tasks], tasks[budget.first_tasks :]
    cells = [Cell("corpus")]
    for seed in budget.seeds:
        for group, longer in _sets(budget):
            studied = seed == budget.seeds[0] and longer == 1
            if studied:
                cells += [rate for arm in group for rate in _rates(budget, arm)]
            runs = _pretrainings(budget, group, seed, longer)
            cells += [*runs, *_finetunings(runs, first)]
            if studied:
                cells += _studies(runs, tasks[: budget.study_tasks])
        for group, longer in _sets(budget):
            cells += _finetunings(_pretrainings(budget, group, seed, longer), further)
    return cells


def _sets(budget: Budget) -> list[tuple[tuple[Arm, ...], int]]:
    """What is pretrained with a seed: groups of arms, each with the multiple of the budget's tokens."""
    sets = [(group, 1) for group in budget.groups]
    return sets if budget.longer is None else [sets[0], (budget.groups[0], budget.longer), *sets[1:]]


def _rates(budget: Budget, arm: Arm) -> list[Cell]:
    """One of each rate that may be chosen; none where there is no choice."""
    rates = budget.rates if len(budget.rates) > 1 else ()
    return [Cell("rate", arm, budget.seeds[0], rate, after=("corpus",)) for rate in rates]


def _pretrainings(budget: Budget, group: Sequence[Arm], seed: int, longer: int) -> list[Cell]:
    cells = []
    for arm in group:
        needed = ("corpus", *(cell.name for cell in _rates(budget, arm)))
        cells.append(Cell("pretrain", arm, seed, longer=longer, after=needed))
    return cells


def _finetunings(runs: Sequence[Cell], tasks: Sequence[str]) -> list[Cell]:
    """Of pretrainings, task by task."""
    return [
        Cell("finetune", run.arm, run.seed, longer=run.longer, task=task, after=(run.name,))
        for task in tasks
        for run in runs
    ]


def _studies(runs: Sequence[Cell], tasks: Sequence[str]) -> list[Cell]:
    """Of the models that pretrainings were fine-tuned to, task by task."""
    tuned = _finetunings(runs, tasks)
    return [Cell("study", one.arm, one.seed, longer=one.longer, task=one.task, after=(one.name,)) for one in tuned]


def work(budget: Budget, cell: Cell) -> float:
    """What a cell's time is proportional to: tokens, or examples; 0 where its time is taken as it is."""
    if cell.kind == "rate":
        return budget.rate_tokens
    if cell.kind == "pretrain":
        return budget.tokens * cell.longer
    if cell.kind == "finetune":
        tried = len(budget.finetune_rates) if len(budget.finetune_rates) > 1 else 0
        return budget.train_examples * (budget.finetune_epochs or 3) * (len(budget.finetune_seeds) + tried)
    return 0.0
