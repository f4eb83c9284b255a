"""What the demo ends with: how much of a model is enough, every depth's score, and what to look at."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from data_pipeline import duration
from eval import AT_CHANCE, are_at_chance, read_results
from eval.report import Run, first_sentence, verdict

from ..tracking import way_to_all


def closing_screen(
    console: Console, home: Path, tasks: Sequence[str], twins: tuple[str, str], store: str | None, seconds: float
) -> None:
    """Print what the result folders of both twins led to.

    Args:
        twins: the ACN first.
        store: where MLflow has the runs; None for nowhere.
        seconds: what it all took.
    """
    found = {task: [_read(home, task, twin) for twin in twins] for task in tasks}
    console.print()
    for task, (acn, twin) in found.items():
        console.print(Text.assemble((f"{task}: ", "dim"), (first_sentence([acn, twin]), "bold"), "."), soft_wrap=True)
        console.print(Text(f"  {verdict(acn, twin)}"), soft_wrap=True)
    console.print()
    console.print(_table(found))
    console.print(Panel(_next_steps(home, tasks[0], store), title=f"done in {duration(seconds)}"))


def _read(home: Path, task: str, twin: str) -> Run:
    folder = home / f"glue-{twin}" / task
    return Run(folder, f"glue-{twin}", read_results(folder))


def _table(found: dict[str, list[Run]]) -> Table:
    table = Table(title="Score of every read-out depth (validation split)", box=None, title_justify="left")
    depths = range(max(len(run.results.depth_scores) for runs in found.values() for run in runs))
    for heading in ("task", "connectivity"):
        table.add_column(heading)
    for heading in (*(f"y{depth}" for depth in depths), "cut at"):
        table.add_column(heading, justify="right")
    for task, runs in found.items():
        for run in runs:
            scores = (f"{score:.3f}" for score in run.results.depth_scores)
            cut = AT_CHANCE if are_at_chance(run.results) else str(run.results.cut_depth)
            table.add_row(task, run.results.connectivity, *scores, cut)
    return table


def _next_steps(home: Path, task: str, store: str | None) -> Text:
    return Text(
        f"look at  {home}/report/index.html: both depth curves of each task\n"
        f"         {home}/report/figures/{task}.png: the first of them\n"
        f"         {home}/acn/pretraining.png: loss, and every depth's accuracy\n"
        f"         {home}/small: the cut classifier, a Hugging Face folder\n"
        + (f"         {way_to_all(store)}\n" if store else "")
        + f"next     acn predict {home}/small {home}/tasks/{task}/validation.parquet: label texts with it\n"
        "         acn prepare --help: your own corpus\n"
        "         acn pretrain --config acn-mini --help"
    )
