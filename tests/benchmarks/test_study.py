"""The protocol: matched jobs, each done once, within its time; a page that says what the numbers say."""

import json
import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.study import page, verdicts
from benchmarks.study.__main__ import main
from benchmarks.study.budgets import BUDGETS, CPU, GLUE_TASKS, SMOKE, VARIANTS, Arm
from benchmarks.study.claim import Claim
from benchmarks.study.commands import Home, commands, pretrain_options
from benchmarks.study.comparisons import best_of_each, in_short
from benchmarks.study.curves import LossCurve, gaps
from benchmarks.study.driver import CLAIM_FILE, Study
from benchmarks.study.plan import Job, plan, tasks_of
from benchmarks.study.process import OUT_OF_TIME, Processes
from benchmarks.study.records import choose_rate, claim_home, estimate
from benchmarks.study.rules import CLAIM
from launch.cli import read_args
from launch.errors import LaunchError
from pretrain import EXIT_STOPPED
from tests.processes import is_gone, wait_until

TASKS = ("docorder", "docsource")


# ---------------------------------------------------------------------------------------------------------
# the plan


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_a_plan_is_pure_and_every_cell_comes_after_those_it_needs(budget):
    jobs = plan(budget, GLUE_TASKS)
    assert jobs == plan(budget, GLUE_TASKS)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for i, job in enumerate(jobs):
        assert set(job.after) <= set(names[:i])


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_arms_differ_in_nothing_but_connectivity_variant_and_rate(budget):
    jobs = [job for job in plan(budget, TASKS) if job.kind == "pretrain"]
    arms = {job.arm for job in jobs}
    assert {arm.connectivity for arm in arms} == {"acn", "residual", "hybrid"}
    assert all(arm.twin in arms for arm in arms if arm.connectivity == "acn" and arm.variant != "warmup")
    told = {"model.connectivity", "output", "optim.lr", *(name for options in VARIANTS.values() for name in options)}
    for seed in budget.seeds:
        matched = [job for job in jobs if job.seed == seed and job.longer == 1]
        assert {job.arm for job in matched} == arms
        options = [pretrain_options(budget, job, Home(Path("h")), 1e-3, None) for job in matched]
        assert all(job.arm.options.items() <= one.items() for job, one in zip(matched, options, strict=True))
        rest = [{name: value for name, value in one.items() if name not in told} for one in options]
        assert all(one == rest[0] for one in rest)
        assert (rest[0]["seed"], rest[0]["stream.seed"]) == (seed, seed)


def test_all_of_the_first_seed_comes_before_the_second():
    seeds = [job.seed for job in plan(CPU, TASKS)]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1, 2}


def test_both_twins_of_the_first_group_are_trained_longer_right_after_it():
    runs = [job for job in plan(CPU, TASKS) if job.kind == "pretrain" and job.seed == 0]
    first = CPU.groups[0]
    assert [(job.arm, job.longer) for job in runs[:4]] == [
        *((arm, 1) for arm in first),
        *((arm, 2) for arm in first),
    ]
    assert {job.longer for job in runs[4:]} == {1}


def test_every_arm_has_the_first_tasks_before_any_has_the_others():
    tasks = [job.task for job in plan(CPU, ("sst2", "qnli", "qqp")) if job.kind == "finetune" and job.seed == 1]
    further = tasks.index("qqp")
    assert set(tasks[:further]) == {"sst2", "qnli"}
    assert set(tasks[further:]) == {"qqp"}
    assert tasks.count("sst2") == tasks.count("qqp") == len(CPU.groups[0]) + sum(map(len, CPU.groups))


def test_every_arm_tries_the_same_rates_and_takes_its_best():
    tried = {job.arm: [] for job in plan(SMOKE, TASKS) if job.kind == "rate"}
    for job in plan(SMOKE, TASKS):
        if job.kind == "rate":
            tried[job.arm].append(job.rate)
    assert all(rates == list(SMOKE.rates) for rates in tried.values())
    assert len(tried) == 3
    assert chosen("validation_loss", {1e-3: 5.0, 2e-3: 4.5, 4e-3: 6.0}) == 2e-3
    assert chosen("validation_loss", {2e-3: 4.5, 1e-3: 4.5, 5e-4: math.nan}) == 1e-3
    assert chosen("score", {1e-4: 0.5, 2e-4: 0.8, 4e-4: math.nan, 3e-4: 0.8}) == 2e-4


def chosen(name, tried):
    return choose_rate({rate: {name: value} for rate, value in tried.items()})


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_the_verbs_understand_the_commands_of_every_kind_of_job(budget, tmp_path):
    home = Home(tmp_path, tokens_dir=tmp_path / "tokens" if budget.corpus_mb is None else None)
    for kind in ("corpus", "rate", "pretrain", "finetune", "study"):
        job = next((job for job in plan(budget, TASKS) if job.kind == kind), None)
        if job is None:
            assert (kind, len(budget.rates)) == ("rate", 1)  # there is nothing to choose
            continue
        for command in commands(budget, job, home, rate=1e-3, hours=0.5):
            if command[2] == "launch.cli":
                args = read_args(command[3], command[3:])  # raises on an unknown option
                assert args.output == str(home.tokens if kind == "corpus" else home.output(job.name))


def test_glue_is_used_where_it_is_given():
    assert tasks_of(None, None) == TASKS
    assert tasks_of(None, "glue")[:3] == ("sst2", "qnli", "qqp")
    assert tasks_of("docsource,sst2", "glue") == ("docsource", "sst2")
    home = Home(Path("h"), glue_dir="glue")
    assert home.task_data("sst2") == "glue"
    assert home.task_data("docsource") == str(home.text / "tasks")


@pytest.mark.parametrize("documentation_tasks", [True, False])
def test_the_documentation_is_written_where_a_task_is_cut_from_it(documentation_tasks):
    home = Home(Path("h"), Path("tokens"), "glue", documentation_tasks)
    lines = commands(SMOKE, Job("corpus"), home, None, None)
    assert any("benchmarks.study.corpus" in line for line in lines) == documentation_tasks


# ---------------------------------------------------------------------------------------------------------
# running it


def finetuned_seed(seed, depth_scores=(0.5, 0.8, 0.9), majority=0.5):
    layers = len(depth_scores)
    return {
        "task": "docsource", "metric": "accuracy", "seed": seed, "connectivity": "acn",
        "full_score": depth_scores[-1], "depth_scores": list(depth_scores), "cut_depth": layers - 1,
        "tolerance": 0.005, "params_by_depth": [100 * (k + 1) for k in range(layers)],
        "flops_by_depth": [1000 * (k + 1) for k in range(layers)], "seq_length": 128, "majority_score": majority,
        "metrics": {"validation": {"accuracy": list(depth_scores)}}, "standard_error": 0.01, "train": {},
    }  # fmt: skip


def result_of(job, home=None):
    """A made-up result; acn learns a little slower than residual, and reaches its loss with twice the tokens."""
    if job.kind == "corpus":
        return {"baseline_accuracy": 0.05, "commonest_token": 7, "train_tokens": 1000, "vocabulary": 100}
    if job.kind == "rate":
        return {"validation_loss": 5 + job.rate}
    if job.kind == "pretrain":
        slow = (0.2 if job.arm.connectivity == "acn" else 0.0) - 0.2 * (job.longer - 1)
        steps = (10, 20, 30)
        curves = {"validation/loss": {str(s): 6 + slow - s / 20 + job.seed / 100 for s in steps}}
        curves |= {"validation/accuracy": {str(s): s / 100 for s in steps}, "validation/cut_depth": {"30": 2.0}}
        for depth in range(3):
            curves[f"validation/accuracy_depth_{depth:02d}"] = {str(s): depth * s / 200 for s in steps}
            curves[f"probe/gradient_norm_layer_{depth:02d}"] = {str(s): 0.1 + depth for s in steps}
            curves[f"probe/direct_share_layer_{depth:02d}"] = {str(s): 0.5 for s in steps}
        return {"steps": 30, "tokens": 3000.0, "tokens_per_step": 100.0, "tokens_per_second": 50.0,
                "validation_loss": 4.5 + slow, "validation_accuracy": 0.3, "curves": curves}  # fmt: skip
    if job.kind == "finetune":
        seeds = [finetuned_seed(seed) | {"connectivity": job.arm.connectivity, "task": job.task} for seed in (1, 2)]
        return {"seeds": seeds, "selection": "seed 1"}
    point = {"x": 0.5, "mean": 0.8, "std": None}
    curve = {"label": "magnitude", "x_label": "sparsity", "y_label": "accuracy", "points": [point], "reference": 0.9}
    study = {"study": "pruning", "model": "", "connectivity": job.arm.connectivity, "task": job.task, "seeds": [1],
             "curves": [curve], "table": {"columns": ["sparsity"], "rows": [[0.5]]}, "notes": ""}  # fmt: skip
    return {"pruning": study}


class Commands:
    """Stands in for the processes: notes each command, and ends with the code its job is to end with."""

    def __init__(self, codes=None):
        self.codes = codes or {}
        self.jobs = []

    def __call__(self, command, log, seconds):
        self.jobs.append(log.parent)
        return next((code for part, code in self.codes.items() if part in str(log)), 0)

    def end(self):
        """Nothing runs."""


def study_in(folder, codes=None, budget=SMOKE):
    home = Home(folder)
    claim_home(budget, home, TASKS)
    ran = Commands(codes)
    return Study(budget, home, plan(budget, TASKS), ran, replace(CLAIM, collect=result_of)), ran


def states(study):
    return {name: record.status for name, record in study.records.items()}


def test_a_finished_study_is_not_done_again(tmp_path):
    study, ran = study_in(tmp_path)
    assert study.run(3600) == 0
    assert set(states(study).values()) == {"done"}
    assert len(set(ran.jobs)) == len(study.jobs)
    again, ran_again = study_in(tmp_path)
    assert again.run(3600) == 0
    assert ran_again.jobs == []
    assert json.loads((tmp_path / CLAIM_FILE).read_text())["cells"][5]["result"]["tokens"] == 3000


def test_a_failing_cell_stops_only_what_needs_it_and_the_exit_code_tells(tmp_path):
    study, _ = study_in(tmp_path, {"pretrain/residual": 1})
    assert study.run(3600) == 1
    state = states(study)
    assert state["pretrain/residual-identity/seed-0"] == "failed"
    assert state["finetune/residual-identity/seed-0/docsource"] == "not run"
    assert state["study/acn-identity/seed-0/docorder"] == "done"
    mended, ran = study_in(tmp_path)
    assert mended.run(3600) == 0
    assert len(ran.jobs) == 4  # the pretraining, two tasks, one study


def test_a_learning_rate_that_diverges_is_not_taken(tmp_path):
    study, _ = study_in(tmp_path, {"rate/acn-identity/0.001": 1})
    assert study.run(3600) == 1
    assert study.records["pretrain/acn-identity/seed-0"].rate == 3e-3
    assert study.records["pretrain/residual-identity/seed-0"].rate == 1e-3


def test_a_stopped_cell_goes_on_with_the_next_call(tmp_path):
    study, _ = study_in(tmp_path, {"pretrain/acn": EXIT_STOPPED})
    assert study.run(30) == EXIT_STOPPED
    assert states(study)["pretrain/acn-identity/seed-0"] == "stopped"
    assert states(study)["pretrain/residual-identity/seed-0"] == "not run"
    again, _ = study_in(tmp_path)
    assert again.run(3600) == 0


def test_an_interrupted_cell_keeps_its_time_and_goes_on(tmp_path):
    study, _ = study_in(tmp_path)

    class Interrupted(Commands):
        def __call__(self, command, log, seconds):
            raise KeyboardInterrupt

    study.processes = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        study.run(3600)
    again, _ = study_in(tmp_path)
    assert again.records["corpus"].status == "stopped"
    assert again.run(3600) == 0


def test_what_does_not_fit_the_budget_is_listed_as_not_run(tmp_path):
    study, ran = study_in(tmp_path, budget=replace(SMOKE, minutes=0.25))  # one rate, but no corpus before it
    assert study.run(3600) == 0
    assert ran.jobs == []
    claim = json.loads((tmp_path / CLAIM_FILE).read_text())
    assert all(job["status"] == "not run" and job["why"] for job in claim["cells"])


def test_no_twin_is_begun_before_both_are_paid_for(tmp_path):
    """In 44 seconds one learning rate (13) would fit, and all of the hybrid's (42), but not two arms' (84)."""
    study, _ = study_in(tmp_path, budget=replace(SMOKE, minutes=44 / 60))
    assert study.run(3600) == 0
    state = states(study)
    assert {state[job.name] for job in study.jobs if job.arm in SMOKE.groups[0]} == {"not run"}
    assert "twins included, do not fit" in study.records["rate/acn-identity/0.001"].why
    assert state["pretrain/hybrid-identity/seed-0"] == "done"


def test_one_kind_of_cell_can_be_run_alone(tmp_path):
    study, _ = study_in(tmp_path)
    assert study.run(3600, only="corpus") == 0
    assert [name for name, status in states(study).items() if status == "done"] == ["corpus"]


def test_cells_run_side_by_side_but_never_before_what_they_need(tmp_path):
    study, _ = study_in(tmp_path, budget=replace(SMOKE, jobs=2))
    began, most, now = [], 0, set()
    lock, both = threading.Lock(), threading.Barrier(2)

    class SideBySide(Commands):
        def __call__(self, command, log, seconds):
            nonlocal most
            name = str(log.parent.relative_to(tmp_path / "cells"))
            with lock:
                job = next(job for job in study.jobs if job.name == name)
                assert all(study.records[needed].status == "done" for needed in job.after)
                began.append(name)
                now.add(name)
                most = max(most, len(now))
            if "rate" in name:
                both.wait()  # the first two of an even number: neither goes on alone
            with lock:
                now.discard(name)
            return 0

    study.processes = SideBySide()
    assert study.run(3600) == 0
    assert set(states(study).values()) == {"done"}
    assert set(began) == {job.name for job in study.jobs}
    assert most == 2


LASTING = [sys.executable, "-c", """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""]  # fmt: skip
"""A command that does not end soon; it notes the number of a child that does not, either."""


def child_of(log: Path) -> int | None:
    """The number that such a command has noted."""
    text = log.read_text() if log.exists() else ""
    return int(text) if text.endswith("\n") else None


def test_ending_all_commands_leaves_their_cells_to_be_continued(tmp_path):
    run = Processes(threads=1)
    log = tmp_path / "log"

    def end() -> None:
        wait_until(lambda: child_of(log) is not None)
        run.end()

    threading.Thread(target=end).start()
    assert run(LASTING, log, 600) == OUT_OF_TIME
    wait_until(lambda: is_gone(child_of(log)))
    assert run([sys.executable, "-c", "pass"], log, 600) == OUT_OF_TIME


def test_a_command_that_was_just_being_started_is_ended_too(tmp_path, monkeypatch):
    run = Processes(threads=1)

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            run.end()  # by another thread, before this one knows of the process

    monkeypatch.setattr(subprocess, "Popen", Popen)
    assert run(LASTING, tmp_path / "log", 600) == OUT_OF_TIME


def test_a_plan_is_shown_without_anything_being_written(tmp_path, capsys):
    assert main(["--budget", "cpu-2h", "--output", str(tmp_path / "out"), "--plan"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in shown[1:]] == [job.name for job in plan(CPU, TASKS)]
    assert not (tmp_path / "out").exists()


def test_variants_leave_the_arms_of_others_out(tmp_path, capsys):
    call = ["--budget", "cpu-1h", "--output", str(tmp_path / "out"), "--plan", "--variants"]
    assert main([*call, "plain,start1"]) == 0
    shown = {line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert {name.split("/")[1] for name in shown - {"corpus"}} == {"acn-plain", "residual-plain", "hybrid-start1"}
    assert main([*call, "plain,odd"]) == 2
    assert "variants: budget cpu-1h has no odd: use identity, plain" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused(tmp_path):
    study_in(tmp_path)
    with pytest.raises(LaunchError, match="other hidden"):
        claim_home(replace(SMOKE, hidden=32), Home(tmp_path), TASKS)
    claim_home(replace(SMOKE, minutes=5), Home(tmp_path), TASKS)  # more time changes no number
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(LaunchError, match="something else"):
        claim_home(SMOKE, Home(tmp_path / "other"), TASKS)


def test_a_claim_names_no_folder_of_this_machine(tmp_path):
    study, _ = study_in(tmp_path, {"study/": 3})
    study.run(3600)
    text = (tmp_path / CLAIM_FILE).read_text()
    assert str(tmp_path) not in text
    assert sys.executable not in text
    home = Home(Path("run"), tokens_dir=Path("data/tokens"))
    shown = Study(SMOKE, home, [], Commands())._shown(
        [sys.executable, "--data", "data/tokens", "--output", "run/jobs/a/run"]
    )
    assert shown == "python --data TOKENS --output OUTPUT/jobs/a/run"


def test_estimates_learn_from_finished_jobs():
    jobs = plan(SMOKE, TASKS)
    rate, run = (next(job for job in jobs if job.kind == kind) for kind in ("rate", "pretrain"))
    start = SMOKE.speeds.start
    before = start + SMOKE.tokens / SMOKE.speeds.tokens
    assert estimate(SMOKE, run, {}) == pytest.approx(before)
    slower = estimate(SMOKE, run, {rate: start + 2})
    assert slower == pytest.approx(start + 2 * SMOKE.tokens / SMOKE.rate_tokens)


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path, monkeypatch):
    log = tmp_path / "log"

    class Popen(subprocess.Popen):
        def wait(self, timeout=None):
            wait_until(lambda: child_of(log) is not None)
            return super().wait(timeout)

    run = Processes(threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        assert run(LASTING, log, 1.5) == OUT_OF_TIME
    wait_until(lambda: is_gone(child_of(log)))
    assert run([sys.executable, "-c", "raise SystemExit(3)"], log, 600) == 3


def test_mistakes_are_told_before_anything_is_written(tmp_path, capsys):
    assert main(["--budget", "gpu-30min", "--output", str(tmp_path / "out"), "--minutes", "-1"]) == 2
    told = capsys.readouterr().err
    assert "minutes=-1" in told
    assert "--tokens" in told
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------
# tokens to equal loss


losses = st.lists(st.floats(1, 10), min_size=2, max_size=12)


def curve(values):
    return LossCurve([100.0 * (i + 1) for i in range(len(values))], values)


def test_tokens_to_a_loss_are_interpolated():
    falling = curve([6.0, 4.0, 3.0])
    assert falling.tokens_to(5.0) == 150
    assert falling.tokens_to(3.25) == 275
    assert falling.tokens_to(3.0) == 300
    assert falling.tokens_to(2.9) is None
    assert falling.tokens_to(9.0) == 100


def test_gaps_in_both_directions():
    slow, fast = curve([6.0, 5.0, 4.0]), curve([5.0, 4.0, 3.0])
    at_fast, at_slow = gaps(slow, fast)
    assert (at_fast.loss, at_fast.tokens, at_fast.ratio) == (3.0, None, None)
    assert (at_slow.loss, at_slow.ratio) == (4.0, 1.5)


@given(losses, st.floats(0.5, 11))
def test_the_tokens_lie_where_the_curve_passes_the_loss(values, loss):
    tokens = curve(values).tokens_to(loss)
    if tokens is None:
        assert min(values) > loss
        return
    xs = curve(values).tokens
    reached = next(x for x, value in zip(xs, values, strict=True) if value <= loss)
    assert reached - 100 <= tokens <= reached or tokens == xs[0] == reached
    if tokens > xs[0]:
        assert np.interp(tokens, xs, values) == pytest.approx(loss, abs=1e-6)


@given(losses, st.floats(0.5, 11), st.floats(0, 3))
def test_a_lower_loss_takes_no_fewer_tokens(values, loss, less):
    more = curve(values).tokens_to(loss - less)
    assume(more is not None)
    assert curve(values).tokens_to(loss) <= more


@given(losses)
def test_a_curve_needs_as_many_tokens_as_itself(values):
    assert [gap.ratio for gap in gaps(curve(values), curve(values))] == [1.0, 1.0]


# ---------------------------------------------------------------------------------------------------------
# the page


@pytest.fixture
def claim(tmp_path):
    study, _ = study_in(tmp_path / "study")
    study.run(3600)
    path = tmp_path / "claim-made-up.json"
    path.write_text((tmp_path / "study" / CLAIM_FILE).read_text())
    return path


def test_the_page_comes_from_the_json_alone_with_a_figure_for_every_link(claim, tmp_path):
    out = tmp_path / "page" / "results.md"
    assert page.main([str(claim), "--output", str(out)]) == 0
    text = out.read_text()
    assert text == page.render([Claim.read(claim)])
    linked = [part.split(")")[0] for part in text.split("](")[1:]]
    assert len(linked) == 8  # losses, two heatmaps of each of two pairs, a depth curve of each task, a study
    assert all((out.parent / link).stat().st_size > 1000 for link in linked)
    assert {str(path.relative_to(out.parent)) for path in out.parent.rglob("*.png")} == set(linked)


def test_the_page_says_what_the_numbers_say(claim):
    text = page.render([Claim.read(claim)])
    # acn is 0.2 nats above at every step and both fall 0.05 nats a step: 3,000 tokens against 2,600
    assert "acn-identity needs 1.15 (one seed) times the tokens of residual-identity: more training (paper" in text
    assert (
        "the cut depths of acn-identity and residual-identity are equal on average (2.0 layers) over 2 paired" in text
    )
    assert "the whole acn-identity scores 0.900, residual-identity 0.900; too few pairs" in text
    assert "fine-tunings of few pretrainings (acn-identity 1, residual-identity 1" in text
    assert "masked accuracy 0.300 is 6.0 times that of always predicting the commonest token (0.050)." in text


def test_a_page_at_chance_says_that_nothing_follows(claim):
    content = json.loads(claim.read_text())
    for job in content["cells"]:
        if job["kind"] == "pretrain":
            job["result"]["validation_accuracy"] = 0.06
        if job["kind"] == "finetune":
            job["result"]["seeds"] = [one | {"majority_score": 0.9} for one in job["result"]["seeds"]]
    claim.write_text(json.dumps(content))
    short = in_short(Claim.read(claim))
    assert len(short) == 1
    assert short[0].startswith("Nothing about the claim follows")
    assert "nothing about connectivity follows from this pretraining" in page.render([Claim.read(claim)])


def test_a_study_that_did_nothing_still_has_a_page(tmp_path):
    study, _ = study_in(tmp_path / "study", budget=replace(SMOKE, minutes=0.01))
    study.run(3600)
    text = page.render([Claim.read(tmp_path / "study" / CLAIM_FILE)])
    assert "Not run: corpus." in text
    assert "Nothing about the claim follows" in text


def test_verdicts_need_several_pairs_and_a_difference_beyond_its_error():
    shallow, deep = {1: 3, 2: 3, 3: 4}, {1: 9, 2: 10, 3: 10}
    clear = verdicts.cut_depths("acn", "residual", "sst2", shallow, deep)
    assert "acn's cut depth is smaller than residual's by 6.3 layers (3.3 against 9.7) over 3 paired runs" in clear
    assert "a difference is shown" in clear
    assert "larger" in verdicts.cut_depths("residual", "acn", "sst2", deep, shallow)
    assert "too few pairs" in verdicts.cut_depths("acn", "residual", "sst2", {1: 3}, {1: 9})
    noisy = verdicts.cut_depths("acn", "residual", "sst2", {1: 1, 2: 9, 3: 4}, {1: 9, 2: 2, 3: 4})
    assert "no difference is shown" in noisy
    assert "scores 0.500, residual 0.700; more than 2" in verdicts.full_scores(
        "acn", "residual", "sst2", {1: 0.5, 2: 0.5, 3: 0.5}, {1: 0.7, 2: 0.69, 3: 0.71}
    )
    assert "no seed in common" in verdicts.cut_depths("acn", "residual", "sst2", {1: 1}, {2: 1})
    cut = verdicts.cut_at("acn", "residual", "sst2", (3, 12), {1: 0.0, 2: 0.01, 3: -0.01}, {1: 0.2, 2: 0.21, 3: 0.19})
    assert "with 3 of 12 layers acn scores 0.000 less than whole, residual 0.200 less; more than 2" in cut


def test_an_arm_whose_twin_is_at_chance_is_told_of_alone(claim):
    content = json.loads(claim.read_text())
    for job in content["cells"]:
        if job["kind"] == "finetune" and job["connectivity"] == "residual":
            for one in job["result"]["seeds"]:
                one |= {"full_score": 0.5, "depth_scores": [0.5] * len(one["depth_scores"])}
    claim.write_text(json.dumps(content))
    short = in_short(Claim.read(claim))
    alone = "docsource: acn-identity scores 0.900 whole and 0.800 with 1 of 2 layers; its twin is at chance"
    assert any(sentence.startswith(alone) for sentence in short), short
    assert not any("residual-identity 0." in sentence for sentence in short)


def test_twins_are_compared_at_equal_loss_where_one_was_trained_longer(tmp_path):
    study, _ = study_in(tmp_path / "study", budget=replace(SMOKE, longer=2))
    study.run(3600)
    claim = Claim.read(tmp_path / "study" / CLAIM_FILE)
    short = in_short(claim)
    equal = "At equal loss: validation loss 4.500 of acn-identity (2 x tokens) against 4.500 of residual-identity"
    assert any(sentence.startswith(equal) for sentence in short), short
    assert any("against 4.300 of residual-identity (2 x tokens), 0.400 nats above it" in one for one in short)
    whole = "the whole acn-identity (2 x tokens) scores 0.900, residual-identity"
    assert sum(whole in sentence for sentence in short) == 4  # two tasks, at equal loss and at equal tokens
    assert not any("the whole acn-identity scores 0.900, residual-identity (2 x" in sentence for sentence in short)
    text = page.render([claim])
    assert text.count("After pretraining on more tokens:") == 2
    assert [picture.file for picture in page.pictures(claim) if "longer" in picture.file] == [
        f"depth-{task}-longer.png" for task in TASKS
    ]
    assert "needs 1.15 (one seed) times the tokens of residual-identity (2 x tokens)" in text


def test_the_best_arms_are_compared_where_they_are_no_twins(claim):
    assert best_of_each(Claim.read(claim)) is None  # acn-identity and residual-identity
    content = json.loads(claim.read_text())
    for job in content["cells"]:
        if job["kind"] == "pretrain" and job["connectivity"] == "residual":
            job["variant"] = "plain"
    claim.write_text(json.dumps(content))
    best = best_of_each(Claim.read(claim))
    assert [side.name for side in best] == ["acn-identity", "residual-plain"]
    start = "The best ACN by loss against the best residual network, whatever their starts: "
    told = f"{start}To the loss that both reach, acn-identity needs 1.15 (one seed) times the tokens of residual-plain"
    assert any(sentence.startswith(told) for sentence in in_short(Claim.read(claim)))


def test_remarks_beside_a_file_are_on_the_page(claim):
    assert "by hand" not in page.render([Claim.read(claim)]).split("###", 1)[1]
    claim.with_suffix(".md").write_text("The twin needs a smaller learning rate.\n")
    assert "### Remarks, by hand\n\nThe twin needs a smaller learning rate.\n" in page.render([Claim.read(claim)])


def test_few_pretrainings_are_told():
    assert "(acn 1, residual 3)" in verdicts.few_pretrainings({"acn": 1, "residual": 3})
    assert verdicts.few_pretrainings({"acn": 3, "residual": 3}) is None


def test_losses_are_equal_only_within_the_stated_margin():
    assert verdicts.equal_losses("acn", "residual", [4.04], [4.0]).startswith("At equal loss")
    assert "0.200 nats above" in verdicts.equal_losses("acn", "residual", [4.2], [4.0])


def test_a_rate_at_the_edge_of_the_grid_is_told():
    assert "largest" in verdicts.rate_at_the_edge("acn", 2e-3, [1e-3, 2e-3])
    assert verdicts.rate_at_the_edge("acn", 2e-3, [1e-3, 2e-3, 4e-3]) is None


def test_the_committed_page_is_the_one_that_its_files_give():
    paths = page.committed()
    if not paths:
        pytest.skip("no claim-*.json is committed yet")
    opening = page.OPENING.read_text()
    assert page.PAGE.read_text() == page.render([Claim.read(path) for path in paths], opening)
    assert f"\n{page.TWINS}\n{opening}" in page.PAGE.read_text().split("\n## How this page is made")[0]


def test_twins_are_residual_with_the_same_initialisation():
    assert Arm("acn", "identity").twin == Arm("residual", "identity")
    assert Job("pretrain", Arm("hybrid"), 1, longer=2).name == "pretrain/hybrid-plain/seed-1-x2"


@pytest.mark.slow  # the whole chain for three arms, each verb in a process of its own
@pytest.mark.timeout(3600)
def test_the_smoke_budget_runs_from_text_to_page_and_only_once(tmp_path):
    command = [sys.executable, "-m", "benchmarks.study", "--budget", "smoke", "--output", str(tmp_path / "claim")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    claim = Claim.read(tmp_path / "claim" / CLAIM_FILE)
    assert {job["status"] for job in claim.jobs} == {"done"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "claim" / "cells").rglob("*")}
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "claim" / "cells").rglob("*")} == before
    assert page.main([str(tmp_path / "claim" / CLAIM_FILE), "--output", str(tmp_path / "results.md")]) == 0
    assert "### In short" in (tmp_path / "results.md").read_text()
