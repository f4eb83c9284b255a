"""The page's tables, from the numbers of claim.json."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import table as markdown
from eval import TaskResults
from eval.report import Run as TaskRun
from eval.report import Table, mean_and_std, study_table

from .budgets import Arm
from .claim import Claim, Run, mean_and_deviation
from .curves import Gap, gaps
from .plan import KINDS


def shown(table: Table | None) -> list[str]:
    """A table in Markdown with its caption; nothing for None."""
    return [] if table is None else [f"{table.caption}.", "", markdown(table.columns, table.shown()), ""]


def what_ran(claim: Claim) -> Table:
    """Jobs by kind and state."""
    counts = Counter((job["kind"], job["status"]) for job in claim.jobs)
    states = ("done", "failed", "stopped", "not run")
    rows = [
        [
            kind,
            *(counts[kind, state] for state in states),
            sum(c["seconds"] for c in claim.jobs if c["kind"] == kind) / 60,
        ]
        for kind in KINDS
        if any(counts[kind, state] for state in states)
    ]
    return Table("jobs", "Jobs of the plan", ["kind", *states, "minutes"], rows)


def rates(claim: Claim) -> Table | None:
    """Validation loss of every learning rate that was tried, and the one that was taken; None without a choice."""
    if len(claim.budget["rates"]) == 1:
        return None
    rows = []
    for arm in claim.arms:
        tried = {job["tried_rate"]: job["result"]["validation_loss"] for job in claim.done("rate", **vars(arm))}
        losses = ", ".join(f"{rate:g}: {loss:.3f}" for rate, loss in sorted(tried.items()))
        rows.append([arm.name, losses, f"{claim.runs(arm, _first_length(claim, arm))[0].rate:g}"])
    tokens = claim.budget["rate_tokens"] / 1e6
    return Table(
        "rates", f"Validation loss after {tokens:g}M tokens by peak learning rate", ["arm", "tried", "taken"], rows
    )


def _first_length(claim: Claim, arm: Arm) -> int:
    return min(job["longer"] for job in claim.done("pretrain", **vars(arm)))


def lengths(claim: Claim, arm: Arm) -> list[int]:
    """Multiples of the budget's tokens that an arm was trained on."""
    return sorted({job["longer"] for job in claim.done("pretrain", **vars(arm))})


def label(arm: Arm, longer: int) -> str:
    """An arm's name with its tokens, where they are more than the others'."""
    return arm.name if longer == 1 else f"{arm.name} ({longer} x tokens)"


def pretraining(claim: Claim) -> Table:
    """Losses and masked accuracies at the end of pretraining."""
    rows = []
    for arm in claim.arms:
        for longer in lengths(claim, arm):
            runs = claim.runs(arm, longer)
            values = {
                name: mean_and_std(*mean_and_deviation([run.by_tokens(name)[1][-1] for run in runs]))
                for name in ("validation/loss", "validation/accuracy", "validation/cut_depth")
            }
            speed = mean_and_deviation([run.result["tokens_per_second"] for run in runs])[0]
            rows.append(
                [label(arm, longer), runs[0].result["tokens"] / 1e6, *values.values(), round(speed), _seeds(runs)]
            )
    columns = [
        "arm",
        "M tokens",
        "validation loss",
        "masked accuracy",
        "cut depth of masked accuracy",
        "tokens/s",
        "seeds",
    ]
    return Table("pretraining", "At the end of pretraining (mean ± deviation over pretraining seeds)", columns, rows)


def _seeds(runs: Sequence[Run]) -> str:
    return " ".join(str(run.seed) for run in runs)


def paired_gaps(claim: Claim, arm: Arm, twin: Arm, longer: int) -> list[tuple[int, Gap, Gap]]:
    """(seed, at the twin's final loss, at the arm's) for every seed that both have, at the same number of tokens."""
    twins = {run.seed: run for run in claim.runs(twin, longer)}
    mine = (run for run in claim.runs(arm, longer) if run.seed in twins)
    return [(run.seed, *gaps(run.losses, twins[run.seed].losses)) for run in mine]


def reached(pairs: Sequence[tuple[int, Gap, Gap]]) -> list[float | None]:
    """The ratio at the final loss that both reached (of the two, the higher loss), by seed."""
    return [max(both, key=lambda gap: gap.loss).ratio for _, *both in pairs]


def equal_loss(claim: Claim) -> Table | None:
    """Tokens to equal validation loss, in both directions, and masked accuracy where both have the same loss."""
    rows = []
    compared = [(arm, twin, longer) for arm, twin in claim.pairs for longer in lengths(claim, arm)]
    for arm, twin, longer in compared:
        for seed, *both in paired_gaps(claim, arm, twin, longer):
            for whose, gap in zip((twin, arm), both, strict=True):
                tokens = [None if t is None else t / 1e6 for t in (gap.tokens, gap.other_tokens)]
                ratio = "never reached" if gap.ratio is None else f"{gap.ratio:.2f}"
                rows.append([label(arm, longer), label(twin, longer), seed, f"{whose.name}'s final", gap.loss,
                             *tokens, ratio])  # fmt: skip
    if not rows:
        return None
    columns = ["arm", "twin", "seed", "loss", "nats", "arm, M tokens", "twin, M tokens", "ratio"]
    return Table("equal-loss", "Tokens to equal validation loss (– : never reached)", columns, rows)


def task_runs(claim: Claim, task: str, arms: Sequence[tuple[Arm, int]]) -> list[TaskRun]:
    """The fine-tunings of some arms on a task, as the report's tables take them."""
    found: list[tuple[Arm, int, TaskResults | None]] = [
        (arm, longer, claim.scores(arm, task, longer)) for arm, longer in arms
    ]
    return [TaskRun(Path(), label(arm, longer), results) for arm, longer, results in found if results is not None]


def studies(claim: Claim) -> list[Table]:
    """The table of every study."""
    found = [study_table(f"{name}, {task}", group) for (name, task), group in claim.studies().items()]
    return [table for table in found if table is not None]
