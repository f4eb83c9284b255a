"""The page's figures, drawn by the rooms' own code from the numbers of claim.json."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval import save_depth_figure, seeds_curve
from eval.report import StudyCurve, StudyPoint, StudyResults, StudyTable, save_comparison
from pretrain.observe import HEATMAPS, draw_side_by_side, rows_of

from .claim import Claim, mean_and_deviation
from .tables import label, lengths, task_runs

ACCURACY, GRADIENT, DIRECT, *_ = HEATMAPS


@dataclass(frozen=True)
class Picture:
    """A figure that is not drawn yet: the page's text needs its name only."""

    file: str
    caption: str
    draw: Callable[[Path], Any]
    """Writes it to the path given."""


def pretraining_pictures(claim: Claim) -> Iterator[Picture]:
    """Loss over tokens, then of every pair its first seed's heatmaps (the paper's figures 1 and 2)."""
    if claim.arms:
        yield Picture("loss.png", "Validation loss and masked accuracy over tokens (mean and deviation over seeds)",
                      partial(_draw_losses, claim))  # fmt: skip
    for arm, twin in claim.pairs:
        runs = {one.name: claim.runs(one)[0] for one in (arm, twin)}
        curves = {f"{name}, seed {run.seed}": run.curves for name, run in runs.items()}
        stem = f"{arm.name}-{twin.name}"
        yield Picture(f"{stem}-depths.png",
                      f"Every depth's masked accuracy and every layer's gradient over the steps, {arm.name} beside "
                      f"{twin.name} (the paper's figure 1)",
                      partial(draw_side_by_side, runs=curves, heatmaps=(ACCURACY, GRADIENT)))  # fmt: skip
        if any(rows_of(curve, DIRECT.metric) for curve in curves.values()):
            yield Picture(f"{stem}-direct.png",
                          f"Direct share of the gradient at every layer, {arm.name} beside {twin.name} (figure 2)",
                          partial(draw_side_by_side, runs=curves, heatmaps=(DIRECT,)))  # fmt: skip


def _draw_losses(claim: Claim, path: Path) -> None:
    """As a study of every arm: mean and deviation over the seeds."""
    lines = []
    for arm in claim.arms:
        for longer in lengths(claim, arm):
            runs = claim.runs(arm, longer)
            curves = []
            for metric, y_label in (("validation/loss", "nats"), ("validation/accuracy", "masked accuracy")):
                by_run = [run.by_tokens(metric) for run in runs]
                points = [
                    StudyPoint(tokens / 1e6, *mean_and_deviation(list(values)))
                    for tokens, *values in zip(by_run[0][0], *(values for _, values in by_run), strict=True)
                ]
                curves.append(StudyCurve(metric, "million tokens", y_label, points, None))
            seeds = [run.seed for run in runs]
            study = StudyResults(
                study="pretraining", model="", connectivity=arm.connectivity, task="", seeds=seeds, curves=curves,
                table=StudyTable([], []), path=path,
            )  # fmt: skip
            lines.append((study, label(arm, longer)))
    save_comparison(path, lines, "Pretraining")


def task_pictures(claim: Claim, task: str, longer: bool = False) -> Iterator[Picture]:
    """The depth curve of a task (the paper's figure 5), of the longer pretrainings or of the others."""
    trained = [(arm, times) for arm in claim.arms for times in lengths(claim, arm) if (times > 1) == longer]
    if runs := task_runs(claim, task, trained):
        curves = [seeds_curve(run.results, run.name) for run in runs]
        stem, about = (f"depth-{task}-longer", ", more tokens") if longer else (f"depth-{task}", "")
        title = f"{task}{about or ', equal tokens'}"
        yield Picture(f"{stem}.png", f"{task}{about}: score at every depth (figure 5)",
                      partial(save_depth_figure, curves=curves, title=title))  # fmt: skip


_STUDY_CAPTIONS = {
    "pruning": "score against what pruning leaves (figure 7)",
    "early_exit": "score against cost with early exit",
    "noise": "score under noise on the input",
}


def study_pictures(claim: Claim) -> Iterator[Picture]:
    """Every study, all arms in it."""
    for (name, task), group in claim.studies().items():
        stem = re.sub(r"[^\w.-]+", "-", f"{name}-{task}")
        yield Picture(f"{stem}.png", f"{task}: {_STUDY_CAPTIONS.get(name, name)}",
                      partial(save_comparison, studies=group, title=f"{name}: {task}"))  # fmt: skip
