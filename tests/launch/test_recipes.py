"""The recipes are configurations that `acn pretrain` takes."""

from pathlib import Path

import pytest

from launch.cli import read_args
from launch.verbs.pretrain import Args

RECIPES = sorted(path for path in Path("launch/recipes").glob("acn-*.yaml") if "corpus" not in path.name)


def parsed(*arguments: str) -> Args:
    return read_args("pretrain", ["pretrain", *arguments, "--data", "D", "--output", "O"])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_no_problems(recipe):
    args = parsed("--config", str(recipe))
    assert args.problems() == []
    assert args.optim.sharding_problems(args.zero_stage, offloaded=False, precision=args.precision) == []


def test_another_budget_replaces_the_recipes_steps():
    recipe = ("--config", "acn-mini")
    args = parsed(*recipe, "--steps", "null", "--tokens", "1e9")
    assert (args.problems(), args.steps, args.tokens) == ([], None, 1e9)
    [problem] = parsed(*recipe, "--tokens", "1e9").problems()
    assert "for tokens add --steps null" in str(problem)


def test_the_muon_recipe_branches_as_its_comment_says():
    branch = ("--branch_from", "RUN", "--schedule.name", "decay", "--steps", "20000")
    assert parsed("--config", "acn-base-muon", *branch).problems() == []
