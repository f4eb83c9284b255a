"""A value of `acn launch` becomes a value in a script, never lines, options or keys of it."""

import subprocess

import pytest
import yaml

from launch.cluster.engines.config import ENGINES, LaunchConfig
from launch.cluster.engines.render import render_job

ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\0", "\x1b"]
TEXTS = {
    "config": (), "data": (), "output": (), "options": (), "interface": (), "setup": (), "script": (), "name": (),
    "partition": ("slurm",), "account": ("slurm",), "after": ("slurm",), "time": ("slurm",), "tasks": ("slurm",),
    "head": ("torchrun",), "hostfile": ("deepspeed",), "image": ("kubernetes",), "volume": ("kubernetes",),
    "namespace": ("kubernetes",), "memory": ("kubernetes",), "gpu": ("skypilot",), "bucket": ("skypilot",),
}  # fmt: skip


def with_value(engine: str, name: str, value: str) -> LaunchConfig:
    config = LaunchConfig(engine, dry_run=True)
    setattr(getattr(config, engine) if hasattr(getattr(config, engine), name) else config, name, value)
    return config


@pytest.mark.parametrize("name", TEXTS)
def test_no_value_has_line_ends(name):
    for engine in TEXTS[name] or ENGINES:
        for end in ENDS:
            found = with_value(engine, name, f"value{end}touch /tmp/pwned").problems()
            assert any(problem.field.rpartition(".")[2] == name for problem in found), (engine, end)


@pytest.mark.parametrize(
    ("engine", "name", "value"),
    [
        ("slurm", "partition", "gpu --wrap=id"),
        ("slurm", "account", "me # x"),
        ("kubernetes", "image", "image # x"),
        ("kubernetes", "image", "{a: b}"),
        ("kubernetes", "image", "a: b"),
        ("skypilot", "gpu", "H100, x: y"),
        ("skypilot", "bucket", "b, mode: COPY}"),
        ("torchrun", "interface", "eth0; id"),
    ],
)
def test_names_are_names(engine, name, value):
    assert [problem.field.rpartition(".")[2] for problem in with_value(engine, name, value).problems()] == [name]


EVIL = ["$(id)", "`id`", "'; id; '", '"; id; "', "$HOME", "a b", "x # y", "{{ 7*7 }}", "&a", "*a", "!!python/object:x"]


@pytest.mark.parametrize("engine", ENGINES)
def test_paths_stay_values_whatever_they_are(engine, tmp_path):
    for evil in EVIL:
        config = LaunchConfig(engine, data=evil, output=evil, dry_run=True)
        assert config.problems() == []
        text = render_job(config)
        if engine in ("kubernetes", "skypilot"):
            assert any(evil in values(resource) for resource in yaml.safe_load_all(text))
            continue
        header = next(line for line in text.splitlines() if line.startswith("DATA="))
        shown = subprocess.run(
            ["bash", "-c", f'{header}\nprintf %s "$DATA"'], capture_output=True, text=True, check=True
        )
        assert shown.stdout == evil


def values(node) -> list[object]:
    if isinstance(node, dict):
        return [found for inner in node.values() for found in values(inner)]
    return [found for inner in node for found in values(inner)] if isinstance(node, list) else [node]


@pytest.mark.parametrize(
    ("setup", "secret"),
    [
        ("export HF_TOKEN=abc", True),
        ("MLFLOW_TRACKING_PASSWORD='abc' x", True),
        ("export AWS_SECRET_ACCESS_KEY=abc", True),
        ("pip install git+https://me:pw@host/x", True),
        ("export HF_TOKEN=$(cat ~/.token)", False),
        ('export HF_TOKEN="$MINE"', False),
        ("cd /shared && . .venv/bin/activate && export KEYS=2", False),
    ],
)
def test_a_secret_in_setup_is_refused(setup, secret):
    assert bool(LaunchConfig("slurm", setup=setup, dry_run=True).problems()) == secret
