"""Who takes part: every starting model with every kind of depth supervision, as suites that differ in nothing else."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from data_pipeline import DataError, Problem, find_model
from modeling import DepthSupervision
from modeling.supervision import Kind

from ...errors import EvalError
from ...glue import FinetuneConfig, check_suite
from ...models import most_tokens, pin_model, read_model_config
from ...results import CONTENDERS_FOLDER, find_results
from ...tasks import GridConfig
from ..base import base_rate
from ..config import StudyConfig

HELD_OUT = 0.2
"""Of the training examples, for the choice of a contender's learning rate."""


@dataclass(frozen=True)
class Contender:
    """A starting model and how it is fine-tuned."""

    name: str
    """MODEL, or MODEL+KIND with depth supervision; also a folder's."""
    model: str
    """The name of the starting model, not its place."""
    suite: FinetuneConfig

    @property
    def trials(self) -> int:
        """Trainings: each seed, and each rate that is tried."""
        return len(self.suite.seed_list) + len(self.suite.grid.points())

    @property
    def folder(self) -> Path:
        """Where its suite's results are."""
        return Path(self.suite.output)


def starting_models(config: StudyConfig) -> dict[str, str]:
    """The places of all starting models by a short name: that of the folder (RUN of RUN/model) or on the Hub."""
    found: dict[str, str] = {}
    for place in [config.model, *map(pin_model, config.shallow.models)]:
        named = find_model(place)
        path = Path(named.hub_name or place)
        if named.hub_name is None and path.resolve().name == "model":
            path = path.resolve().parent
        name = re.sub(r"[^\w.-]+", "-", path.resolve().name).lstrip(".") or "model"
        number = sum(other == name or other.startswith(f"{name}~") for other in found)
        found[f"{name}~{number + 1}" if number else name] = place
    return found


def contenders(config: StudyConfig) -> list[Contender]:
    """Every starting model with every kind of supervision. `config` is sound, its precision resolved."""
    models = starting_models(config)
    architectures = {name: read_model_config(place) for name, place in models.items()}
    # a model of fewer positions than the others must not see less of the texts than they do
    length = min([config.max_length, *(most for one in architectures.values() if (most := most_tokens(one)))])
    found = []
    for name, place in models.items():
        rates = [base_rate(config, architectures[name]) * multiple for multiple in config.shallow.multiples]
        grid = GridConfig(learning_rate=rates, held_out=HELD_OUT) if len(rates) > 1 else GridConfig()
        for kind in config.shallow.kinds:
            own = name if kind == "none" else f"{name}+{kind}"
            suite = FinetuneConfig(
                model=place,
                tasks=config.task_names[0],
                output=str(Path(config.output) / CONTENDERS_FOLDER / own),
                glue_dir=config.glue_dir,
                seeds=config.seed_list,
                epochs=config.epochs,
                learning_rate=None if len(rates) > 1 else rates[0],
                batch_size=config.batch_size,
                max_length=length,
                precision=config.precision,
                supervision=DepthSupervision(cast(Kind, kind)),
                grid=grid,
                max_train_samples=config.max_train_samples,
                max_eval_samples=config.max_eval_samples,
                speed=False,
                predict_test=False,
                tolerance=config.shallow.tolerance,
            )
            found.append(Contender(own, name, suite))
    return found


def contender_problems(config: StudyConfig) -> list[Problem]:
    """What is wrong with any starting model, and where that is nothing with the fine-tuning of any contender."""
    problems = [problem for field, model in _asked(config) for problem in _model_problems(field, model)]
    if len(config.task_names) > 1:
        fix = "name one, and study each of the others into an --output of its own"
        problems.append(Problem("tasks", config.tasks, "are several: shallow compares on one", fix))
    if problems or not config.task_names:
        return problems
    for contender in contenders(config):
        try:
            check_suite(contender.suite, world_size=1)
        except EvalError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return problems


def _asked(config: StudyConfig) -> Iterator[tuple[str, str]]:
    """The option and the place of each starting model."""
    yield "model", config.model
    yield from (("shallow.against", place) for place in config.shallow.models)


def _model_problems(field: str, model: str) -> Iterator[Problem]:
    try:
        layers = read_model_config(model).num_hidden_layers
        results = find_results(find_model(model).path)
    except (EvalError, DataError) as error:
        yield from error.problems
        return
    if results is not None and field != "model":  # of `model` the studies' own check tells
        yield Problem(field, model, f"is fine-tuned on {results.task}", "shallow needs a pretrained one, RUN/model")
    if layers < 2:
        yield Problem(field, model, f"has {layers} layer: no depth to compare", "give a model of two layers or more")
