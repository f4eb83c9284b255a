"""What docs/results.md says of a conversion, and its picture, from the numbers of claim.json."""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline import duration, save_picture
from eval import TaskResults
from eval.chance import constant_score
from eval.figures import COLOURS, LINES, MARKERS, PALETTE
from eval.report import Run as TaskRun
from eval.report import Table, depth_table

from ..budgets import Arm
from ..claim import Claim
from ..figures import Picture
from ..tables import shown, what_ran
from .budget import CONVERTED, ORIGINAL, STUDENT, start_of, supervision_of
from .rivals import in_short as rivals_in_short
from .rivals import is_rivals, progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ABOVE_CHANCE, LOST_WHOLE, LOST_CUT = 0.05, 0.015, 0.01
"""The goals: where the original is so far above a constant answer, the converted model may lose so much to it, and with
half of its layers so much to itself."""


def is_conversion(claim: Claim) -> bool:
    """Whether a study is of this kind."""
    return "recipe" in claim.budget


def section(claim: Claim) -> Iterator[str]:
    """The study's part of the page, without its pictures' folder: `pictures` come after what is in short."""
    if is_rivals(claim):
        yield from progress(claim)
    yield "### In short\n"
    yield from (f"- {sentence}" for sentence in in_short(claim))
    yield ""
    if claim.remarks:
        yield f"### Remarks, by hand\n\n{claim.remarks}"
    yield "### Every task\n"
    yield from shown(scores(claim))
    for task in claim.tasks:
        runs = [TaskRun(Path(), arm.variant, found) for arm, found in fine_tuned(claim, task).items()]
        yield from shown(depth_table(task, runs))
    yield from shown(similarity(claim))
    yield "### What it cost\n"
    yield from shown(rates(claim))
    yield from shown(what_ran(claim))
    yield from (f"- Not run: {job['name']}: {job['why']}" for job in claim.jobs if job["status"] != "done")
    yield ""


def arms(claim: Claim) -> list[Arm]:
    """All that are to be fine-tuned."""
    jobs = (job for job in claim.jobs if job["kind"] == "finetune")
    return list(dict.fromkeys(Arm(job["connectivity"], job["variant"]) for job in jobs))


def fine_tuned(claim: Claim, task: str) -> dict[Arm, TaskResults]:
    """The fine-tunings of each arm that there are."""
    found = {arm: claim.scores(arm, task) for arm in arms(claim)}
    return {arm: results for arm, results in found.items() if results is not None}


def means(results: TaskResults) -> list[float]:
    """Over the seeds, by depth."""
    return results.depth_scores if results.aggregate is None else results.aggregate.depth_mean


def in_short(claim: Claim) -> Iterator[str]:
    """What follows from the numbers, by rule."""
    for job in claim.done("pretrain"):
        result = job["result"]
        name = "student" if job["variant"] == STUDENT.variant else "conversion"
        yield (
            f"The {name} read {result['tokens'] / 1e6:.1f} million tokens in {duration(job['seconds'])} on one "
            f"core; what its read-out leaves of the variance of the original's last states is {result['match']:.2f}."
        )
    for task in claim.tasks:
        found = fine_tuned(claim, task)
        if is_rivals(claim):
            yield from rivals_in_short(task, found, len(arms(claim)))
        elif ORIGINAL in found:
            yield from _sentences(task, found)
    if not is_rivals(claim) and (
        tried := {job["tried_rate"]: job["result"]["depth_scores"] for job in claim.done("tune", **vars(CONVERTED))}
    ):
        yield _tuned(claim.budget["tuning"], tried)


def _tuned(part: dict[str, Any], tried: dict[float, list[float]]) -> str:
    """What the rate of fine-tuning gives and takes of depth."""
    layers = len(next(iter(tried.values()))) - 1
    half = math.ceil(layers / 2)
    whole, cut = (max(tried, key=lambda rate: tried[rate][depth]) for depth in (layers, half))
    told = f"{part['task']}, {part['examples']:,} examples: at the rate that is best for the whole converted model, "
    told += (
        f"{whole:g}, it scores {tried[whole][-1]:.3f}, and {tried[whole][half]:.3f} with {half} of {layers} layers; "
    )
    return told + f"at the one that is best for these, {cut:g}, {tried[cut][-1]:.3f} and {tried[cut][half]:.3f}."


def _sentences(task: str, found: dict[Arm, TaskResults]) -> Iterator[str]:
    """What the others lose to the original, whole, and to themselves, cut at half."""
    original = found[ORIGINAL]
    theirs, constant = means(original), constant_score(original) or 0.0
    if theirs[-1] - constant < ABOVE_CHANCE:
        yield (
            f"{task}: the original scores {theirs[-1]:.3f}, less than {ABOVE_CHANCE * 100:.0f} points above a constant "
            f"answer ({constant:.3f}): nothing follows."
        )
        return
    for arm, results in found.items():
        if arm == ORIGINAL:
            continue
        ours = means(results)
        half, layers = math.ceil((len(ours) - 1) / 2), len(ours) - 1
        whole, cut = theirs[-1] - ours[-1], ours[-1] - ours[half]
        yield (
            f"{task}: whole, {_called(arm)} scores {ours[-1]:.3f}, the original {theirs[-1]:.3f}: "
            f"{_points(whole, LOST_WHOLE)}. With {half} of {layers} layers it scores {ours[half]:.3f}, "
            f"{_points(cut, LOST_CUT)}; the original {theirs[half]:.3f}."
        )


def _called(arm: Arm) -> str:
    """An arm in a sentence."""
    name = "the converted model" if start_of(arm) == CONVERTED else "the original"
    return name if supervision_of(arm) == "none" else f"{name} with depth supervision ({supervision_of(arm)})"


def _points(lost: float, goal: float) -> str:
    """A loss in points as the page shows it, which is also what is held against the goal."""
    points, most = round(lost * 100, 1), round(goal * 100, 1)
    way, reached = "less" if points >= 0 else "more", "reached" if points <= most else "missed"
    return f"{abs(points):.1f} points {way} (goal: at most {most:g} less, {reached})"


def scores(claim: Claim) -> Table:
    """Every task: all of them, whole and cut."""
    found = [(task, arm, one) for task in claim.tasks for arm, one in fine_tuned(claim, task).items()]
    layers = max((len(one.depth_scores) for _, _, one in found), default=1) - 1
    rows: list[list[Any]] = []
    for task, arm, results in found:
        ours = means(results)
        cuts = [ours[k] if k < len(ours) else None for k in range(layers, 0, -1)]  # a student has fewer layers
        rows.append([task, results.metric, constant_score(results), arm.variant, len(results.all_seeds), *cuts])
    columns = ["task", "metric", "constant", "model", "seeds", *(f"{k} layers" for k in range(layers, 0, -1))]
    return Table("tasks", "Validation splits, mean over the seeds, by layers kept", columns, rows, names=2)


def similarity(claim: Claim) -> Table | None:
    """Of the embeddings, without fine-tuning; None where it was not measured."""
    found = {job["connectivity"]: job["result"]["spearman_by_depth"] for job in claim.done("similarity")}
    if not found:
        return None
    pair = (ORIGINAL, CONVERTED)
    rows = [[arm.variant, *found[arm.connectivity]] for arm in pair if arm.connectivity in found]
    columns = ["model", *(f"depth {k}" for k in range(len(rows[0]) - 1))]
    caption = "STS-B without fine-tuning: Spearman's correlation of the mean embeddings' similarity, by depth"
    return Table("similarity", caption, columns, rows)


def rates(claim: Claim) -> Table:
    """Every learning rate of fine-tuning that was tried, what each gave whole and cut, and the one that was taken."""
    tried = [
        (arm, job["tried_rate"], job["result"]["depth_scores"]) for arm in arms(claim)
        for job in sorted(claim.done("tune", **vars(arm)), key=lambda job: job["tried_rate"])
    ]  # fmt: skip
    layers = max((len(scores) for *_, scores in tried), default=1) - 1
    rows: list[list[Any]] = []
    for arm, rate, scores in tried:
        taken = {job["rate"] for job in claim.done("finetune", **vars(arm))}
        lacking = [None] * (layers + 1 - len(scores))
        rows.append([arm.variant, f"{rate:g}", *lacking, *reversed(scores[1:]), "taken" if rate in taken else ""])
    part = claim.budget["tuning"]
    caption = (
        f"Peak learning rates of fine-tuning, by layers kept: {part['task']} after {part['examples']:,} examples, one "
        "seed; the rate taken is the best one of the whole model"
    )
    columns = ["model", "rate", *(f"{k} layers" for k in range(layers, 0, -1)), "taken"]
    return Table("rates", caption, columns, rows, names=2)


def pictures(claim: Claim) -> Iterator[Picture]:
    """One: every task, all models, every depth."""
    if any(len(fine_tuned(claim, task)) > 1 for task in claim.tasks):
        beside = "its rivals" if is_rivals(claim) else "the original"
        caption = f"Score of every depth, {beside} and the ACN made of it (mean and deviation over the seeds)"
        yield Picture("depths.png", caption, lambda path: draw(claim, path))


def draw(claim: Claim, path: Path) -> bool:
    """Small multiples, one for each task that several were fine-tuned on."""
    tasks = [task for task in claim.tasks if len(fine_tuned(claim, task)) > 1]
    columns = min(3, len(tasks))
    rows = math.ceil(len(tasks) / columns)

    def fill(figure: "Figure") -> None:
        for number, task in enumerate(tasks):
            _draw_task(figure.add_subplot(rows, columns, number + 1), task, claim)
        labelled = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        across = min(len(labelled), 1 + columns)
        figure.legend(
            labelled.values(), labelled.keys(), loc="outside lower center", ncols=across, frameon=False, fontsize=9
        )

    return save_picture(path, fill, size=(max(5.0, 3.1 * columns + 0.3), 2.6 * rows + 0.6))


def _draw_task(axes: "Axes", task: str, claim: Claim) -> None:
    """Each arm looks the same in all panels, also where another one has no result yet."""
    found, everyone = fine_tuned(claim, task), arms(claim)
    for arm, results in found.items():
        number, line = everyone.index(arm), means(results)
        colour = PALETTE[number % len(PALETTE)] if is_rivals(claim) else COLOURS[arm.connectivity]
        depths, look = range(len(line)), number + number // len(PALETTE)
        axes.plot(
            depths,
            line,
            LINES[look % len(LINES)],
            marker=MARKERS[look % len(MARKERS)],
            color=colour,
            markersize=4,
            label=arm.variant.capitalize(),
        )
        if results.aggregate is not None and results.aggregate.depth_std is not None:
            spread = list(zip(line, results.aggregate.depth_std, strict=True))
            axes.fill_between(depths, [y - d for y, d in spread], [y + d for y, d in spread], color=colour, alpha=0.2)
    constant = statistics.fmean(constant_score(results) or 0.0 for results in found.values())
    axes.axhline(constant, color="#999999", linestyle=(0, (1, 2)), linewidth=1.2, label="Constant answer", zorder=0)
    axes.set_title(f"{task} ({next(iter(found.values())).metric})", fontsize=10)
    axes.set_xlabel("layers kept", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
