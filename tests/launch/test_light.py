"""Options are parsed, and plain mistakes found, without the libraries that take seconds to import."""

import json
import os
import subprocess
import sys
from pathlib import Path

from launch.cli import VERBS

ROOT = Path(__file__).parents[2]
# above a second together, and what imports one of them
HEAVY = (
    *("torch", "transformers", "deepspeed", "datasets", "pyarrow", "tokenizers", "mlflow", "matplotlib", "sklearn"),
    *("scipy", "pandas", "accelerate", "huggingface_hub", "numpy"),
)
# what only ranks, readers of the Hub and pictures need
HEAVIEST = ("deepspeed", "datasets", "mlflow", "matplotlib", "sklearn")

HELP = """
import contextlib, io, json, sys
from launch.cli import VERBS, main

found = {}
for verb in VERBS:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main([verb, "--help"])
        except SystemExit as end:
            found[verb] = {"code": end.code, "help": said.getvalue()}
    found[verb]["imported"] = [name for name in sys.argv[1:] if name in sys.modules]
print(json.dumps(found))
"""
COMPLETION = """
import json, sys
from launch.cli import VERBS, _module
from launch.completion import completion_parser

completion_parser(VERBS, _module, [])
found = [name for name in [*sys.argv[1:], "jsonargparse"] if name in sys.modules]
for verb in VERBS:
    completion_parser(VERBS, _module, [verb])
print(json.dumps(found + [name for name in sys.argv[1:] if name in sys.modules]))
"""
RUN = """
import json, sys
from launch.cli import main

names, *words = map(json.loads, sys.argv[1:])
code = main(words[0])
print(json.dumps({"code": code, "imported": [name for name in names if name in sys.modules]}))
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process that has imported nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )


def acn(names: tuple[str, ...], *words: str) -> tuple[int, list[str], str]:
    """Exit code of `acn WORDS`, those of the modules `names` that it imported, and its stderr."""
    done = python(RUN, json.dumps(names), json.dumps(words))
    outcome = json.loads(done.stdout.splitlines()[-1])
    return outcome["code"], outcome["imported"], done.stderr


def test_no_verb_imports_anything_heavy_for_its_help():
    found = json.loads(python(HELP, *HEAVY).stdout)
    assert set(found) == set(VERBS)
    for verb, outcome in found.items():
        assert outcome["code"] == 0, verb
        assert f"usage: acn {verb}" in outcome["help"], verb
        assert outcome["imported"] == [], verb


def test_completing_words_imports_nothing_heavy_and_verbs_not_even_what_reads_options():
    assert json.loads(python(COMPLETION, *HEAVY).stdout) == []


def test_mistakes_in_plain_fields_are_all_named_without_torch(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    code, imported, error = acn(
        HEAVY,
        *("pretrain", "--data", str(tmp_path / "absent"), "--output", str(tmp_path / "full")),
        *("--steps", "-1", "--optim.lr", "0", "--deepspeed.bf16.enabled", "true", "--tracking.mlflow", "nowhere"),
        *("--nproc_per_node", "0"),
    )
    assert code == 2
    assert imported == []
    assert "7 problems" in error
    for named in ("steps=-1", "optim.lr=0", "deepspeed.bf16.enabled", "tracking.mlflow", "nproc_per_node=0"):
        assert named in error
    assert f"{tmp_path / 'absent'} does not exist" in error
    assert "is not a run of `acn pretrain`" in error


def test_a_complete_check_imports_neither_deepspeed_nor_what_draws_and_records(prepared, tmp_path):
    words = ("--data", str(prepared), "--output", str(tmp_path / "run"), "--model.num_attention_heads", "7")
    code, imported, error = acn(HEAVIEST, "pretrain", *words)
    assert code == 2
    assert "num_attention_heads=7" in error
    assert imported == []
    assert not (tmp_path / "run").exists()


def test_a_plan_imports_nothing_heavy():
    code, imported, _ = acn(HEAVY, "plan", "--config", "acn-base", "--nodes", "4")
    assert code == 0
    assert imported == []


def test_a_plan_for_a_corpus_imports_what_reads_the_corpus_alone(prepared):
    code, imported, error = acn(HEAVY, "plan", "--config", "acn-tiny", "--data", str(prepared), "--gpus", "1")
    assert code == 0, error
    assert set(imported) <= {"numpy", "pyarrow", "tokenizers"}
