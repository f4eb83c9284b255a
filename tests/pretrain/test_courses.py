"""Real runs of `acn pretrain` that follow a plan: budgets, growing batches, averages, branches, two phases."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from data_pipeline import CorpusConfig, PrepareConfig, prepare_corpus
from pretrain import ModelConfig, PretrainError, check_run
from pretrain.budget import TICKS, BatchWarmupConfig
from pretrain.checkpoints.folder import MARKER, newest_complete
from pretrain.observe.figures import read_metrics
from pretrain.optim.ema import EmaConfig
from pretrain.optim.optimizers import OptimConfig
from pretrain.optim.schedule import ScheduleConfig
from tests.conftest import sentences
from tests.pretrain.conftest import continued

MODEL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForMaskedLM.from_pretrained(folder).state_dict()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_course_is_the_same_after_a_restart_with_other_ranks(acn, recipe, tmp_path):
    """Growing batches on a budget of tokens, with an average: 2 ranks throughout, and 1 rank from step 3 on."""
    course = {
        "model": ModelConfig(**MODEL, max_position_embeddings=16),
        "steps": None,
        "tokens": 16.0 * (4 + 4 + 4 + 8 + 8 + 8) + 100,  # less than one batch more
        "batch_warmup": BatchWarmupConfig(start=4, steps=3),
        "schedule": ScheduleConfig(0.2, name="cosine"),
        "ema": EmaConfig(decay=0.9, every=1),
        "optim": OptimConfig(name="lamb"),
    }
    done = acn("pretrain", "--config", str(recipe("whole", nproc_per_node=2, **course)))
    assert done.returncode == 0, done.stderr
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    curves = read_metrics(whole)
    assert curves["train/samples"] == {1: 4, 2: 8, 3: 12, 4: 20, 5: 28, 6: 36}
    assert sorted(curves["validation_ema/accuracy_depth_02"]) == [3, 6]
    assert curves["validation_ema/loss"][6] != curves["validation/loss"][6]

    continued(whole, resumed, step=3)
    again = acn("pretrain", "--config", str(recipe("resumed", **course)))
    assert again.returncode == 0, again.stderr
    after = read_metrics(resumed)
    assert after["train/samples"] == {4: 20, 5: 28, 6: 36}
    for name in ("train/loss", "train/learning_rate", "validation_ema/loss"):
        expected = {step: value for step, value in curves[name].items() if step > 3}
        assert after[name] == pytest.approx(expected, rel=1e-5)
    for folder in ("model", "model-ema"):
        theirs = weights(whole / folder)
        for name, weight in weights(resumed / folder).items():
            torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow  # three runs
def test_a_branch_decays_from_its_checkpoint_and_leaves_its_source_alone(acn, recipe, tmp_path):
    stable = ScheduleConfig(0.3, name="wsd", decay_fraction=0.0)
    average = EmaConfig(decay=0.9, every=1)
    done = acn("pretrain", "--config", str(recipe("source", schedule=stable, ema=average)))
    assert done.returncode == 0, done.stderr
    source = tmp_path / "source"
    before = contents(source)
    branch = recipe(
        "branch",
        schedule=ScheduleConfig(name="decay"),
        branch_from=str(source / "checkpoints" / "step-0000003"),
        steps=6,
        ema=average,
    )
    done = acn("pretrain", "--config", str(branch))
    assert done.returncode == 0, done.stderr
    curves, theirs = read_metrics(tmp_path / "branch"), read_metrics(source)
    assert curves["train/learning_rate"] == pytest.approx({4: 0.75e-3, 5: 0.5e-3, 6: 0.25e-3})
    assert curves["train/samples"] == {4: 32, 5: 40, 6: 48}
    assert curves["train/loss"][4] == theirs["train/loss"][4], "the same weights see the same batch"
    assert curves["train/loss"][6] != theirs["train/loss"][6]
    assert contents(source) == before
    # a branch that is stopped goes on from its own checkpoint, on the same line down
    stopped = tmp_path / "branch" / "checkpoints" / "step-0000006"
    progress = json.loads((stopped / MARKER).read_text())["progress"]
    assert progress["branch"] == {"step": 3, "rate": pytest.approx(1e-3)}
    more = acn("pretrain", "--config", str(branch), "--steps", "8")
    assert more.returncode == 0, more.stderr
    rates = read_metrics(tmp_path / "branch")["train/learning_rate"]
    assert [rates[step] for step in (7, 8)] == pytest.approx([1e-3 * 2 / 6, 1e-3 / 6])


@pytest.fixture
def longer(prepared, tmp_path) -> Path:
    """Blocks of 32 tokens with the tokenizer of `prepared`."""
    (tmp_path / "train.txt").write_text(sentences(300, seed=5))
    (tmp_path / "validation.txt").write_text(sentences(60, seed=6))
    corpus = CorpusConfig(train=str(tmp_path / "train.txt"), validation=str(tmp_path / "validation.txt"))
    output = tmp_path / "longer"
    prepare_corpus(
        PrepareConfig(corpus=corpus, output=str(output), tokenizer=str(prepared / "tokenizer"), seq_length=32)
    )
    return output


@pytest.mark.slow  # two runs
def test_a_second_phase_begins_with_the_weights_of_the_first_on_longer_blocks(acn, recipe, tmp_path, longer):
    model = ModelConfig(**MODEL, max_position_embeddings=32)
    done = acn("pretrain", "--config", str(recipe("first", model=model)))
    assert done.returncode == 0, done.stderr
    second = recipe(
        "second",
        data=str(longer),
        model=model,
        init_from=str(tmp_path / "first"),
        seed=3,
        optim=OptimConfig(lr=1e-9),
        steps=1,
    )
    done = acn("pretrain", "--config", str(second))
    assert done.returncode == 0, done.stderr
    first = weights(tmp_path / "first" / "model")
    for name, weight in weights(tmp_path / "second" / "model").items():
        torch.testing.assert_close(weight, first[name], atol=1e-7, rtol=0)
    assert newest_complete(tmp_path / "second").progress.samples == 8, "the corpus is read from its start"


@pytest.mark.slow  # two runs
def test_muon_goes_on_with_other_ranks_where_nothing_is_sharded(acn, recipe, tmp_path):
    course = {
        "model": ModelConfig(**MODEL, max_position_embeddings=16),
        "zero_stage": 0,
        "optim": OptimConfig(name="muon"),
    }
    done = acn("pretrain", "--config", str(recipe("whole", nproc_per_node=2, **course)))
    assert done.returncode == 0, done.stderr
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    continued(whole, resumed, step=3)
    again = acn("pretrain", "--config", str(recipe("resumed", **course)))
    assert again.returncode == 0, again.stderr
    curves, after = read_metrics(whole)["train/loss"], read_metrics(resumed)["train/loss"]
    assert after == pytest.approx({step: curves[step] for step in (4, 5, 6)}, rel=1e-4)


@pytest.mark.slow  # four runs
def test_muon_trains_alike_whatever_zero_shards(acn, recipe, tmp_path):
    """Its iteration is in bf16, where the last bits of a gradient can be seen."""
    model = ModelConfig(**MODEL, max_position_embeddings=16)
    course = {"model": model, "optim": OptimConfig(name="muon", lr=1e-2, grad_clip=0.0), "nproc_per_node": 2}
    curves = []
    for stage in (0, 1, 2, 3):
        done = acn("pretrain", "--config", str(recipe(f"stage{stage}", zero_stage=stage, **course)))
        assert done.returncode == 0, done.stderr
        curves.append(read_metrics(tmp_path / f"stage{stage}")["train/loss"])
    assert curves[0][6] < curves[0][1] - 0.05
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], rel=1e-3)


@pytest.mark.slow  # two seconds of training, and a second run
def test_a_budget_of_hours_counts_over_restarts_and_ends_the_run(acn, recipe, tmp_path):
    config = recipe("run", steps=None, hours=2 / 3600, nproc_per_node=2)
    done = acn("pretrain", "--config", str(config))
    assert done.returncode == 0, done.stderr
    progress = newest_complete(tmp_path / "run").progress
    assert progress.seconds >= 2
    rates = list(read_metrics(tmp_path / "run")["train/learning_rate"].values())
    assert all(0 < rate <= 1e-3 for rate in rates)
    assert rates[-1] < max(rates)
    last_tick = 1e-3 * ScheduleConfig().factor(TICKS - 1.0, TICKS)
    assert all(rate > last_tick for rate in rates[:-1]), "no step began after the budget was used up"
    again = acn("pretrain", "--config", str(config))
    assert again.returncode == 0, again.stderr
    assert newest_complete(tmp_path / "run").progress == progress


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"tokens": 1e6}, "steps=6 and tokens=1000000.0 are several budgets.*--steps null"),
        ({"steps": None, "epochs": 1e-4}, "epochs=0.0001 is less than the first global batch"),
        ({"schedule": ScheduleConfig(name="decay")}, "schedule.name=decay .* give branch_from"),
        ({"branch_from": "a", "init_from": "b"}, "branch_from and init_from are both given"),
        ({"branch_from": "/nowhere"}, "branch_from: /nowhere is neither a run nor a checkpoint"),
        ({"batch_warmup": BatchWarmupConfig(start=1, steps=9)}, "micro_batch_size=2 does not divide"),
        ({"optim": OptimConfig(name="muon")}, "optim.grad_clip=0.5 with optim.name=muon"),
        ({"ema": EmaConfig(decay=1.0)}, "ema.decay=1.0 must be in"),
    ],
)
def test_a_course_that_cannot_be_followed_is_refused(tiny_run, overrides, message):
    with pytest.raises(PretrainError, match=message):
        check_run(tiny_run(**overrides), world_size=1)


def test_only_a_fitting_run_is_a_beginning(tiny_run, tmp_path, longer):
    source = tiny_run(output=str(tmp_path / "source"), model=ModelConfig(**MODEL, max_position_embeddings=32))
    write_marker(source, step=3, samples=24, rate=1e-3)
    start = {"model": source.model, "branch_from": source.output}
    check_run(tiny_run(**start), world_size=1)
    with pytest.raises(PretrainError, match="budget of 3 steps in all is used up"):
        check_run(tiny_run(**start, steps=3), world_size=1)
    with pytest.raises(PretrainError, match="order: seq_length=32"):
        check_run(tiny_run(**start, data=str(longer)), world_size=1)
    with pytest.raises(PretrainError, match=r"optim.name=lamb, but .* has the states of adamw"):
        check_run(tiny_run(**start, optim=OptimConfig(name="lamb")), world_size=1)
    phase = {"data": str(longer), "init_from": source.output}
    check_run(tiny_run(**phase, model=source.model), world_size=1)
    with pytest.raises(PretrainError, match="model: max_position_embeddings=64"):
        check_run(tiny_run(**phase, model=ModelConfig(**MODEL, max_position_embeddings=64)), world_size=1)


def test_weights_of_another_vocabulary_are_refused(tiny_run, tmp_path):
    source = tiny_run(output=str(tmp_path / "source"))
    write_marker(source, order={"tokenizer": "another"})
    with pytest.raises(PretrainError, match="trained with another tokenizer"):
        check_run(tiny_run(init_from=source.output), world_size=1)


def test_muon_does_not_change_its_ranks_while_zero_shards_it(tiny_run):
    config = tiny_run(optim=OptimConfig(name="muon", grad_clip=0.0))
    write_marker(config)
    check_run(config, world_size=1)
    with pytest.raises(PretrainError, match=r"optim.name=muon: .* written by 1 rank"):
        check_run(config, world_size=2)


def write_marker(config, order=None, **progress):
    """The marker of a checkpoint with no files of a run with `config`: enough for the checks."""
    from dataclasses import asdict, replace

    from data_pipeline import TokenStream
    from pretrain.check import first_progress

    stream = TokenStream(Path(config.data), config.stream, config.masking)
    first = replace(first_progress(config, stream, world_size=1), **progress)
    first.order.update(order or {})
    folder = Path(config.output) / "checkpoints" / "step-0000003"
    folder.mkdir(parents=True)
    (Path(config.output) / "config.yaml").write_text("")
    (folder / MARKER).write_text(json.dumps({"progress": asdict(first), "files": {}}))
