"""What `acn` tells of itself: recipes to read and copy, the environment for a bug report, words for the shell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from launch.cli import VERBS
from launch.recipes import recipe_file, recipe_names, recipe_summary
from launch.verbs.env.facts import describe_environment

ROOT = Path(__file__).parents[2]


def test_the_recipes_are_listed_with_what_each_is_for(acn):
    code, out, _ = acn("recipes")
    assert code == 0
    assert out == acn("recipes", "list")[1]
    assert [line.split()[0] for line in out.splitlines()] == recipe_names()
    for name, line in zip(recipe_names(), out.splitlines(), strict=True):
        summary = recipe_summary(name)
        assert line.endswith(summary)
        assert summary.endswith(".")
        assert 20 < len(summary) < 100


def test_a_recipe_is_shown_as_it_stands_and_copied_where_nothing_is(acn, tmp_path):
    content = recipe_file("acn-mini").read_text()
    assert acn("recipes", "show", "acn-mini")[:2] == (0, content)
    assert acn("recipes", "show", "acn-mini.yaml")[:2] == (0, content)
    code, out, _ = acn("recipes", "copy", "acn-mini")
    assert (code, out) == (0, "recipe: acn-mini.yaml\n")
    assert acn("recipes", "copy", "acn-mini", "sub/mine.yaml")[0] == 0
    assert (tmp_path / "acn-mini.yaml").read_text() == (tmp_path / "sub" / "mine.yaml").read_text() == content
    (tmp_path / "acn-mini.yaml").write_text("mine")
    code, _, err = acn("recipes", "copy", "acn-mini")
    assert code == 2
    assert "file=acn-mini.yaml exists: choose another file" in err
    assert (tmp_path / "acn-mini.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "acn-mni"), "there is no recipe acn-mni: did you mean acn-mini?"),
        (("copy", "acn-mni"), "there is no recipe acn-mni: did you mean acn-mini?"),
        (("show",), "name is missing: which recipe to show: name one of acn-base"),
        (("shw", "acn-mini"), "'shw' is no action of `acn recipes`: did you mean show?"),
        (("show", "acn-mini", "x"), "file=x is not for show: leave it out"),
        (("list", "acn-mini"), "name=acn-mini is not for list: leave it out"),
        (("copy", "../recipes/acn-mini"), "there is no recipe ../recipes/acn-mini"),
    ],
)
def test_a_wrong_word_about_recipes_gets_the_right_one(acn, tmp_path, words, message):
    code, out, err = acn("recipes", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_a_block_to_paste_and_the_same_as_json(acn, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    code, block, err = acn("env")
    assert code == 0
    assert "paste this" in err
    facts = json.loads(acn("env", "--json")[1])
    assert list(facts) == ["acn-lm", "machine", "packages", "torch", "variables"]
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["machine"]["python"] == sys.version.split()[0]
    assert "gloo" in facts["torch"]["distributed"]
    assert facts["torch"]["devices"]
    assert facts["variables"]["OMP_NUM_THREADS"] == "3"
    for section, values in facts.items():
        assert f"{section}\n" in block
        assert all(f"  {name}" in block for name in values)


def test_the_environment_tells_no_secret_and_no_path(acn, monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, "hf_verysecretverysecretverysecret1234")
    monkeypatch.setenv("TORCH_LOGS", "https://me:verysecret@host/x")
    for words in (("env",), ("env", "--json")):
        out = acn(*words)[1]
        assert "verysecret" not in out
        assert str(Path.home()) not in out
        assert str(ROOT) not in out


def test_a_broken_torch_is_described_and_not_a_crash(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("launch.verbs.env.facts.find_spec", lambda name: object())
    assert "ModuleNotFoundError" in describe_environment()["torch"]["error"]


def offered(line: str, folder: Path) -> list[str]:
    """What a shell would offer at the end of `line`, by argcomplete's protocol (the answer is in descriptor 8)."""
    read, write = os.pipe()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "_ARGCOMPLETE": "1",
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
    }  # fmt: skip
    script = f"exec {sys.executable} -m launch 8>&{write}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=folder, pass_fds=[write], capture_output=True, text=True
    )
    os.close(write)
    with os.fdopen(read) as answer:
        words = answer.read().split("\n")
    assert done.returncode == 0, done.stderr
    return [word.strip() for word in words if word.strip()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("acn ", [*VERBS]),
        ("acn pr", ["prepare", "pretrain", "preflight", "predict"]),
        ("acn pretrain --val", ["--validation.every", "--validation.blocks"]),
        ("acn pretrain --config acn-m", ["acn-mini"]),
        ("acn plan --config ", [*recipe_names(), "mine.yaml"]),
        ("acn recipes show acn-ba", [name for name in recipe_names() if name.startswith("acn-ba")]),
        ("acn recipes ", ["list", "show", "copy"]),
        ("acn prepare --tokenizer_kind b", ["bpe"]),
        ("acn data v", ["verify"]),
        ("acn glue --tasks sst2,rt", ["sst2,rte"]),
        ("acn predict mi", ["mine.yaml"]),
    ],
)
def test_the_shell_is_offered_verbs_options_recipes_and_choices(tmp_path, line, words):
    pytest.importorskip("argcomplete")
    (tmp_path / "mine.yaml").write_text("")
    found = offered(line, tmp_path)
    if line.endswith("--val"):
        assert set(words) <= set(found)
    else:
        assert sorted(found) == sorted(words)


def test_a_report_says_how_its_numbers_were_made_and_opens_only_where_somebody_looks(acn, trained, tmp_path):
    code, out, err = acn("report", str(trained / "tuned"), "--output", "report", "--open")
    assert code == 0, err
    assert out == "report: report/index.html\n"
    page = tmp_path / "report" / "index.html"
    assert f"not opened, standard output is no terminal: open {page} in a browser" in err
    text = " ".join(page.read_text().split())
    assert re.search(r"measured \d{4}-\d\d-\d\d; (commit \w{10}( with changes)?; )?seeds 42; on .*core", text)
    assert "This page: " in text
    assert "cats</strong></a>: " in text
