"""Where an option's value comes from: the command line, the environment, a file of --config, the default."""

import shutil

import pytest
import yaml

from launch.cli import VERBS, read_args


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "steps: 3\nseed: 3\noptim: {lr: 0.3, weight_decay: 0.3}\ndeepspeed: {a: 3}\ndata: file\noutput: file\n"
    )
    return tmp_path


def test_the_environment_wins_over_a_file_and_the_command_line_over_both(monkeypatch):
    monkeypatch.setenv("ACN_PRETRAIN__STEPS", "2")
    monkeypatch.setenv("ACN_PRETRAIN__OPTIM__LR", "0.2")
    monkeypatch.setenv("ACN_PRETRAIN__OPTIM__BETAS", "[0.2, 0.22]")
    monkeypatch.setenv("ACN_PRETRAIN__DEEPSPEED", "{b: 2}")
    monkeypatch.setenv("ACN_PRETRAIN__DATA", "variable")
    args = read_args("pretrain", ["pretrain", "--config", "mine.yaml", "--output", "word"])
    assert (args.steps, args.seed, args.data, args.output) == (2, 3, "variable", "word")
    assert (args.optim.lr, args.optim.weight_decay, list(args.optim.betas)) == (0.2, 0.3, [0.2, 0.22])
    assert args.deepspeed == {"b": 2}
    args = read_args("pretrain", ["pretrain", "--steps", "1", "--optim.lr", "0.1", "--config", "mine.yaml"])
    assert (args.steps, args.optim.lr) == (1, 0.1), "wherever --config stands"


def test_a_file_given_in_the_environment_is_a_file(monkeypatch, here):
    monkeypatch.setenv("ACN_PRETRAIN__CONFIG", "mine.yaml")
    assert read_args("pretrain", ["pretrain"]).steps == 3
    monkeypatch.setenv("ACN_PRETRAIN__STEPS", "2")
    assert read_args("pretrain", ["pretrain"]).steps == 2
    (here / "other.yaml").write_text("steps: 5\nseed: 5\n")
    args = read_args("pretrain", ["pretrain", "--config", "other.yaml"])
    assert (args.steps, args.seed, args.data) == (2, 5, "file"), "the command line's file after it"


def test_of_several_files_and_words_the_last_counts(here):
    (here / "other.yaml").write_text("seed: 5\noptim: {lr: 0.5}\n")
    args = read_args("pretrain", ["pretrain", "--config", "mine.yaml", "--config=other.yaml", "--steps=6", "--steps=7"])
    assert (args.seed, args.optim.lr, args.optim.weight_decay, args.steps) == (5, 0.5, 0.3, 7)


def test_a_group_in_the_environment_gives_way_to_its_single_option(monkeypatch):
    monkeypatch.setenv("ACN_PRETRAIN__OPTIM", "{lr: 0.2, weight_decay: 0.2}")
    monkeypatch.setenv("ACN_PRETRAIN__OPTIM__LR", "0.25")
    args = read_args("pretrain", ["pretrain", "--config", "mine.yaml"])
    assert (args.optim.lr, args.optim.weight_decay) == (0.25, 0.2)


def test_positionals_and_lists_come_from_the_environment_too(monkeypatch, here):
    (here / "report.yaml").write_text("results: [file]\noutput: file\n")
    monkeypatch.setenv("ACN_REPORT__RESULTS", "[a, b]")
    args = read_args("report", ["report", "--config", "report.yaml"])
    assert (args.results, args.output) == (["a", "b"], "file")
    assert read_args("report", ["report", "c", "--config", "report.yaml"]).results == ["c"]
    monkeypatch.setenv("ACN_LAUNCH__ENGINE", "torchrun")
    assert read_args("launch", ["launch"]).engine == "torchrun"
    assert read_args("launch", ["launch", "slurm"]).engine == "slurm"


OPTION = {"prepare": "vocab_size", "data": "seed", "pretrain": "seed", "preflight": "seed", "export": "depth",
          "glue": "seed", "compress": "depth", "study": "max_eval_samples", "demo": "steps"}  # fmt: skip
GIVEN = {"data": ["show", "d"], "pretrain": ["--data=d", "--output=o"], "export": ["s", "o"],
         "glue": ["--model=m", "--tasks=t", "--output=o"], "compress": ["--model=m", "--output=o"],
         "study": ["noise", "--model=m", "--output=o"]}  # fmt: skip


@pytest.mark.parametrize("verb", OPTION)
def test_the_order_is_that_of_every_verb(monkeypatch, here, verb):
    option = OPTION[verb]
    (here / "a.yaml").write_text(yaml.safe_dump({option: 33}))
    words = [verb, *GIVEN.get(verb, []), "--config", "a.yaml"]
    assert getattr(read_args(verb, words), option) == 33
    monkeypatch.setenv(f"ACN_{verb.upper()}__{option.upper()}", "22")
    assert getattr(read_args(verb, words), option) == 22
    assert getattr(read_args(verb, [verb, f"--{option}", "11", *words[1:]]), option) == 11


def test_a_continued_run_s_own_configuration_gives_way_to_the_environment(acn, monkeypatch, trained, here):
    shutil.copytree(trained / "run", here / "run")
    config = here / "run" / "config.yaml"
    said = yaml.safe_load(config.read_text()) | {"output": str(here / "run")}
    config.write_text(yaml.safe_dump(said))
    monkeypatch.setenv("ACN_PRETRAIN__STEPS", "6")
    code, _, err = acn("pretrain", "--config", str(config))
    assert code == 0, err
    after = yaml.safe_load(config.read_text())
    assert {key: after[key] for key in after if after[key] != said[key]} == {"steps": 6}


def test_a_variable_that_means_nothing_is_named_and_one_for_another_verb_left_alone(acn, monkeypatch):
    for name in ("ACN_PRETRAIN__STEPPS", "ACN_PLAN_GPUS", "ACN_GLEU__MODEL", "ACN_XYZZY"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("ACN_GLUE__TASKS", "sst2")
    monkeypatch.setenv("ACN_EXPORT__SOURCE", "run")
    monkeypatch.setenv("ACN_CREDENTIALS", "{}")
    code, _, err = acn("plan", "--config", "nowhere.yaml")
    assert code == 2
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert [line.partition(" variable ")[2] for line in warnings] == [
        "ACN_GLEU__MODEL: did you mean ACN_GLUE__MODEL?",
        "ACN_PLAN_GPUS: did you mean ACN_PLAN__GPUS?",
        "ACN_PRETRAIN__STEPPS: did you mean ACN_PRETRAIN__STEPS?",
        "ACN_XYZZY",
    ]


def test_a_variable_of_this_verb_that_means_nothing_is_a_mistake(acn, monkeypatch):
    for verb in VERBS:
        monkeypatch.setenv(f"ACN_{verb.upper()}__XYZZY", "3")
        code, _, err = acn(verb)
        assert code == 2
        assert f"there is no option for the environment variable ACN_{verb.upper()}__XYZZY" in err
        monkeypatch.delenv(f"ACN_{verb.upper()}__XYZZY")
