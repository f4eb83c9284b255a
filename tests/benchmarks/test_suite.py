"""`python -m benchmarks`: one run of several benchmarks, one table, one file."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import __main__ as suite
from benchmarks.timing import Benchmark, Goal, Report
from tests.processes import run_module


def test_the_suite_measures_in_processes_of_their_own_and_writes_one_file(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    done = run_module("benchmarks", "early_exit", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    record = written["benchmarks"]["early_exit"]
    assert record["benchmark"] == "early_exit"
    assert record["quick"]
    assert {"torch", "transformers", "deepspeed", "date", "cpu_cores"} <= record["machine"].keys()
    assert len(record["goals"]) == len(record["results"]) == 4
    summary = done.stdout[done.stdout.rindex("| figure") :]
    for goal in record["goals"]:
        assert f"early_exit: {goal['what']}" in summary
        assert f"{goal['value']:.3f}" in summary


def test_a_benchmark_that_fails_costs_only_its_own_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    goal = {"what": "speed", "value": 2.0, "bound": 1.0, "at_least": True, "met": True}
    monkeypatch.setattr(suite, "run", lambda name, *_: None if name == "data" else {"goals": [goal]})
    file = tmp_path / "out.json"
    assert suite.main(["model", "data", "eval", "--json", str(file)]) == 1
    written = json.loads(file.read_text())
    assert list(written["benchmarks"]) == ["model", "eval"]
    assert written["failed"] == ["data"]
    assert "did not run to the end: data" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        suite.main(["modle"])
    assert "modle: choose from startup, training, finetune, scaling" in capsys.readouterr().err


@pytest.mark.parametrize(("exact", "code"), [(False, 0), (True, 1)])
def test_a_missed_goal_is_an_error_only_where_it_is_no_question_of_speed(
    exact: bool, code: int, tmp_path: Path
) -> None:
    def measure(options: Namespace, report: Report) -> None:
        report.goals.append(Goal("speed", options.rounds, 9))
        report.results["rows"] = [1]

    benchmark = Benchmark("some", "help", measure, rounds=7, exact=exact)
    assert benchmark.main(["--json", str(tmp_path / "out.json")]) == code
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["goals"][0]["value"], written["rounds"], written["rows"]) == (7, 7, [1])
