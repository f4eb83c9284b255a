"""All mistakes of a command are told in one round: words, types, choices, files, variables, and what the verb finds."""

import typing

import pytest

from launch.cli import VERBS, read_args
from modeling import CONNECTIVITIES
from modeling.configuration_acn import POSITION_EMBEDDINGS
from pretrain import ModelConfig
from tests.launch.test_door import module

D = ["--data", "d", "--output", "o"]
ROUNDS = {
    "choices, types, unknown words and numbers": (
        ["pretrain", "--dat", "d", "--stps", "3", "--steps", "x", "--precision", "fp99", "--model.connectivity", "foo",
         "--optim.lr", "-1", "--output", "o"],
        ["steps=x must be int | null", "precision=fp99 must be one of: auto, fp32", "--dat: did you mean --data?",
         "model.connectivity=foo must be one of: acn, residual, feedforward, hybrid", "--stps: did you mean --steps?",
         "optim.lr=-1.0 must be above 0"],
    ),
    "a file": (
        ["pretrain", "--config", "bad.yaml", *D, "--seed", "--zero_stage", "9"],
        ["optim.lr=x must be float", "model.connectivity=dense must be one of", "--seed has no value: give one",
         "zero_stage=9 must be one of", "there is no option optim.lrr: did you mean optim.lr?", "no option new.a",
         "there is no option foo", "d does not exist"],
    ),
    "files that cannot be read": (
        ["pretrain", "--config", "absent", "--config", "broken.yaml", "--steps", "-1"],
        ["config=absent: there is no such file", "config=broken.yaml: ", "steps=-1 must be above 0"],
    ),
    "groups of options": (
        ["pretrain", "--optim", "3", "--config", "{stream: 4}", *D, "--deepspeed", "5", "--steps", "0"],
        ["optim=3 must be the options of optim", "stream=4 must be", "deepspeed=5 must be", "steps=0 must be",
         "d does not exist"],
    ),
    "groups that are empty, and values of words that are unknown": (
        ["prepare", "--config", "{corpus: null}", "--output", "o", "--seq_length", "x", "--foo=a b", "--bar", "c d"],
        ["corpus=None must be the options of corpus", "seq_length=x must be int", "no option --foo", "no option --bar"],
    ),
    "names of the model": (
        ["pretrain", *D, "--model.hidden_act", "gelo", "--model.position_embedding_type", "rop", "--seed", "-1"],
        ["model.hidden_act='gelo' is unknown: use one of", "position_embedding_type=rop must be one of", "seed=-1 must",
         "d does not exist"],
    ),
    "widths of the model": (
        ["pretrain", *D, "--model.num_attention_heads", "7", "--seed", "-1"],
        ["model.hidden_size=768 is not a multiple of num_attention_heads=7", "seed=-1 must", "d does not exist"],
    ),
    "positionals": (["export", "run", "--depth", "x"], ["depth=x must be int | null", "missing: OUTPUT"]),
    "of glue": (
        ["glue", "--model", "m", "--tasks", "cola", "--output", "o", "--learning_rate", "x", "--batch_size", "0",
         "--t"],
        ["learning_rate=x must be float | null", "there is no option --t", "batch_size=0: give 1 or more"],
    ),
    "of compress": (
        ["compress", "--model", "m", "--output", "o", "--tolerance", "x", "--depth", "-1"],
        ["tolerance=x must be float", "depth=-1: give 0 or more"],
    ),
    "of study": (
        ["study", "noisee", "--model", "m", "--output", "o", "--epochs", "x", "--seeds", "y", "--tracking.mlflow", "z"],
        ["epochs=x must be", "seeds=y: give numbers", "studies=noisee: give each of", "'z' is no tracking URI"],
    ),
    "of publish": (
        ["publish", "m", "--depths", "x", "--dry_run", "--zzz"],
        ["there is no option --zzz", "missing: --repo_id", "depths=x: give", "dry_run writes a folder"],
    ),
    "of prepare": (
        ["prepare", "--corpus.train", "--vocab_size", "x", "--seq_length", "0"],
        ["--corpus.train has no value", "vocab_size=x must be int", "seq_length=0 must be", "output is empty"],
    ),
    "of demo": (["demo", "--steps", "0", "--corpus_mb", "x"], ["corpus_mb=x must be float", "steps=0 must be above 0"]),
    "of track": (
        ["track", "snc", "runs", "--tracking.mlflow", "nowhere", "--y"],
        ["there is no option --y", "'snc' is no action", "'nowhere' is no tracking URI"],
    ),
    "of data": (
        ["data", "shw", "d", "--split", "test", "--blocks", "0", "--masking.probability", "7"],
        ["split=test must be one of: train, validation", "'shw' is no action", "blocks=0 must",
         "masking.probability=7"],
    ),
    "of report": (["report", "absent", "--outptu", "o"],
                  ["--outptu: did you mean --output?", "absent is not a folder"]),
    "of preflight": (
        ["preflight", "--preflight.seconds", "x", "--steps", "-1", "--data="],
        ["preflight.seconds=x must be float", "steps=-1 must be above 0", "data is empty"],
    ),
    "of plan, and of its recipe": (
        ["plan", "--nodes", "0", "--gpu", "foo", "--gpus", "x", "--options", "--steps -1 --zero_stage 7 --stp",
         "--data="],
        ["gpus=x must be int", "zero_stage=7 must be one of", "--stp: did you mean --steps?", "steps=-1 must",
         "nodes=0 must be at least 1", "gpu=foo: not known", "data is empty"],
    ),
    "of launch, and of its recipe": (
        ["launch", "slurm", "--nodes", "0", "--options", "--zero_stage 7 --stepps 3", "--kubernetes.kind", "foo",
         "--slurm.time", "soon", "--deepspeed.hostfile", "hosts"],
        ["kubernetes.kind=foo must be one of: trainjob, job", "nodes=0 must be at least 1", "slurm.time='soon'",
         "data is missing", "output is missing", "zero_stage=7 must be one of", "--stepps: did you mean --steps?",
         "deepspeed.hostfile does nothing on slurm"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ROUNDS)
def test_mistakes_of_all_kinds_are_told_together(acn, tmp_path, what):
    words, messages = ROUNDS[what]
    (tmp_path / "bad.yaml").write_text(
        "steps: 7\nfoo: 1\noptim: {lrr: 2, lr: x}\nmodel: {connectivity: dense}\nnew: {a: 1}\n"
    )
    (tmp_path / "broken.yaml").write_text("steps: [")
    code, out, err = acn(*words)
    assert (code, out) == (2, "")
    assert [message for message in messages if message not in err] == []
    assert f"{len(messages)} problems:" in err, "and nothing that is only a consequence"
    assert err.count("\n  - ") == len(messages)


def test_every_verb_tells_of_an_unknown_word_and_a_wrong_type_together(acn):
    for verb in VERBS:
        parameters = typing.get_type_hints(module(verb).Args)
        number = next((name for name, hint in parameters.items() if hint in (int, float, int | None)), None)
        words = ["--xyzzy"] if number is None else [f"--{number}=many", "--xyzzy"]
        code, _, err = acn(verb, *words)
        assert code == 2
        assert "there is no option --xyzzy" in err
        assert number is None or f"{number}=many must be" in err


def test_variables_have_a_part_in_it(acn, monkeypatch):
    monkeypatch.setenv("ACN_PRETRAIN__ZERO_STAGE", "9")
    monkeypatch.setenv("ACN_PRETRAIN__STEPPS", "3")
    code, _, err = acn("pretrain", *D, "--optim.lr", "0")
    assert code == 2
    for line in ("zero_stage=9 must be one of: 0, 1, 2, 3 (ACN_PRETRAIN__ZERO_STAGE)", "optim.lr=0.0 must be above 0",
                 "ACN_PRETRAIN__STEPPS: did you mean ACN_PRETRAIN__STEPS?", "d does not exist"):  # fmt: skip
        assert line in err


def test_the_names_of_the_model_are_those_that_it_has():
    hints = typing.get_type_hints(ModelConfig)
    assert typing.get_args(hints["connectivity"]) == tuple(CONNECTIVITIES)
    assert typing.get_args(hints["position_embedding_type"]) == tuple(POSITION_EMBEDDINGS)
    assert ModelConfig(hidden_act="mish").problems() == [], "a rare one of transformers'"


ABBREVIATED = ["--conf", "--hel", "--help_all", "--print_conf", "--no", "--no-dry_run", "--no_preflight", "--no-help"]


@pytest.mark.parametrize("verb", VERBS)
def test_an_abbreviated_option_is_a_mistake(acn, verb):
    """Every option of every verb less its last letter, and what other parsers take for one."""
    from launch.options import build_parser

    names = build_parser(f"acn {verb}", module(verb).Args, VERBS[verb].positionals).names
    short = {f"--{name[:-1]}" for name in names} - {f"--{name}" for name in names}
    wrong = [*sorted(short), *ABBREVIATED]
    code, out, err = acn(verb, *(f"{name}=1" for name in wrong))
    assert (code, out) == (2, "")
    assert [name for name in wrong if f"there is no option {name}" not in err] == []


def test_a_sound_command_line_is_read_once(acn, monkeypatch):
    """What a mistake changes in the parser does not reach the next one."""
    assert acn("plan", "--gpus", "x")[0] == 2
    assert read_args("plan", ["plan", "--gpus", "3"]).gpus == 3
