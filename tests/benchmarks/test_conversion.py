"""The conversion's budget: the original and the ACN made of it, treated alike, and a page true to the numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks.study import page
from benchmarks.study.__main__ import main
from benchmarks.study.claim import Claim
from benchmarks.study.commands import Home
from benchmarks.study.conversion import similarity, texts
from benchmarks.study.conversion.budget import CONVERT, CONVERTED, ORIGINAL, Fraction, supervised
from benchmarks.study.conversion.jobs import commands, plan
from benchmarks.study.conversion.page import in_short
from benchmarks.study.driver import CLAIM_FILE, Study
from benchmarks.study.process import Processes
from benchmarks.study.records import claim_home
from benchmarks.study.rules import CONVERSION
from data_pipeline import load_tokenizer
from launch.cli import read_args
from modeling import AcnModel, load_model
from tests.benchmarks.test_study import Commands, finetuned_seed
from tests.conftest import sentences
from tests.pretrain.distil.conftest import save_residual

HOME = Home(Path("study"), None, "glue", source=Path("minilm"))
CONVERTED_DEEP, ORIGINAL_DEEP = supervised(CONVERTED, "deep"), supervised(ORIGINAL, "deep")
RATES = {ORIGINAL: 1e-4, CONVERTED: 4e-4, CONVERTED_DEEP: 2e-4, ORIGINAL_DEEP: 5e-5}
SCORES = {
    ORIGINAL: (0.5, 0.5, 0.5, 0.9), CONVERTED: (0.5, 0.8, 0.87, 0.88), CONVERTED_DEEP: (0.5, 0.8, 0.89, 0.89),
    ORIGINAL_DEEP: (0.5, 0.6, 0.8, 0.9),
}  # fmt: skip


def result_of(job, home=None):
    """Made up: the original needs all layers, the converted model two, with depth supervision all the fewer."""
    if job.kind == "corpus":
        return {"train_tokens": 1000, "seq_length": 128}
    if job.kind == "pretrain":
        return {"tokens": 4e6, "match": 0.25}
    if job.kind == "similarity":
        return {"spearman_by_depth": [0.1, 0.2, 0.3], "pairs": 5}
    if job.kind == "tune":
        score = 0.9 - abs(job.rate - RATES[job.arm])
        cut = job.rate if job.arm == CONVERTED else 0.0  # larger rates are better for two layers
        return {"score": score, "depth_scores": [0.5, 0.5, 0.8 + cut, score]}
    wiggle = (0.0, 0.01, -0.01)
    seeds = [
        finetuned_seed(seed, [score + more for score in SCORES[job.arm]])
        | {"connectivity": job.arm.connectivity, "task": job.task, "metric": "accuracy"}
        for seed, more in zip((1, 2, 3), wiggle, strict=True)
    ]
    return {"seeds": seeds}


def finished(folder, tasks=("sst2", "stsb")) -> Path:
    """The file of a study whose jobs are made up."""
    home = replace(HOME, path=folder)
    claim_home(CONVERT, home, tasks)
    study = Study(CONVERT, home, plan(CONVERT, tasks), Commands(), replace(CONVERSION, collect=result_of))
    assert study.run(3600) == 0
    return folder / CLAIM_FILE


def test_every_job_comes_after_those_it_needs_and_all_arms_have_every_task():
    jobs = plan(CONVERT, CONVERT.tasks)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert all(set(job.after) <= set(names[:i]) for i, job in enumerate(jobs))
    assert {(job.arm, job.task) for job in jobs if job.kind == "finetune"} == {
        (arm, task) for arm in RATES for task in CONVERT.tasks
    }
    assert not any(job.kind == "similarity" for job in plan(CONVERT, ("sst2",)))


def test_the_verbs_understand_every_command():
    for job in plan(CONVERT, CONVERT.tasks):
        for command in commands(CONVERT, job, HOME, 1e-4, 0.5):
            if command[2] == "launch.cli":
                read_args(command[3], command[3:])  # raises on an unknown option


def test_between_arms_only_the_model_the_rate_and_the_supervision_differ():
    told = {"--model", "--learning_rate", "--output"}
    options = []
    for arm, rate in RATES.items():
        job = next(job for job in plan(CONVERT, CONVERT.tasks) if (job.kind, job.arm) == ("finetune", arm))
        (command,) = commands(CONVERT, job, HOME, rate, None)
        options.append(dict(zip(command[4::2], command[5::2], strict=True)))
    original, converted, converted_deep, original_deep = options
    assert {name for name in original if original[name] != converted[name]} == told
    assert original["--model"] == original_deep["--model"] == "minilm"
    for plain, deep in ((converted, converted_deep), (original, original_deep)):
        assert {*deep} - {*plain} == {"--supervision.kind"}
        assert {name for name in plain if plain[name] != deep[name]} == told - {"--model"}


def test_each_arm_is_fine_tuned_at_the_rate_that_was_best_for_it(tmp_path):
    jobs = json.loads(finished(tmp_path / "study").read_text())["cells"]
    taken = {(job["connectivity"], job["variant"], job["rate"]) for job in jobs if job["kind"] == "finetune"}
    assert taken == {(arm.connectivity, arm.variant, rate) for arm, rate in RATES.items()}
    assert {job["seed"] for job in jobs} == {0}


def test_the_page_says_what_was_lost_and_whether_the_goals_are_reached(tmp_path):
    claim = Claim.read(finished(tmp_path / "study"))
    told = list(in_short(claim))
    assert "4.0 million tokens" in told[0]
    assert told[1] == (
        "sst2: whole, the converted model scores 0.880, the original 0.900: 2.0 points less (goal: at most 1.5 less, "
        "missed). With 2 of 3 layers it scores 0.870, 1.0 points less (goal: at most 1 less, reached); the original "
        "0.500."
    )
    assert told[2] == (
        "sst2: whole, the converted model with depth supervision (deep) scores 0.890, the original 0.900: 1.0 points "
        "less (goal: at most 1.5 less, reached). With 2 of 3 layers it scores 0.890, 0.0 points less (goal: at most 1 "
        "less, reached); the original 0.500."
    )
    assert told[3].startswith("sst2: whole, the original with depth supervision (deep) scores 0.900")
    text = page.render([claim])
    assert text.index("From a BERT to an ACN") < text.index("How this page is made")
    assert told[-1] == (
        "sst2, 8,000 examples: at the rate that is best for the whole converted model, 0.0004, it scores 0.900, and "
        "0.800 with 2 of 3 layers; at the one that is best for these, 0.0016, 0.899 and 0.802."
    )
    assert re.search(r"original *\| *0.0001 *\| *0.9000", text)
    (picture,) = page.pictures(claim)
    picture.draw(tmp_path / picture.file)
    assert (tmp_path / picture.file).stat().st_size > 5000


def test_nothing_follows_where_the_original_is_at_chance(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, ORIGINAL, (0.5, 0.5, 0.5, 0.54))
    told = list(in_short(Claim.read(finished(tmp_path / "study", ("sst2",)))))[1]
    assert told.endswith("a constant answer (0.500): nothing follows.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nowhere"], "source=nowhere has no config.json"),
        (["--variants", "plain"], "variants=plain is for the other budgets"),
        (["--tasks", "cola"], "tasks: budget convert-2h has no cola: use sst2, mrpc"),
        ([], "tasks: sst2 needs --glue_dir"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(options, message, tmp_path, capsys):
    assert main(["--budget", "convert-2h", "--output", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_source_is_nothing_for_the_budgets_of_twins(tmp_path, capsys):
    assert main(["--budget", "smoke", "--output", str(tmp_path / "out"), "--source", str(tmp_path)]) == 2
    assert "is for budget convert-2h" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------
# what its jobs run


@pytest.fixture
def original(prepared, tmp_path) -> Path:
    """A small model with short residuals."""
    return save_residual(prepared, tmp_path / "original", max_position_embeddings=128)


@pytest.fixture
def glue_dir(tmp_path) -> Path:
    """Two tasks of GLUE's form, with texts of the small corpus's words."""
    told = iter(sentences(400, seed=3).splitlines())
    for split, rows in (("train", 40), ("validation", 20)):
        similar = [float(i % 6) for i in range(rows)]
        tables = {
            "sst2": {"sentence": [next(told) for _ in range(rows)], "label": [i % 2 for i in range(rows)]},
            "stsb": {"sentence1": [next(told) for _ in range(rows)], "sentence2": [next(told) for _ in range(rows)],
                     "label": similar},
        }  # fmt: skip
        for task, columns in tables.items():
            (tmp_path / "glue" / task).mkdir(parents=True, exist_ok=True)
            pq.write_table(
                pa.table(columns | {"idx": list(range(rows))}), tmp_path / "glue" / task / f"{split}.parquet"
            )
    return tmp_path / "glue"


def test_the_text_is_every_tasks_sentences_without_labels(glue_dir, tmp_path):
    assert texts.main(["--glue_dir", str(glue_dir), "--output", str(tmp_path / "texts")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "texts" / "train.jsonl").read_text().splitlines()]
    pairs = pq.read_table(glue_dir / "stsb" / "train.parquet").to_pylist()
    assert len(lines) == 80
    assert lines[40:] == [{"text": f"{pair['sentence1']} {pair['sentence2']}"} for pair in pairs]
    with pytest.raises(FileNotFoundError, match=r"has no TASK/train.parquet"):
        texts.main(["--glue_dir", str(tmp_path / "texts"), "--output", str(tmp_path / "none")])


def test_similarity_is_that_of_mean_embeddings_at_every_depth(original, glue_dir, tmp_path):
    """One text after the other, without padding."""
    file = tmp_path / "found.json"
    data = glue_dir / "stsb" / "validation.parquet"
    assert similarity.main([str(original), "--data", str(data), "--output", str(file)]) == 0
    model, tokenizer = load_model(AcnModel, original)[0].eval(), load_tokenizer(str(original))
    pairs = pq.read_table(data).to_pylist()

    @torch.no_grad()
    def embedded(text: str, depth: int) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        return model(input_ids=ids, depth=depth).last_hidden_state[0].mean(0)

    def alike(pair: dict, depth: int) -> float:
        return torch.cosine_similarity(*(embedded(pair[f"sentence{i}"], depth) for i in (1, 2)), dim=0).item()

    for depth, found in enumerate(json.loads(file.read_text())["spearman_by_depth"]):
        scores = [alike(pair, depth) for pair in pairs]
        assert found == pytest.approx(spearmanr(scores, [pair["label"] for pair in pairs]).statistic, abs=0.02)


@pytest.mark.slow
def test_a_small_model_goes_through_every_job(original, glue_dir, tmp_path):
    small = replace(
        CONVERT, tokens=2048, batch=4, seq_length=16, validations=2, validation_blocks=4, finetune_seeds=(1, 2),
        finetune_rates=(1e-3, 2e-3), parts=(Fraction("sst2", 16, 1), Fraction("stsb", None, 1)),
        tuning=Fraction("sst2", 16, 1), jobs=1,
    )  # fmt: skip
    home = Home(tmp_path / "study", None, str(glue_dir), source=original)
    claim_home(small, home, small.tasks)
    study = Study(small, home, plan(small, small.tasks), Processes(threads=1), CONVERSION)
    assert study.run(3600) == 0, {name: record.why for name, record in study.records.items() if record.why}
    claim = Claim.read(home.path / CLAIM_FILE)
    assert claim.tasks == ["sst2", "stsb"]
    assert "STS-B without fine-tuning" in page.render([claim])
