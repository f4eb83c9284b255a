"""The budget of rivals: the ways to a shallow encoder, treated alike, and a page that says who wins and what lacks."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.study import page
from benchmarks.study.__main__ import main
from benchmarks.study.claim import Claim
from benchmarks.study.commands import Home
from benchmarks.study.conversion.budget import CONVERTED, ORIGINAL, RIVALS, STUDENT, Fraction, supervised
from benchmarks.study.conversion.jobs import commands, plan
from benchmarks.study.conversion.page import in_short
from benchmarks.study.driver import CLAIM_FILE, Study
from benchmarks.study.process import Processes
from benchmarks.study.records import Record, claim_home
from benchmarks.study.rules import CONVERSION
from launch.cli import read_args
from tests.benchmarks.test_conversion import glue_dir, original  # noqa: F401
from tests.benchmarks.test_study import Commands, finetuned_seed

HOME = Home(Path("study"), None, "glue", source=Path("minilm"))
DEEP = supervised(ORIGINAL, "deep")
SCORES = {
    ORIGINAL: (0.5, 0.5, 0.5, 0.9),
    CONVERTED: (0.5, 0.8, 0.87, 0.88),
    DEEP: (0.5, 0.7, 0.865, 0.89),
    STUDENT: (0.5, 0.65),
}
"""By depth, of which the student has fewer; other arms are at chance."""


def result_of(job, home=None):
    """Made up."""
    if job.kind == "corpus":
        return {"train_tokens": 1000, "seq_length": 128}
    if job.kind == "cut":
        return {"layers": 3}
    if job.kind == "pretrain":
        return {"tokens": 4e6, "match": 0.25}
    if job.kind == "tune":
        return {
            "score": 0.9 - job.rate,
            "depth_scores": [0.5, *SCORES.get(job.arm, (0.5, 0.5, 0.5, 0.5))[1:-1], 0.9 - job.rate],
        }
    scores = SCORES.get(job.arm, (0.5, 0.5, 0.5, 0.5))
    seeds = [
        finetuned_seed(seed, [score + more for score in scores])
        | {"connectivity": job.arm.connectivity, "task": job.task, "metric": "accuracy"}
        for seed, more in zip((1, 2, 3), (0.0, 0.01, -0.01), strict=True)
    ]
    return {"seeds": seeds}


def study_in(folder, budget=RIVALS) -> Study:
    """A study whose jobs are made up."""
    home = replace(HOME, path=folder)
    claim_home(budget, home, budget.tasks)
    return Study(budget, home, plan(budget, budget.tasks), Commands(), replace(CONVERSION, collect=result_of))


def test_every_job_comes_after_those_it_needs_and_every_arm_has_every_task():
    jobs = plan(RIVALS, RIVALS.tasks)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert all(set(job.after) <= set(names[:i]) for i, job in enumerate(jobs))
    assert RIVALS.tasks == ("sst2", "qnli", "mrpc", "rte")
    tuned = [(job.arm, job.task) for job in jobs if job.kind == "finetune"]
    assert tuned == [(arm, task) for task in RIVALS.tasks for arm in RIVALS.arms]
    assert {arm.variant for arm in RIVALS.arms} == {
        "original", "original+deep", "original+adaptive", "original+layerskip", "original+layerdrop", "converted",
        "converted+deep", "converted+adaptive", "student",
    }  # fmt: skip
    (deep,) = (job for job in jobs if job.name == "finetune/acn-converted+deep/seed-0/sst2")
    assert "pretrain/acn-converted/seed-0" in deep.after


def test_the_verbs_understand_every_command_and_arms_differ_in_nothing_else():
    options = {}
    for job in plan(RIVALS, RIVALS.tasks):
        for command in commands(RIVALS, job, HOME, 1e-4, 0.5):
            if command[2] == "launch.cli":
                read_args(command[3], command[3:])  # raises on an unknown option
            if job.kind == "finetune" and job.task == "sst2":
                options[job.arm] = dict(zip(command[4::2], command[5::2], strict=True))
    assert options[DEEP] == options[ORIGINAL] | {"--supervision.kind": "deep", "--output": options[DEEP]["--output"]}
    assert options[STUDENT]["--model"] == "study/cells/pretrain/residual-student/seed-0/run/model"
    same = {name for name in options[ORIGINAL] if name not in ("--model", "--output")}
    assert all(one[name] == options[ORIGINAL][name] for one in options.values() for name in same)


def test_the_student_reads_as_much_as_the_conversion_and_keeps_its_shortcuts():
    jobs = {job.name: job for job in plan(RIVALS, RIVALS.tasks)}
    both = []
    for arm in (CONVERTED, STUDENT):
        (command,) = commands(RIVALS, jobs[f"pretrain/{arm.name}/seed-0"], HOME, 1e-3, None)
        both.append(dict(zip(command[4::2], command[5::2], strict=True)))
    changed = {name for name in both[1] if both[0].get(name) != both[1][name]}
    assert changed == {"--init_from", "--output", "--teacher.model", "--carry_shortcuts", "--model.connectivity"}
    assert both[1]["--teacher.model"] == both[0]["--init_from"] == "minilm"
    (cut,) = commands(RIVALS, jobs["cut"], HOME, None, None)
    assert cut[3:] == ["export", "minilm", both[1]["--init_from"], "--depth", "3"]


def test_the_page_says_what_to_ship_and_where_the_acn_wins_ties_and_loses(tmp_path):
    study = study_in(tmp_path / "study", replace(RIVALS, parts=RIVALS.parts[:1]))
    assert study.run(3600) == 0
    claim = Claim.read(tmp_path / "study" / CLAIM_FILE)
    told = list(in_short(claim))
    assert told[1].startswith("The student read 4.0 million tokens")
    assert told[2:] == [
        "sst2: Up to 25% of the FLOPs: nothing is above chance (0.500); up to 50%: converted cut at 1 of 3 layers, "
        "0.800 ± 0.010; with all of it: original whole, 0.900 ± 0.010 (a tie with original+deep).",
        "sst2: both are at chance at 25% (converted cut at 0 of 3 layers, 0.500 ± 0.010 against original cut at 0 of 3 "
        "layers, 0.500 ± 0.010); the ACN wins at 50% (converted cut at 1 of 3 layers, 0.800 ± 0.010 against "
        "original+deep cut at 1 of 3 layers, 0.700 ± 0.010); the ACN loses at 100% (converted whole, 0.880 ± 0.010 "
        "against original whole, 0.900 ± 0.010).",
    ]
    text = page.render([claim])
    assert "## The rivals in one table: budget rivals-3h" in text
    assert "Partial" not in text
    (picture,) = page.pictures(claim)
    picture.draw(tmp_path / picture.file)
    assert (tmp_path / picture.file).stat().st_size > 5000


def test_a_page_of_a_part_says_so(tmp_path):
    """Time ran out on the way: a contender here and there, no table of others."""
    study = study_in(tmp_path / "study")
    for job in study.jobs:
        if job.kind == "finetune" and job.arm in (ORIGINAL, DEEP, CONVERTED) and job.task == "sst2":
            study.records[job.name] = Record("done", rate=1e-4, result=result_of(job))
    claim = Claim.read(study.write_claim())
    text = page.render([claim])
    assert "**Partial: 3 of 36 fine-tunings are done.**" in text
    assert "sst2 (3 of 9 contenders): Up to 25% of the FLOPs" in text
    assert "- Not run: finetune/residual-student/seed-0/sst2" in text


def test_mistakes_are_told_before_anything_is_written(tmp_path, capsys):
    options = ["--source", "nowhere", "--tasks", "sst2,stsb"]
    assert main(["--budget", "rivals-3h", "--output", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert "source=nowhere has no config.json" in said
    assert "tasks: budget rivals-3h has no stsb: use sst2, qnli, mrpc, rte" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_small_model_goes_through_every_job(original, glue_dir, tmp_path):  # noqa: F811
    small = replace(
        RIVALS, tokens=2048, batch=4, seq_length=16, validations=2, validation_blocks=4, finetune_seeds=(1, 2),
        finetune_rates=(1e-3,), parts=(Fraction("sst2", 16, 1),), tuning=Fraction("sst2", 16, 1), jobs=1,
        supervisions=("deep",), of_converted=("deep",), student_layers=1,
    )  # fmt: skip
    home = Home(tmp_path / "study", None, str(glue_dir), source=original)
    claim_home(small, home, small.tasks)
    study = Study(small, home, plan(small, small.tasks), Processes(threads=1), CONVERSION)
    assert study.run(3600) == 0, {name: record.why for name, record in study.records.items() if record.why}
    claim = Claim.read(home.path / CLAIM_FILE)
    depths = {arm.variant: len(claim.scores(arm, "sst2").depth_scores) - 1 for arm in small.arms}
    assert depths.pop("student") == 1
    assert len(set(depths.values())) == 1
    assert set(depths) == {"original", "converted", "original+deep", "converted+deep"}
    assert "of the FLOPs" in page.render([claim])
