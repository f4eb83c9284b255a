"""A suite: tasks x seeds, resumable, each task's seeds together in OUTPUT/TASK, and GLUE's average over the tasks."""

import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_pipeline import DataError, OutputLock, Problem, duration, write_json
from eval import ranks
from modeling import AcnConfig

from ..chance import AT_CHANCE, is_at_chance
from ..compress import measure_speed
from ..errors import Diverged, EvalError
from ..figures import save_depth_figure, seeds_curve
from ..models import (
    best_device,
    load_finetuned,
    load_tokenizer,
    most_tokens,
    name_model,
    pin_model,
    read_model_config,
    weights_of,
)
from ..precision import precision_problems, resolved, say_precision
from ..progress import NoTracker, Tracker
from ..results import FIGURE_FILE, RESULTS_FILE, TaskResults, TrialResults, read_results, read_trial
from ..tasks import (
    FIELDS,
    DatasetConfig,
    Hyperparameters,
    as_dict,
    at_point,
    choose_hyperparameters,
    find_task,
    load_custom,
    load_task,
    point_name,
    resolve_dataset,
)
from .aggregate import aggregate_seeds, glue_average
from .config import FinetuneConfig
from .finetune import compile_problems
from .folder import TaskFolder
from .submission import SUBMISSION_FOLDER, predict_tests
from .trial import TaskWork, run_trial, sequence_length

AVERAGE_FILE, TRACKING_FOLDER = "glue.json", "tracking"

OpenTracker = Callable[[], Tracker]
OpenChild = Callable[[str], AbstractContextManager[Tracker]]


@dataclass(frozen=True)
class _Suite:
    """A request that is known to be sound."""

    config: FinetuneConfig
    """Its precision is resolved."""
    model_config: AcnConfig
    tokenizer: Any
    tasks: list[TaskWork]

    @property
    def trials(self) -> int:
        """Trainings of this suite, all in all."""
        return len(self.tasks) * (len(self.config.seed_list) + len(self.config.grid.points()))

    def folder(self, work: TaskWork) -> TaskFolder:
        """Where a task's results are."""
        return TaskFolder(Path(self.config.output) / work.task.name)


def _settings(config: FinetuneConfig, own_data: DatasetConfig | None) -> dict[str, Any]:
    """What the numbers of a trial depend on, besides its seed and hyperparameters; places as anybody finds them."""
    names = ("max_train_samples", "max_eval_samples", "best_epoch", "cut_then_finetune", "probes", "tolerance",
             "precision")  # fmt: skip
    glue_dir = config.glue_dir if own_data is None else None
    return {name: getattr(config, name) for name in names} | {
        "model": name_model(config.model),
        "glue_dir": None if glue_dir is None else os.path.abspath(glue_dir),
        "weights": weights_of(config.model),
        "dataset": None if own_data is None else asdict(own_data),
        "grid": config.grid.points(),
        "grid_held_out": config.grid.held_out,
        "supervision": asdict(config.supervision),
    }


def _check_batches(config: FinetuneConfig, values: Hyperparameters, task: str, world: int) -> list[Problem]:
    sizes = {values.batch_size, *(int(p["batch_size"]) for p in config.grid.points() if "batch_size" in p)}
    return [
        Problem("batch_size", size, f"of {task} does not divide by {world} ranks", f"give a multiple of {world}")
        for size in sorted(sizes)
        if size % world
    ]


def _length_problems(
    config: FinetuneConfig, values: Hyperparameters, task: str, model_config: AcnConfig
) -> list[Problem]:
    """A length that was asked for and that the model cannot read; one of our own table is lowered instead."""
    positions, table = most_tokens(model_config), choose_hyperparameters(task, model_config.hidden_size, {}, None)
    ours = config.max_length is None and values.max_length == table.max_length
    if positions is None or values.max_length <= positions or ours:
        return []
    wrong = f"is more than the {positions} positions of {config.model} (max_position_embeddings)"
    return [Problem("max_length", values.max_length, wrong, f"give at most {positions}")]


def _load_tasks(config: FinetuneConfig, model_config: AcnConfig, world: int) -> list[TaskWork]:
    """The tasks with their data. All of them are looked up before the first one's data is read."""
    names = config.task_names
    values = {
        name: choose_hyperparameters(name, model_config.hidden_size, config.given(), config.hyperparameters)
        for name in names
    }
    problems = [problem for name in names for problem in _check_batches(config, values[name], name, world)]
    problems += [problem for name in names for problem in _length_problems(config, values[name], name, model_config)]
    if not config.supervision.fits(layers := model_config.num_hidden_layers):
        wrong = f"needs two layers at least, {config.model} has {layers}"
        problems.append(Problem("supervision.kind", config.supervision.kind, wrong, "leave it out"))
    if config.supervision.drops and model_config.is_reversible and world > 1:
        # torch's DDP looks for weights without gradient in a graph that those of rebuilt layers are not part of
        wrong = f"leaves layers out, which a reversible model cannot on {world} ranks"
        problems.append(Problem("supervision.kind", config.supervision.kind, wrong, "use one rank, or another kind"))
    if problems:
        raise EvalError(*problems)
    if (own_data := config.own_data) is not None:
        own_data = resolve_dataset(own_data)
        task, splits = load_custom(names[0], own_data)
        return [TaskWork.of(config, task, splits, values[task.name], _settings(config, own_data), own_data)]
    settings = _settings(config, None)
    tasks = [find_task(name, config.glue_dir) for name in names]
    loaded = [(task, load_task(task, config.glue_dir)) for task in tasks]
    return [TaskWork.of(config, task, splits, values[task.name], settings) for task, splits in loaded]


def _check(config: FinetuneConfig, world: int) -> _Suite:
    """Everything that can be wrong with the request on `world` ranks, before the first task starts."""
    problems = config.problems() + precision_problems(config.precision, trains=True)
    if problems := problems + compile_problems(config.compile):
        raise EvalError(*problems)
    config = replace(config, precision=resolved(config.precision))
    for name in config.task_names:
        TaskFolder(Path(config.output) / name).check_ours()
    config = replace(config, model=pin_model(config.model))
    model_config = read_model_config(config.model)
    tokenizer = load_tokenizer(config.model, model_config)
    suite = _Suite(config, model_config, tokenizer, _load_tasks(config, model_config, world))
    for work in suite.tasks:
        wanted = {name: value for name, value in as_dict(work.values).items() if name not in config.grid.names}
        suite.folder(work).check_settings(work.settings, wanted)
        if config.grid.held_out:
            work.holding_out(config.grid.held_out, config.max_eval_samples)
    return suite


def check_suite(config: FinetuneConfig, world_size: int) -> None:
    """Raise what [`finetune`] on that many ranks would raise about a request before it starts, and write nothing."""
    _check(config, world_size)


def _choose(suite: _Suite, work: TaskWork, child: OpenChild) -> tuple[TaskWork, list[dict[str, Any]]]:
    """Try every point of the grid with the first seed; the task at the best one, and what each scored (None: diverged).

    Raises:
        Diverged: all of them did.
    """
    grid, seed, folder = suite.config.grid, suite.config.seed_list[0], suite.folder(work)
    trying = work.holding_out(grid.held_out, suite.config.max_eval_samples) if grid.held_out else work
    tried: list[dict[str, Any]] = []
    for point in grid.points():
        place = folder.grid_point(point_name(point))
        if not place.is_done():
            at = trying.at(at_point(work.values, point))
            try:
                with child(f"{work.task.name}/{point_name(point)}") as tracker:
                    run_trial(suite.config, at, seed, suite.tokenizer, tracker, place.path, with_model=False)
            except Diverged as error:
                ranks.say(f"{work.task.name}: {point_name(point)}: {error}")
                tried.append({"point": point, "seed": seed, "score": None})
                continue
        score = read_trial(place.path).full_score
        ranks.say(f"{work.task.name}: {point_name(point)}: {work.task.metric} {score:.4f}")
        tried.append({"point": point, "seed": seed, "score": score})
    if not tried:
        return work, []
    scored = [outcome for outcome in tried if outcome["score"] is not None]
    if not scored:
        raise Diverged(f"{work.task.name}: the training diverged at every point of the grid: give lower rates")
    best = max(scored, key=lambda outcome: outcome["score"])
    return work.at(at_point(work.values, best["point"])), tried


def _selection(config: FinetuneConfig, seeds: list[int], seed: int) -> str:
    """How the model was chosen, in words: whoever reads its scores must know what was picked on them."""
    parts = [f"seed {seed}" + (f", the best of {len(seeds)} by validation score" if len(seeds) > 1 else "")]
    parts.append("the best epoch by validation score" if config.best_epoch else "the last epoch")
    if config.grid.points():
        by = "the score of held out training examples" if config.grid.held_out else "validation score"
        parts.append(f"hyperparameters by {by}")
    return "; ".join(parts)


def _finish(suite: _Suite, work: TaskWork, tried: list[dict[str, Any]]) -> TaskResults:
    """Make OUTPUT/TASK the best seed's model with all seeds' results; all ranks together."""
    config, folder = suite.config, suite.folder(work)
    trials = folder.finished_trials()
    if ranks.is_first():
        folder.promote(config.keep_models)
    ranks.gather(None)
    together = aggregate_seeds(trials, config.tolerance)
    best, seeds = max(trials, key=lambda trial: trial.full_score), [trial.seed for trial in trials]
    results = TaskResults(
        **vars(best),
        seeds=seeds,
        selection=_selection(config, seeds, best.seed),
        aggregate=together,
        grid=tried or None,
    )
    model = load_finetuned(str(folder.path), config.precision).to(best_device())
    length = sequence_length(work.values, model.config)
    if work.tests:
        output = Path(config.output) / SUBMISSION_FOLDER
        scores, cuts = predict_tests(model, suite.tokenizer, work.tests, length, output, config.precision)
        truncation = (results.truncation or {}) | {split: asdict(cut) for split, cut in cuts.items()}
        results = replace(results, diagnostic=scores or None, truncation=truncation)
    if ranks.is_first():
        if config.speed:
            depths = {results.cut_depth, together.cut_depth_tolerance, together.cut_depth_one_standard_error}
            depths.add(model.config.num_hidden_layers)
            results = replace(results, speed=measure_speed(model, sorted(depths), length, config.precision))
        title = f"{work.task.name}: every depth of " + (
            "one fine-tuned model" if len(trials) == 1 else f"{len(trials)} fine-tuned models"
        )
        save_depth_figure(folder.path / FIGURE_FILE, [seeds_curve(results, results.connectivity)], title)
        write_json(folder.path / RESULTS_FILE, results.to_json())
    ranks.gather(None)
    return read_results(folder.path)


def _run_task(suite: _Suite, work: TaskWork, child: OpenChild) -> TaskResults:
    config, folder, task = suite.config, suite.folder(work), work.task
    if folder.has_all(config.seed_list):
        ranks.say(f"{task.name}: done before, in {folder.path}")
        return read_results(folder.path)
    for split in (split for split in task.validation_splits if split not in work.validation):
        ranks.say(f"{task.name}: there is no {split} split: left out of the results")
    work, tried = _choose(suite, work, child)
    for seed in config.seed_list:
        trial = folder.trial(seed)
        if trial.is_done():
            ranks.say(f"{task.name}: seed {seed} was done before")
            continue
        ranks.say(f"{task.name}: seed {seed}, fine-tuning on {work.samples} examples, {work.values.epochs:g} epochs")
        with child(f"{task.name}/seed-{seed}") as tracker:
            results = run_trial(config, work, seed, suite.tokenizer, tracker, trial.path)
        if ranks.is_first() and not config.keep_models:
            folder.drop_lesser_weights()
        _say_trial(work, results)
    return _finish(suite, work, tried)


def _say_trial(work: TaskWork, results: TrialResults) -> None:
    cut = results.cut_depth
    ranks.say(
        f"{work.task.name}: {work.task.metric} {results.full_score:.4f} with {len(results.depth_scores) - 1} "
        f"layers, {results.depth_scores[cut]:.4f} with {cut} (constant answer {results.majority_score:.4f})"
        f"{f': {AT_CHANCE}' if is_at_chance(results) else ''}, "
        f"trained in {duration(results.train['seconds'])}"
    )


def _log_task(tracker: Tracker, folder: Path, results: TaskResults, alone: bool) -> None:
    """What the suite's own record gets of a task: the figure, and the seeds together where there are several trials.

    The means have the names that their trials have: one search or chart shows suites and trials.
    """
    name, together = results.task, results.aggregate
    if not alone and together is not None:
        for depth, mean in enumerate(together.depth_mean):
            values = {f"{name}/depth_score": mean}
            if together.depth_std is not None:
                values[f"{name}/depth_score_std"] = together.depth_std[depth]
            tracker.log_metrics(values, step=depth)
        summary = {
            f"{name}/full_score": together.depth_mean[-1],
            f"{name}/cut_depth": float(together.cut_depth_tolerance),
        }
        if results.majority_score is not None:
            summary[f"{name}/majority_score"] = results.majority_score
        tracker.log_metrics(summary, step=results.train["steps"])
    if (folder / FIGURE_FILE).is_file():  # it could be drawn
        tracker.log_figure(folder / FIGURE_FILE, f"figures/{name}")


def _suite_settings(by_task: dict[str, dict[str, Any]], but: Collection[str] = ()) -> dict[str, Any]:
    """The hyperparameters of all tasks: by name, or by TASK.name where tasks differ in it."""
    settings: dict[str, Any] = {}
    for name in sorted({*FIELDS} - {*but}):
        values = {task: found[name] for task, found in by_task.items() if name in found}
        alike = len({*values.values()}) == 1
        settings |= {name: next(iter(values.values()))} if alike else {f"{t}.{name}": v for t, v in values.items()}
    return settings


def _average(config: FinetuneConfig, done: dict[str, TaskResults], tracker: Tracker) -> None:
    """Write OUTPUT/glue.json over all the tasks in OUTPUT, and say the average."""
    for path in sorted(Path(config.output).glob(f"*/{RESULTS_FILE}")):
        if path.parent.name not in done and (other := read_results(path.parent)).aggregate is not None:
            done[other.task] = other
    average = glue_average(done)
    if average is None or len(done) < 2:
        return
    if ranks.is_first():
        write_json(Path(config.output) / AVERAGE_FILE, average)
    if "average" in average:
        mean, deviation = average["average"]["mean"], average["average"]["std"]
        spread = f" ± {deviation:.4f}" if deviation is not None else ""
        missing = f"; not GLUE's score, without {', '.join(average['missing'])}" if average["missing"] else ""
        mixed = sorted({*average["precision"].values()})
        of_several = f"; computed in {' and '.join(mixed)}" if len(mixed) > 1 else ""
        ranks.say(f"GLUE average {mean:.4f}{spread} over {len(average['tasks'])} tasks{missing}{of_several}")
        tracker.log_metrics({"glue/average": mean}, step=0)


def run_suite(
    config: FinetuneConfig, open_tracker: OpenTracker, open_child: OpenChild | None = None
) -> list[TaskResults]:
    """Fine-tune `config.model` on each task with each seed, score every depth, and write OUTPUT/TASK.

    OUTPUT/TASK holds the model of the seed with the best validation score and its tokenizer (Hugging Face layout),
    results.json ([`TaskResults`]: that seed's, and `aggregate` of all), depth.png, and seed-N/results.json for each.
    With several tasks OUTPUT/glue.json has the GLUE average. Trials (task x seed) that are finished are not done again,
    so an interrupted suite is resumed by the same call.

    A tracker gets TASK/loss and TASK/learning_rate by step and TASK/depth_score with the depth as step; the suite's
    own gets the figures and, under the same names, the means. The same configuration on the same machine gives the same
    numbers. Under a launcher (WORLD_SIZE in the environment) all ranks call this and work together; the first writes.

    Args:
        open_tracker: called once, when the request is known to be sound: a tracker may write as it opens.
        open_child: opens the record of one trial, given its name; left out, or with a single trial, the suite's own.

    Returns:
        The content of each OUTPUT/TASK/results.json, in the order of the tasks.

    Raises:
        EvalError: a wrong value, a task folder that holds something else or results of other settings, a model or data
            that do not fit: all tasks are checked before the first one is trained. Or the training diverged.
        DataError: OUTPUT is in use by another job, or cannot be written.
    """
    ranks.join_ranks()
    if problems := config.problems():
        raise EvalError(*problems)
    with _alone(config):
        return _run_suite(config, open_tracker, open_child)


def _alone(config: FinetuneConfig) -> ExitStack:
    """Hold OUTPUT, on the first rank; what is in the way there, all ranks raise."""
    holding, problem = ExitStack(), None
    if ranks.is_first():
        try:
            holding.enter_context(OutputLock(Path(config.output)))
        except DataError as error:
            problem = error
    problem = ranks.gather(problem)[0]
    if problem is not None:
        raise problem
    return holding


def _check_alike(precision: str) -> None:
    """Raise `EvalError` where ranks on different machines would compute in different precision."""
    if len(found := sorted(set(ranks.gather(precision)))) > 1:
        fix = "name one that all have, for example fp32"
        raise EvalError(Problem("precision", "auto", f"is {' and '.join(found)} on the machines of this job", fix))


def _say_lowered(suite: _Suite) -> None:
    """Say where the table's length is more than the model reads."""
    positions, longest = most_tokens(suite.model_config), max(work.values.max_length for work in suite.tasks)
    if positions is not None and longest > positions:
        ranks.say(f"max_length={longest} of the table is more than the positions of the model: using {positions}")


def _run_suite(config: FinetuneConfig, open_tracker: OpenTracker, open_child: OpenChild | None) -> list[TaskResults]:
    suite, asked = _check(config, ranks.world_size()), config.precision
    config = suite.config
    _check_alike(config.precision)
    say_precision(asked, config.precision, ranks.say)
    _say_lowered(suite)
    tracker = open_tracker() if ranks.is_first() else NoTracker()
    connectivity = suite.model_config.connectivity
    chosen = {work.task.name: as_dict(work.values) for work in suite.tasks}
    settings = {"connectivity": connectivity, "precision": config.precision}
    tracker.log_settings(settings | _suite_settings(chosen, but=config.grid.names))
    alone = suite.trials == 1

    def child(name: str) -> AbstractContextManager[Tracker]:
        if alone or open_child is None or not ranks.is_first():
            return nullcontext(tracker)
        return open_child(name)

    done: dict[str, TaskResults] = {}
    for work in suite.tasks:
        results = done[work.task.name] = _run_task(suite, work, child)
        _log_task(tracker, suite.folder(work).path, results, alone)
    wanted = list(done.values())
    tracker.log_settings(_suite_settings({results.task: results.train for results in wanted}))
    _average(config, done, tracker)
    return wanted
