"""Running studies: everything is checked, then each study works and leaves OUTPUT/STUDY/study.json and STUDY.png."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets

from data_pipeline import OutputLock, Problem, duration, find_model, new_folder, write_json

from ..errors import EvalError
from ..files import read_json
from ..glue import load_recorded
from ..models import class_names, load_tokenizer, model_origin, pin_model, read_model_config
from ..precision import UNSAID, precision_problems, resolved, say_precision
from ..progress import Tracker
from ..results import RESULTS_FILE, TaskResults, find_results
from ..tasks import Task, find_task, load_task, use_classes
from .base import Context, Curve, Kind, OpenChild, Study, TaskData, draw_samples
from .config import STUDIES, StudyConfig
from .figures import save_study_figure

STUDY_FILE = "study.json"


KINDS: dict[str, Kind] = {name: import_module(f".{name}", __package__).KIND for name in STUDIES}
"""Every study by its name, which is that of its module and of its options."""


def _find_names(config: StudyConfig, trained_on: str | None) -> list[str]:
    """The names of the tasks of the model or the user, fit for all the studies asked for."""
    problems = []
    for name in config.names:
        kind = KINDS[name]
        if kind.model == "fine-tuned" and trained_on is None:
            problems.append(
                Problem(
                    "model",
                    config.model,
                    f"has no {RESULTS_FILE}",
                    f"{name} needs a fine-tuned model, OUTPUT/TASK of `acn glue`",
                )
            )
        if kind.model == "pretrained" and trained_on is not None:
            problems.append(
                Problem(
                    "model", config.model, f"is fine-tuned on {trained_on}", f"{name} needs a pretrained one, RUN/model"
                )
            )
    if trained_on is not None and config.task_names not in ([], [trained_on]):
        problems.append(
            Problem("tasks", config.tasks, f", but the model is fine-tuned on {trained_on}", "leave tasks out")
        )
    names = config.task_names if trained_on is None else [trained_on]
    least = max(KINDS[name].tasks for name in config.names)
    if trained_on is None and len(names) < least:
        problems.append(
            Problem("tasks", config.tasks, fix=f"name at least {least}, for example sst2,rte for a pretrained model")
        )
    for name in config.names:
        if (check := KINDS[name].check) is not None:
            problems += check(config)
    if problems:
        raise EvalError(*problems)
    return names


def _load_data(
    config: StudyConfig, names: list[str], results: TaskResults | None, classes: list[str]
) -> list[tuple[Task, datasets.DatasetDict]]:
    """Every task with its splits: those that a fine-tuned model was made and scored on, with its ids of the classes."""
    if results is not None:
        recorded = load_recorded(results, find_model(config.model).path, classes, config.glue_dir, config.dataset)
        if recorded is not None:
            return [recorded]
    wrong, fix = "is for a model that was fine-tuned with --dataset", "leave it out"
    if problems := [Problem(f"dataset.{name}", value, wrong, fix) for name, value in config.dataset.given.items()]:
        raise EvalError(*problems)
    loaded = []
    for task in [find_task(name, config.glue_dir) for name in names]:
        splits = load_task(task, config.glue_dir)
        found = (task, splits) if results is None else use_classes(task, splits, classes, f"model={config.model}")
        loaded.append(found)
    return loaded


def _check_classes(config: StudyConfig, tasks: list[Task]) -> None:
    """Raise `EvalError` for a study of classes on a regression."""
    for name in config.names:
        if KINDS[name].classes and tasks[0].is_regression:
            raise EvalError(
                f"studies={config.studies}: {name} needs classes, {tasks[0].name} is a regression: leave it out"
            )


def _settings(config: StudyConfig, name: str) -> dict[str, Any]:
    """What a study is known again by."""
    return config.settings(name) | {"precision": KINDS[name].precision or config.precision}


def _earlier_settings(name: str, content: dict[str, Any]) -> Any:
    """Those in a study.json; one of before there was a choice does not say its precision."""
    settings = content.get("settings")
    return {"precision": KINDS[name].precision or UNSAID} | settings if isinstance(settings, dict) else settings


def _finished(config: StudyConfig) -> set[str]:
    """The studies that OUTPUT has already, made with the same settings.

    Raises:
        EvalError: one was made with other settings, or something else is in the way.
    """
    finished, problems = set(), []
    for name in config.names:
        folder = Path(config.output) / name
        if not folder.exists() and not folder.is_symlink():
            continue
        path = folder / STUDY_FILE
        earlier = read_json(path) if path.is_file() else None
        if not isinstance(earlier, dict) or _earlier_settings(name, earlier) != _settings(config, name):
            reason = "is of other settings" if earlier else "is not a finished study"
            problems.append(
                Problem("output", wrong=f": {folder} exists and {reason}", fix="choose another --output, or remove it")
            )
        finished.add(name)
    if problems:
        raise EvalError(*problems)
    return finished


def _check(config: StudyConfig, open_child: OpenChild | None) -> tuple[set[str], Callable[[Tracker], Context]]:
    """Everything that can be wrong with the request, before the first study starts."""
    model_config = read_model_config(config.model)
    results = find_results(find_model(config.model).path) if model_origin(config.model).model_type == "acn" else None
    names = _find_names(config, results.task if results else None)
    finished = _finished(config)
    tokenizer = load_tokenizer(config.model, model_config)
    loaded = _load_data(config, names, results, class_names(model_config))
    _check_classes(config, [task for task, _ in loaded])
    data = []
    for task, splits in loaded:
        validation = draw_samples(task, splits[task.validation_splits[0]], config.max_eval_samples, seed=0)
        if len(validation) < 4:
            raise EvalError(f"{task.name}: {len(validation)} validation examples are too few to study: give 4 or more")
        data.append(TaskData(task, splits["train"], validation))
    return finished, lambda tracker: Context(config, model_config, tokenizer, data, results, tracker, open_child)


def study_json(
    name: str, study: Study, context: Context, settings: dict[str, Any], truncation: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """The content of study.json."""
    return {
        "study": name,
        "model": context.options.model,
        "connectivity": context.config.connectivity,
        "precision": settings["precision"],
        "task": ",".join(data.task.name for data in context.data),
        "seeds": study.seeds,
        "curves": [curve.as_json() for curve in study.curves],
        "table": {"columns": study.columns, "rows": study.rows},
        "verdict": study.verdict,
        "notes": study.notes,
        "settings": settings,
        "examples": {data.task.name: len(data.validation) for data in context.data},
        "truncation": truncation,
        "seconds": round(seconds, 2),
    }


def _metric_name(study: str, curve: Curve) -> str:
    """A name that trackers accept; two panels may share a label."""
    return re.sub(r"[^\w .:/-]+", "_", f"{study}/{curve.y_label}/{curve.label}").strip("_ ")


def _log(tracker: Tracker, name: str, study: Study) -> None:
    """Every curve by the number of its point, with its x."""
    for curve in study.curves:
        for step, point in enumerate(curve.points):
            mean = point.as_json()["mean"]
            metric = _metric_name(name, curve)
            tracker.log_metrics({metric: mean, f"{metric} (x)": float(point.x)}, step=step)


def run_studies(
    config: StudyConfig, open_tracker: Callable[[], Tracker], open_child: OpenChild | None = None
) -> list[dict[str, Any]]:
    """Run each study of `config` and write OUTPUT/STUDY/study.json and STUDY.png; returns the contents of the JSON
    files.

    A study that OUTPUT has already with the same settings is kept and not run again, so an interrupted command goes on
    where it stopped.

    Args:
        open_tracker: called once, when the request is known to be sound: a tracker may write as it opens.
        open_child: opens the record of a part of a study, given its name and folder; left out, the studies' own.

    Raises:
        EvalError: a wrong value, a model, task or data that do not fit the studies, or something else in OUTPUT: all
            checked before the first study runs. Or a training diverged.
        DataError: OUTPUT is in use by another job, or cannot be written.
    """
    if problems := config.problems() + precision_problems(config.precision, trains=True):
        raise EvalError(*problems)
    with OutputLock(Path(config.output)):
        return _run_studies(config, open_tracker, open_child)


def _run_studies(
    config: StudyConfig, open_tracker: Callable[[], Tracker], open_child: OpenChild | None
) -> list[dict[str, Any]]:
    asked, config = (
        config.precision,
        replace(config, precision=resolved(config.precision), model=pin_model(config.model)),
    )
    finished, make_context = _check(config, open_child)
    say_precision(asked, config.precision)
    context = make_context(open_tracker())
    connectivity = context.config.connectivity
    context.tracker.log_settings(
        {"learning_rate": context.learning_rate, "connectivity": connectivity, "precision": config.precision}
    )
    truncation = context.truncation() if set(config.names) - finished else {}
    contents = []
    for name in config.names:
        folder = Path(config.output) / name
        if name in finished:
            print(f"{name}: finished already, kept: {folder}", flush=True)
            contents.append(read_json(folder / STUDY_FILE))
            continue
        started = time.monotonic()
        own = f", in {KINDS[name].precision}" if KINDS[name].precision is not None else ""
        print(f"{name}: {config.model}, {', '.join(data.task.name for data in context.data)}{own}", flush=True)
        study = KINDS[name].run(context, getattr(config, name))
        seconds = time.monotonic() - started
        content = study_json(name, study, context, _settings(config, name), truncation, seconds)
        with new_folder(folder) as aside:
            title = f"{name}: {content['connectivity']}, {content['task']}"
            save_study_figure(aside / f"{name}.png", study, title)
            write_json(aside / STUDY_FILE, content)
        _log(context.tracker, name, study)
        if (folder / f"{name}.png").is_file():  # it could be drawn
            context.tracker.log_figure(folder / f"{name}.png", f"figures/{name}")
        if study.verdict:
            print(f"{name}: {study.verdict}", flush=True)
        print(f"{name}: done in {duration(time.monotonic() - started)}; {folder}", flush=True)
        contents.append(content)
    return contents
