"""Options in YAML cost a moment, whatever somebody wrote into them, and end with an error that says what is wrong."""

import time
from pathlib import Path

import pytest

from eval import EvalError
from eval.tasks.hyperparameters import read_table
from launch.options import read_options
from launch.verbs.pretrain import Args

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
DEEP = "deepspeed: " + "{a: " * 5000 + "1" + "}" * 5000
SELF = "deepspeed: &a {x: *a}"
TEXTS = {"bomb": BOMB + "deepspeed: {x: *a9}", "deep": DEEP, "open": "deepspeed: " + "[" * 100_000, "itself": SELF}


def refused(capsys, words: list[str]) -> str:
    began = time.process_time()
    with pytest.raises(SystemExit) as end:
        read_options("acn pretrain", Args, ["--data", "x", "--output", "y", *words])
    assert end.value.code == 2
    assert time.process_time() - began < 20  # seconds of the processor; a fraction of one is what it takes
    return capsys.readouterr().err


@pytest.mark.parametrize("name", TEXTS)
def test_a_configuration(capsys, tmp_path, name):
    path = tmp_path / "evil.yaml"
    path.write_text(TEXTS[name])
    message = refused(capsys, ["--config", str(path)])
    assert "Traceback" not in message
    assert len(message) < 2000
    if name in ("bomb", "deep"):
        assert "evil.yaml" in message


@pytest.mark.parametrize("name", TEXTS)
def test_a_configuration_of_a_group_of_options(capsys, tmp_path, name):
    path = tmp_path / "evil.yaml"
    path.write_text(TEXTS[name].replace("deepspeed", "lr"))
    assert len(refused(capsys, ["--optim", str(path)])) < 2000


@pytest.mark.parametrize("name", TEXTS)
def test_a_value_on_the_command_line_or_in_the_environment(capsys, monkeypatch, name):
    value = TEXTS[name].removeprefix("deepspeed: ")
    assert len(refused(capsys, ["--deepspeed", value])) < 2000
    monkeypatch.setenv("ACN_PRETRAIN__DEEPSPEED", value)
    assert len(refused(capsys, [])) < 2000


@pytest.mark.parametrize("name", TEXTS)
def test_a_table_of_hyperparameters(tmp_path, name):
    path = tmp_path / "table.yaml"
    path.write_text(TEXTS[name].replace("deepspeed", "defaults"))
    with pytest.raises(EvalError, match=r"table\.yaml"):
        read_table(path)


def test_aliases_in_moderation_are_taken(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("deepspeed: {a: &x {stage: 1}, b: *x}\nsteps: 7\n")
    args = read_options("acn pretrain", Args, ["--config", str(path), "--data", "x", "--output", "y"])
    assert args.steps == 7
    assert args.deepspeed == {"a": {"stage": 1}, "b": {"stage": 1}}
