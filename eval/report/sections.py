"""What stands on a report's page: the overview, a section per task, a section per study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..glue import glue_average
from ..results import TaskResults, size_mb
from ..tasks import GLUE_TASKS
from .study_file import StudyResults
from .tables import Table, mean_and_std


@dataclass(frozen=True)
class Run:
    """A task folder that was found: its results and the name of its run."""

    folder: Path
    name: str
    results: TaskResults


def _seeds(results: TaskResults) -> str:
    return " ".join(map(str, results.all_seeds))


def _measured(results: TaskResults, depth: int) -> list[float | None]:
    """Latency in ms and sequences per second at a depth; None where they were not measured."""
    value = results.speed.depths.get(str(depth)) if results.speed is not None else None
    return [None, None] if value is None else [value.latency_ms, value.sequences_per_second]


def paper_table(runs: Sequence[Run]) -> Table | None:
    """Whole against cut in the paper's form, every run whose seeds stand together; None when there is none."""
    rows = []
    for run in runs:
        results = run.results
        together, layers = results.aggregate, len(results.depth_scores) - 1
        if together is None:
            continue
        kinds = (
            ("all layers", layers),
            ("cut, tolerance", together.cut_depth_tolerance),
            ("cut, 1 s.e.", together.cut_depth_one_standard_error),
        )
        for kind, depth in kinds:
            std = together.depth_std[depth] if together.depth_std is not None else None
            params, flops = results.params_by_depth[depth], results.flops_by_depth[depth]
            cost = [params / 1e6, flops / 1e9, size_mb(params), *_measured(results, depth)]
            score = mean_and_std(together.depth_mean[depth], std)
            rows.append([results.task, run.name, results.connectivity, kind, depth, results.metric, score,
                         *cost, results.precision, _seeds(results)])  # fmt: skip
    if not rows:
        return None
    columns = ["task", "run", "connectivity", "model", "depth", "metric", "score", "M parameters", "GFLOPs", "MB",
               "ms (batch 1)", "seq/s (batch 32)", "precision", "seeds"]  # fmt: skip
    return Table("whole-and-cut", "Whole and cut models: validation score, cost and measured speed", columns, rows)


def glue_table(runs: Sequence[Run]) -> Table | None:
    """The GLUE tasks and their average for every run that has several of them; None when there is none."""
    by_run: dict[str, dict[str, TaskResults]] = {}
    for run in runs:
        if run.results.task in GLUE_TASKS and run.results.aggregate is not None:
            by_run.setdefault(run.name, {})[run.results.task] = run.results
    averages = {name: glue_average(tasks) for name, tasks in by_run.items() if len(tasks) > 1}
    if not averages:
        return None
    names = [task for task in GLUE_TASKS if any(task in by_run[name] for name in averages)]
    rows = []
    for name, average in averages.items():
        assert average is not None, "these are GLUE's tasks"
        first = next(iter(by_run[name].values()))
        cells = [
            mean_and_std(average["tasks"][task]["mean"], average["tasks"][task]["std"])
            if task in by_run[name]
            else None
            for task in names
        ]
        means = [
            mean_and_std(average[key]["mean"], average[key]["std"]) if key in average else None
            for key in ("average", "average_without_wnli")
        ]
        computed = " and ".join(sorted({*average["precision"].values()}))
        rows.append([name, first.connectivity, *cells, *means, computed, " ".join(map(str, average["seeds"]))])
    columns = ["run", "connectivity", *names, "average", "without wnli", "precision", "seeds"]
    caption = "GLUE, validation splits: the mean of each task's metrics (± deviation over seeds), and of the tasks"
    return Table("glue", caption, columns, rows)


def depth_table(task: str, runs: Sequence[Run]) -> Table | None:
    """Mean and deviation at every depth, and the cut depths of the means."""
    found = [(run, together) for run in runs if (together := run.results.aggregate) is not None]
    if not found:
        return None
    depths = max(len(run.results.depth_scores) for run, _ in found)
    rows: list[list[Any]] = []
    for run, together in found:
        stds = together.depth_std
        deviations: Sequence[float | None] = [None] * len(together.depth_mean) if stds is None else stds
        scores: list[Any] = [mean_and_std(m, s) for m, s in zip(together.depth_mean, deviations, strict=True)]
        cuts = [together.cut_depth_tolerance, together.cut_depth_one_standard_error, together.standard_error]
        rows.append([run.name, "shared head", _seeds(run.results), run.results.precision, *cuts, *scores])
        for when, probed in (run.results.probes or {}).items():
            seed, precision = str(run.results.seed), run.results.precision
            cells: list[Any] = [run.name, f"linear probe, {when}", seed, precision, None, None, None]
            rows.append([*cells, *probed])
    for row in rows:  # a shallower model has fewer depths
        row.extend([None] * (7 + depths - len(row)))
    columns = [
        "run",
        "read by",
        "seeds",
        "precision",
        "cut: tolerance",
        "cut: 1 s.e.",
        "s.e.",
        *(f"depth {k}" for k in range(depths)),
    ]
    caption = f"{task}: score at every depth; the cut depths are those of the means"
    return Table(f"depths-{task}", caption, columns, rows, names=2)


def recut_table(task: str, runs: Sequence[Run]) -> Table | None:
    """Cut, then trained on: of the runs that have it."""
    rows = [
        [run.name, run.results.seed, recut["depth"], recut["epochs"], recut["score"], recut["score_before"]]
        for run in runs
        for recut in run.results.recut or []
    ]
    if not rows:
        return None
    columns = ["run", "seed", "cut at", "epochs after the cut", "score", "cut only"]
    return Table(f"recut-{task}", f"{task}: cut, then fine-tuned briefly", columns, rows)


def study_table(name: str, studies: Sequence[tuple[StudyResults, str]]) -> Table | None:
    """The tables of one study of several models under each other, the run in front."""
    columns = list(dict.fromkeys(column for study, _ in studies for column in study.table.columns))
    if not columns:
        return None
    rows: list[list[Any]] = []
    for study, run in studies:
        for row in study.table.rows:
            cells: Mapping[str, Any] = dict(zip(study.table.columns, row, strict=True))
            seeds = " ".join(map(str, study.seeds)) or None
            values = (cells.get(column) for column in columns)
            rows.append([run, study.connectivity, study.task, *values, study.precision, seeds])
    return Table(f"study-{name}", f"{name}", ["run", "connectivity", "data", *columns, "precision", "seeds"], rows)


def unlike_precision(runs: Sequence[tuple[str, str]]) -> str:
    """What to know of scores that stand beside each other: names of runs and their precision -> a sentence, or none."""
    if len({precision for _, precision in runs}) < 2:
        return ""
    return f"not of one precision: {', '.join(f'{name} in {precision}' for name, precision in runs)}"
