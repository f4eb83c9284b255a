"""Whether a recipe fits the job, as far as that can be known before there are nodes."""

from dataclasses import replace
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import Problem, without_credentials
from data_pipeline.stream import world_problems

from ...errors import LaunchError
from ...recipes import find_recipe
from ...tracking import AUTO, URI_VARIABLE, TrackingConfig
from .config import IN_AN_IMAGE, LaunchConfig, is_file_uri

if TYPE_CHECKING:
    from pretrain import PretrainConfig


def recipe_problems(config: LaunchConfig) -> list[Problem]:
    """What is wrong with the recipe by itself, on any number of ranks."""
    try:
        recipe = _recipe(config)
    except LaunchError as error:
        return error.problems
    return [] if recipe is None else recipe.problems()


def _recipe(config: LaunchConfig) -> "PretrainConfig | None":
    """The recipe of a pretraining; None for another job."""
    job = config.slurm.job if config.engine == "slurm" else "pretrain"
    if job != "glue" and not Path(find_recipe(config.config)).exists():
        raise LaunchError(f"config={config.config}: there is no such file here")
    if job != "pretrain":
        return None
    from ...cli import read_recipe

    recipe: PretrainConfig = read_recipe(
        config.config, config.data or "DATA", config.output or "OUTPUT", config.options
    )
    return recipe


def fit_job(config: LaunchConfig) -> tuple[LaunchConfig, list[str]]:
    """The job as it can run this recipe, and what was changed, for people.

    The micro-batch divides every rank's share of the global batch: recipes are written for some number of GPUs; the
    global batch is theirs, and how much of it a rank computes at a time is not (see docs/pretraining.md, Exactness).
    And nothing is recorded in a file on a node that goes away.

    Raises:
        LaunchError: the recipe, or its global batch on so many ranks, is wrong.
    """
    recipe = _recipe(config)
    if recipe is None:
        return config, []
    fewest = config.torchrun.min_nodes or config.nodes
    worlds = [nodes * config.ranks_per_node for nodes in range(fewest, config.nodes + 1)]
    found = recipe.problems()
    for world in worlds:
        lanes = recipe.stream.lanes or world  # which the corpus decides
        for problem in world_problems(lanes, world, recipe.global_batch_size):
            found.append(replace(problem, fix=f"{problem.fix} (options: --global_batch_size N)"))
    if found:
        raise LaunchError(*found)
    config, notes = _fit_tracking(config, recipe)
    batches = [recipe.global_batch_size, recipe.batch_warmup.start or 0]
    micro = gcd(recipe.micro_batch_size, *(batch // world for batch in batches for world in worlds))
    if micro == recipe.micro_batch_size:
        return config, notes
    note = (
        f"options has --micro_batch_size {micro}: the recipe's {recipe.micro_batch_size} does not divide a rank's "
        f"share of {recipe.global_batch_size // worlds[-1]} blocks"
    )
    return replace(config, options=f"{config.options} --micro_batch_size {micro}".strip()), [*notes, note]


def _fit_tracking(config: LaunchConfig, recipe: "PretrainConfig") -> tuple[LaunchConfig, list[str]]:
    """The job with a tracking server that its nodes reach, where they are not to have the recipe's."""
    tracking: TrackingConfig = recipe.tracking  # type: ignore[attr-defined]  # of `acn pretrain`
    uri = tracking.resolved.mlflow
    if config.engine not in IN_AN_IMAGE or config.mlflow is not None or uri is None:
        return config, []
    if not is_file_uri(uri):
        if tracking.mlflow != AUTO:
            return config, []
        uri = without_credentials(uri)
        note = f"MLFLOW is {uri}: {URI_VARIABLE} of this shell, which the nodes do not have"
        return replace(config, mlflow=uri), [note]
    note = (
        f"MLFLOW is null: the recipe's {uri} would be on a node that goes away; RUN/metrics.jsonl has the same, "
        "`acn track sync RUN` sends it, and --mlflow names a server"
    )
    return replace(config, mlflow="null"), [note]
