"""The cells of a budget in order of importance: pure data, the same for all arms but for what is compared."""

from collections.abc import Iterator, Sequence
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

    The first seed of all arms comes before the second of any, what is trained longer after what is trained alike;
    studies are of the first seed only.
    """
    cells = [Cell("corpus")]
    for seed in budget.seeds:
        for group in budget.groups:
            if seed == budget.seeds[0]:
                cells += [rate for arm in group for rate in _rates(budget, arm)]
            cells += list(_compared(budget, group, seed, tasks, studied=seed == budget.seeds[0]))
        for group in budget.groups if budget.longer is not None else ():
            slower = tuple(arm for arm in group if arm.connectivity == "acn")
            cells += list(_compared(budget, slower, seed, tasks, studied=False, longer=budget.longer or 1))
    return cells


def _rates(budget: Budget, arm: Arm) -> list[Cell]:
    """One of each rate that may be chosen; none where there is no choice."""
    rates = budget.rates if len(budget.rates) > 1 else ()
    return [Cell("rate", arm, budget.seeds[0], rate, after=("corpus",)) for rate in rates]


def _compared(
    budget: Budget, group: Sequence[Arm], seed: int, tasks: Sequence[str], studied: bool, longer: int = 1
) -> Iterator[Cell]:
    """A group's pretrainings, then its fine-tunings task by task, then its studies."""
    runs = []
    for arm in group:
        needed = ("corpus", *(cell.name for cell in _rates(budget, arm)))
        runs.append(Cell("pretrain", arm, seed, longer=longer, after=needed))
    yield from runs
    for task in tasks:
        for run in runs:
            yield Cell("finetune", run.arm, seed, longer=longer, task=task, after=(run.name,))
    for task in tasks[: budget.study_tasks] if studied else ():
        for run in runs:
            tuned = Cell("finetune", run.arm, seed, longer=longer, task=task)
            yield Cell("study", run.arm, seed, longer=longer, task=task, after=(tuned.name,))


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
