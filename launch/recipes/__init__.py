"""The recipes that come with acn-lm, found by name wherever the command is given: `--config acn-mini`."""

import re
from pathlib import Path

from ..errors import LaunchError, did_you_mean

HERE = Path(__file__).parent


def recipe_names() -> list[str]:
    """What `--config` takes without there being a file."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def recipe_file(name: str) -> Path:
    """The file of a recipe, given with or without `.yaml`.

    Raises:
        LaunchError: there is none of this name; the message lists the recipes.
    """
    name = name.removesuffix(".yaml")
    if name not in recipe_names():
        recipes = ", ".join(recipe_names())
        raise LaunchError(f"there is no recipe {name}{did_you_mean(name, recipe_names())} (the recipes: {recipes})")
    return HERE / f"{name}.yaml"


def recipe_summary(name: str) -> str:
    """What a recipe is for: the first line of its file, a comment."""
    with recipe_file(name).open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def find_recipe(config: str) -> str:
    """What a value of `--config` stands for: a file of this name, or else the recipe, with or without `.yaml`.

    Anything that is no plain name, such as a path into a folder or YAML itself, is returned as it is.

    Raises:
        LaunchError: a plain name that is neither; the message lists the recipes.
    """
    name = config.removesuffix(".yaml")
    if Path(config).is_file() or not re.fullmatch(r"[\w.-]+", config):
        return config
    if name in recipe_names():
        return str(HERE / f"{name}.yaml")
    recipes = ", ".join(recipe_names())
    raise LaunchError(
        f"config={config}: there is no such file here, nor such a recipe of acn-lm{did_you_mean(name, recipe_names())}"
        f" (the recipes: {recipes})"
    )
