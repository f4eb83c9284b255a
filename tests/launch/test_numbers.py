"""Numbers are looked at before any work: no verb takes one that no computation could be right with."""

import importlib
import math
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest

from launch.cli import VERBS

OTHER_ENGINES = {"torchrun", "deepspeed", "kubernetes", "skypilot"}
"""Their options do nothing where slurm is chosen."""


WITHOUT_NUMBERS = ("env", "export", "publish", "recipes", "report", "track")


def _args(verb: str) -> Any:
    """The options of a verb with something for each that must be given."""
    kind = importlib.import_module(f"launch.verbs.{verb}").Args
    given = {"engine": "slurm", "action": "show", "studies": "noise", "tasks": "sst2"}
    asked = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    return kind(**{name: given.get(name, "there") for name in asked})


def _numbers(kind: type, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """The path and type of every number among the options."""
    for name, hint in get_type_hints(kind).items():
        kinds = {hint, *get_args(hint)}
        if is_dataclass(hint) and name not in OTHER_ENGINES:
            yield from _numbers(hint, (*above, name))
        elif float in kinds or int in kinds:
            yield (*above, name), float if float in kinds else int


def _with(options: Any, path: tuple[str, ...], value: Any) -> Any:
    """The options with another value at a path; a pair gets it twice."""
    name, *rest = path
    old = getattr(options, name)
    new = _with(old, tuple(rest), value) if rest else (value, value) if isinstance(old, tuple) else value
    return replace(options, **{name: new})


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in WITHOUT_NUMBERS])
def test_every_number_of_every_verb_is_looked_at(verb: str) -> None:
    args, missed, tried = _args(verb), [], 0
    for path, kind in _numbers(type(args)):
        for value in (math.nan, math.inf, -math.inf, 1e308) if kind is float else (10**30, -(10**30)):
            found = {problem.field for problem in _with(args, path, value).problems()}
            missed += [] if any(field.startswith(".".join(path)) for field in found) else [(path, value)]
            tried += 1
    assert tried > 4
    assert missed == []


@pytest.mark.parametrize(
    ("verb", "path", "value"),
    [
        ("pretrain", "seed", -1),
        ("pretrain", "seed", 2**32),
        ("pretrain", "model.hidden_dropout_prob", 2.0),
        ("pretrain", "model.attention_probs_dropout_prob", -0.1),
        ("pretrain", "model.hidden_size", 0),
        ("pretrain", "model.initializer_range", 0.0),
        ("pretrain", "optim.lr", 1e16),
        ("glue", "learning_rate", 1e16),
        ("study", "learning_rate", -1.0),
        ("data", "seed", -1),
        ("data", "blocks", 0),
    ],
)
def test_numbers_out_of_range_are_named(verb: str, path: str, value: float) -> None:
    found = _with(_args(verb), tuple(path.split(".")), value).problems()
    assert path in {problem.field for problem in found}
    assert path not in {problem.field for problem in _args(verb).problems()}


def test_a_source_is_used_a_thousand_times_at_most(acn: Any, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    (tmp_path / "p.yaml").write_text("corpus: {train: [{path: a.txt, weight: 1.0e9}]}\n")
    code, _, said = acn("prepare", "--config", "p.yaml", "--output", "tokens")
    assert (code, "has weight 1000000000.0: set it above 0 and at most 1000" in said) == (2, True)
    assert not (tmp_path / "tokens").exists()
