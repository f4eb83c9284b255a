"""The `acn` command itself: help of two lengths, and what it says to words that it does not know."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import VERBS, read_args
from launch.options import build_parser

ROOT = Path(__file__).parents[2]
MANY = 15
"""A verb with more options than this shows the common ones first."""


def module(verb):
    return __import__(f"launch.verbs.{verb}", fromlist=["Args"])


def options(verb: str) -> set[str]:
    """Every option and positional that a verb takes, as `--help` writes them."""
    parser = build_parser(f"acn {verb}", module(verb).Args, VERBS[verb].positionals)
    helpers = {"print_config", *(a.dest for a in parser._actions if a.default == "==SUPPRESS==")}
    actions = [action for action in parser._actions if action.dest not in helpers]
    return {(action.option_strings or [action.dest.upper()])[0] for action in actions}


def shown(text: str) -> list[str]:
    """The options of a help text, in its order."""
    return re.findall(r"^  (--[\w.]+|[A-Z]+)(?: |$)", text, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_a_dozen_options_and_help_all_every_one(acn, verb):
    code, short, _ = acn(verb, "--help")
    assert code == 0
    code, full, _ = acn(verb, "--help", "all")
    assert code == 0
    assert set(shown(full)) == options(verb)
    assert len(shown(full)) == len(options(verb)), "each once"
    assert len(shown(short)) <= MANY
    assert set(shown(short)) <= options(verb)
    if len(options(verb)) > MANY:
        left = len(options(verb)) - len(shown(short))
        assert f"{left} more options, by group: acn {verb} --help all" in short
    else:
        assert short == full


def test_the_options_of_the_short_help_have_their_defaults(acn):
    text = " ".join(acn("pretrain", "--help")[1].split())
    for part in ("--steps STEPS Optimizer steps in all.", "(default: 100000)", "(default: 0.001)", "(required)"):
        assert part in text
    assert text.startswith("usage: acn pretrain --data DATA --output OUTPUT [options]")


def test_groups_have_their_headings_and_the_options_their_types(acn):
    text = acn("pretrain", "--help", "all")[1]
    heading = text.index("\nHeld-out evaluation:\n")
    assert heading < text.index("  --validation.every EVERY") < text.index("\nSaving:\n")
    assert "(type: int | null, default: 100000)" in " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_in_the_help_is_a_command_that_the_verb_takes(acn, verb):
    example = module(verb).EXAMPLE
    assert f"example:\n  {example}\n" in acn(verb, "--help")[1]
    name, *words = shlex.split(example)
    assert (name, words[0]) == ("acn", verb)
    assert isinstance(read_args(verb, words), module(verb).Args)


def test_acn_alone_lists_the_verbs(acn):
    code, out, err = acn()
    assert (code, out) == (2, "")
    assert acn("--help")[:2] == (0, err)
    for verb, what in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(what.help)}$", err, re.MULTILINE)


def test_the_version_is_that_of_the_package_with_what_it_stands_on(acn):
    code, out, _ = acn("--version")
    assert code == 0
    versions = dict(line.split(" ", 1) for line in out.splitlines())
    assert next(iter(versions)) == "acn-lm"
    assert versions["python"] == sys.version.split()[0]
    assert {"torch", "transformers", "deepspeed"} <= versions.keys()


UNKNOWN = {
    "there is no verb pretain: did you mean pretrain?": ["pretain", "--output", "plan"],
    "--steps stands where a verb is expected": ["--steps", "3", "pretrain"],
    "there is no option --stepps: did you mean --steps?": ["pretrain", "--stepps", "3"],
    "there is no option --stepps: did you mean --steps": ["pretrain", "--stepps=3"],
    "there is no option --global-batch-size: did you mean --global_batch_size?": ["pretrain", "--global-batch-size=3"],
    "there is no option --lr: did you mean --optim.lr?": ["pretrain", "--lr", "1e-3"],
    "there is no option --every: did you mean --validation.every or --checkpoint.every": ["pretrain", "--every", "3"],
    "there is no option --dat: did you mean --data?": ["pretrain", "--dat", "tokens"],
    "there is no option --xyzzy\n": ["pretrain", "--xyzzy"],
    "missing: --data, --output": ["pretrain"],
    "missing: OUTPUT": ["export", "run"],
    "not understood: b": ["demo", "b"],
    "steps=x must be int | null": ["pretrain", "--data", "d", "--output", "o", "--steps", "x"],
    "zero_stage=7 must be one of: 0, 1, 2, 3": ["pretrain", "--data", "d", "--output", "o", "--zero_stage", "7"],
    "there is no such file here, nor such a recipe of acn-lm: did you mean acn-mini?": ["plan", "--config", "acn-mni"],
    'options of the recipe go into one string, --options "': ["plan", "--steps", "3"],
    "there is no option optim.lrr: did you mean optim.lr?": ["pretrain", "--config", "{optim: {lrr: 3}}"],
    "there is no option stepps: did you mean steps?": [
        "pretrain", "--config", "{stepps: 3}", "--data", "d", "--output", "o",
    ],
}  # fmt: skip


@pytest.mark.parametrize("message", UNKNOWN)
def test_a_word_that_is_not_known_gets_a_short_answer(acn, tmp_path, message):
    code, out, err = acn(*UNKNOWN[message])
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) <= 5
    assert list(tmp_path.iterdir()) == []


def test_several_unknown_options_are_told_together(acn):
    code, _, err = acn("glue", "--modell", "m", "--task", "sst2", "--nothing")
    assert code == 2
    assert "4 problems" in err
    meant = ("--modell: did you mean --model?", "--task: did you mean --tasks?")
    for line in (*meant, "no option --nothing\n", "missing: --output\n"):
        assert line in err


def test_an_environment_variable_that_means_no_option_is_a_mistake(acn, monkeypatch):
    monkeypatch.setenv("ACN_DEMO__STEPPS", "3")
    code, _, err = acn("demo")
    assert code == 2
    assert "ACN_DEMO__STEPPS: did you mean ACN_DEMO__STEPS?" in err


def test_options_come_from_the_environment_a_file_and_the_command_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("steps: 3\noptim: {lr: 0.5}\n")
    words = ["pretrain", "--data", "d", "--output", "o"]
    monkeypatch.setenv("ACN_PRETRAIN__CONFIG", "mine.yaml")
    monkeypatch.setenv("ACN_PRETRAIN__STEPS", "4")
    args = read_args("pretrain", words)
    assert (args.steps, args.optim.lr) == (4, 0.5)
    args = read_args("pretrain", [*words, "--config", "mine.yaml"])
    assert (args.steps, args.optim.lr) == (4, 0.5)
    assert read_args("pretrain", [*words, "--config", "mine.yaml", "--steps", "5"]).steps == 5


def test_a_corpus_is_verified_by_acn_data(acn, prepared):
    code, out, err = acn("data", "verify", str(prepared))
    assert (code, err) == (0, "")
    assert "every shard is as it was written" in out
    code, out, err = acn("data", "verify", str(prepared), "--blocks", "3", "--split", "validation", "--workers", "0")
    assert code == 2
    assert "leave out split, blocks" in err
    assert "workers=0 must be at least 1" in err
    code, _, err = acn("data", "show", str(prepared), "--workers", "2")
    assert code == 2
    assert "workers=2 is for `acn data verify`" in err


def test_the_former_name_of_verifying_says_its_new_one(acn, prepared):
    code, out, err = acn("prepare", "--verify", str(prepared))
    assert code == 0
    assert "every shard is as it was written" in out
    assert f"`acn data verify {prepared}`" in err


def test_a_plan_has_a_recipe_whose_options_are_given_in_one_string(acn, prepared):
    code, out, _ = acn("plan", "--config", "acn-tiny", "--gpus", "1", "--options", "--steps 7 --global_batch_size 32")
    assert code == 0
    assert "4,096 tokens, 7 steps" in out
    corpus = ("--data", str(prepared), "--options", "--steps null --epochs 2")
    code, out, _ = acn("plan", "--config", "acn-tiny", "--gpus", "1", *corpus)
    assert code == 0
    assert "x 16\n" in out, "the corpus says how long a block is"
    code, _, err = acn("plan", "--config", "acn-tiny", "--options", "--stepps 7")
    assert code == 2
    assert "there is no option --stepps: did you mean --steps?" in err
    code, _, err = acn("plan", "--options", "--steps '7")
    assert code == 2
    assert 'acn plan: error: options="--steps \'7": No closing quotation' in err


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_disowns_itself(acn, verb):
    text = " ".join(acn(verb, "--help", "all")[1].split())
    assert not re.search(r"(?:[A-Z\]}] |\. )(?:Not used|Unused|Ignored|Does nothing|No effect)[.:;,]", text)


def test_the_module_runs_like_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "pretain"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("acn: error: there is no verb pretain")
