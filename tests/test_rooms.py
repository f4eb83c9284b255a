"""The floors of the building: imports go down only, and only `launch` knows MLflow."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOOR = {"modeling": 0, "data_pipeline": 0, "pretrain": 1, "eval": 1, "launch": 2}
FORBIDDEN = {
    "modeling": {"deepspeed", "mlflow", "datasets", "accelerate"},
    "data_pipeline": {"deepspeed", "mlflow"},
    "pretrain": {"mlflow"},
    "eval": {"mlflow", "deepspeed"},
}


def imported(room: str) -> Iterator[tuple[str, str]]:
    """(place, top-level package) of every absolute import in a room, nested ones included."""
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", name.split(".")[0]


@pytest.mark.parametrize("room", FLOOR)
def test_a_room_imports_only_what_lies_below(room):
    others = [(place, name) for place, name in imported(room) if name in FLOOR and name != room]
    assert [(place, name) for place, name in others if FLOOR[name] >= FLOOR[room]] == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_does_not_know_what_it_must_not(room):
    assert [(place, name) for place, name in imported(room) if name in FORBIDDEN[room]] == []
