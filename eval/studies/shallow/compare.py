"""Trains the contenders, measures how fast they are, and puts both together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from ...compress import depth_seconds
from ...depth import cut_depth
from ...errors import Diverged, EvalError
from ...glue import run_suite
from ...models import best_device, load_for_task
from ...progress import Prefixed, Progress, Tracker
from ...results import TaskResults, read_trial
from ..base import Context, Curve, Kind, Point, Study
from ..config import ShallowOptions, numbers
from .contenders import HELD_OUT, Contender, contender_problems, contenders, starting_models
from .shipping import SLACK, Candidate, candidates_of, verdict

BATCH = 1
"""Texts at once where time is measured."""
COLUMNS = ["contender", "learning rate", "whole", "deviation", "cut depth", "at cut", "ms whole", "ms at cut",
           "seconds of training", "remark"]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a contender."""

    contender: Contender
    results: TaskResults
    candidates: list[Candidate]
    """It, cut at each of its depths, at milliseconds as costs."""
    seconds: float
    """Of a training, mean over the seeds."""

    @property
    def means(self) -> list[float]:
        """Over the seeds."""
        return [one.mean for one in self.candidates]


def run(context: Context, options: ShallowOptions) -> Study:
    """Score of every contender against depth, FLOPs and time.

    Raises:
        EvalError: none of them could be trained.
    """
    taking_part = contenders(context.options)
    progress = Progress("shallow", sum(contender.trials for contender in taking_part))
    results: dict[str, TaskResults] = {}
    failures: dict[str, str] = {}
    for contender in taking_part:
        before = progress.done
        try:
            results[contender.name] = _train(context, contender, progress)
        except (EvalError, ArithmeticError, RuntimeError) as error:  # torch's errors are RuntimeErrors
            what = "diverged" if isinstance(error, Diverged) else "failed"
            failures[contender.name] = f"{what}: {error}".partition("\n")[0][:200]
            print(f"shallow: {contender.name} is left out: {error}", flush=True)
        if contender.trials == 1 and contender.name in results:  # a suite of one trial has no record for it
            progress.step(contender.name)
        progress.total -= contender.trials - (progress.done - before)  # done by an earlier call, or never to be done
    if not results:
        raise EvalError(*(f"{name} {message}" for name, message in failures.items()))
    ms = _measure(context, next(iter(results.values())))
    outcomes = [
        _outcome(context, contender, results[contender.name], ms[contender.model])
        for contender in taking_part
        if contender.name in results
    ]
    candidates = [candidate for outcome in outcomes for candidate in outcome.candidates]
    failed = [[name, *[None] * (len(COLUMNS) - 2), message] for name, message in failures.items()]
    return Study(
        [curve for outcome in outcomes for curve in _curves(context, outcome)],
        COLUMNS,
        [*(_row(outcome, options) for outcome in outcomes), *failed],
        _notes(context, options, outcomes[0].results),
        context.options.seed_list,
        verdict=verdict(candidates, numbers(options.budgets), options.tolerance),
    )


def _train(context: Context, contender: Contender, progress: Progress) -> TaskResults:
    """Fine-tune a contender, as far as that is not done, under a record of its own."""
    with context.child(contender.name, contender.folder) as tracker:

        @contextmanager
        def trial(name: str) -> Iterator[Tracker]:
            yield Prefixed(tracker, name.rpartition("/")[2])
            progress.step(f"{contender.name}, {name}")

        return run_suite(contender.suite, lambda: tracker, trial)[0]


def _measure(context: Context, like: TaskResults) -> dict[str, list[float]]:
    """Milliseconds of a text at every depth of each starting model, all of them in turn: supervision changes none."""
    task, device = context.only.task, best_device()
    models = {
        name: load_for_task(place, task, context.precision).to(device)
        for name, place in starting_models(context.options).items()
    }
    depths = {name: range(model.config.num_hidden_layers + 1) for name, model in models.items()}
    seconds = depth_seconds(models, depths, BATCH, like.seq_length or context.seq_length, context.precision)
    return {name: [seconds[name, depth] * 1e3 for depth in depths[name]] for name in models}


def _outcome(context: Context, contender: Contender, results: TaskResults, ms: list[float]) -> Outcome:
    seeds, folder = context.options.seed_list, contender.folder / results.task
    seconds = fmean(read_trial(folder / f"seed-{seed}").train["seconds"] for seed in seeds)
    return Outcome(contender, results, candidates_of(contender.name, results, ms, seeds), seconds)


def _curves(context: Context, outcome: Outcome) -> list[Curve]:
    """The score against each kind of cost."""
    metric, tokens = context.only.task.metric, outcome.results.seq_length
    costs: dict[str, list[float]] = {
        "depth (layers kept)": [float(one.depth) for one in outcome.candidates],
        f"GFLOPs for a text of {tokens} tokens": [flops / 1e9 for flops in outcome.results.flops_by_depth],
        f"ms for a text of {tokens} tokens": [one.cost for one in outcome.candidates],
    }
    return [
        Curve(
            outcome.contender.name,
            label,
            metric,
            [Point(x, one.scores) for x, one in zip(cost, outcome.candidates, strict=True)],
        )
        for label, cost in costs.items()
    ]


def _row(outcome: Outcome, options: ShallowOptions) -> list[Any]:
    whole = outcome.candidates[-1]
    cut = outcome.candidates[cut_depth(outcome.means, whole.mean, options.tolerance)]
    return [
        outcome.contender.name, outcome.results.train["learning_rate"], whole.mean, whole.deviation,
        cut.depth, cut.mean, whole.cost, cut.cost, outcome.seconds, "; ".join(_remarks(outcome)) or None,
    ]  # fmt: skip


def _remarks(outcome: Outcome) -> Iterator[str]:
    """What a reader must know of a row."""
    if outcome.candidates[-1].at_chance:
        yield "at chance"
    tried = {one["point"]["learning_rate"]: one["score"] for one in outcome.results.grid or []}
    if lost := [f"{rate:g}" for rate, score in tried.items() if score is None]:
        yield f"diverged at the rate {', '.join(lost)}"
    chosen = outcome.results.train["learning_rate"]
    if len(tried) > 2 and chosen in (min(tried), max(tried)):
        yield "its rate is at the edge of the grid"
    costs = [one.cost for one in outcome.candidates]
    if any(cost > deeper * (1 + SLACK) for cost, deeper in pairwise(costs)):
        yield "more layers took less time: the machine was busy, measure again"


def _notes(context: Context, options: ShallowOptions, like: TaskResults) -> str:
    shared, samples = context.options, like.train["samples"]
    base = "the one given" if shared.learning_rate else "2e-5 * 768 / width"
    rates = (
        f"The learning rate of each is the one of {options.rate_multiples} times {base} with the best whole score on "
        f"{HELD_OUT:.0%} of the training split, held out for that, with the first seed. "
        if len(options.multiples) > 1
        else ""
    )
    scored = like.data.examples if like.data is not None else "the"
    return (
        f"All contenders are fine-tuned on {samples} examples, {shared.epochs:g} epochs, in batches of "
        f"{shared.batch_size}, each seed on the same examples. {rates}Scores are means and sample deviations over the "
        f"seeds on {scored} validation examples. Times are medians of runs in turn, "
        f"of {BATCH} text of {like.seq_length} tokens, on {like.train['device']}; a share is of the slowest whole "
        f"contender's. What to ship: of the candidates (contender x depth) within the time whose mean is at most "
        f"{options.tolerance:g} below the best one's the fastest, times within {SLACK:.0%} counting as equal; a tie is "
        "as fast and differs by no more than the deviations of both (their squares added). The cut depth is the "
        f"smallest whose mean is within {options.tolerance:g} of the whole model's."
    )


KIND = Kind(run, "pretrained", check=contender_problems)
