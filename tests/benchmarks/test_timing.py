"""The measuring tools measure what they say."""

import json

import pytest

from benchmarks.model import BERT, Size, measure_depths, training_step
from benchmarks.timing import Goal, Timing, interleave, peak_memory, ratio, table, write_results


def test_cases_run_in_turn_and_each_round_starts_with_another():
    ran = []
    times = interleave({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, rounds=3, warmup=1)
    assert "".join(ran) == "ab" + "ba" + "ab" + "ba"
    assert [len(timing.seconds) for timing in times.values()] == [3, 3]


def test_a_ratio_is_taken_within_rounds():
    drifting = [1.0, 10.0, 100.0]  # the machine slows down by two orders of magnitude
    assert ratio(Timing([2 * s for s in drifting]), Timing(drifting)) == 2.0
    assert Timing([3.0, 1.0, 2.0]).median == 2.0


def test_goals_know_their_direction(tmp_path):
    goals = [Goal("speed", 1.6, 1.5), Goal("speed", 1.4, 1.5), Goal("time", 1.01, 1.02, at_least=False)]
    assert [goal.met for goal in goals] == [True, False, True]
    assert "NOT MET" in str(goals[1])
    write_results(tmp_path / "out.json", goals, training=[{"seconds": [1.0]}])
    written = json.loads((tmp_path / "out.json").read_text())
    assert [goal["met"] for goal in written["goals"]] == [True, False, True]
    assert written["machine"]["cpu_cores"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_tables_are_aligned():
    lines = table(["case", "x"], [["long name", "1"], ["b", "1,000"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "| long name |     1 |"


def test_peak_memory_sees_a_bigger_model():
    small, large = Size(64, 512, 1, goal=1.0), Size(64, 131072, 1, goal=1.0)
    weights = 131072 * 64 * 4
    measured = [peak_memory(training_step, size, "acn") for size in (small, large)]
    assert measured[1] - measured[0] > 2 * weights  # the embedding and its gradient


def test_the_compared_steps_compute_the_same_loss():
    size = Size(64, 512, 2, goal=1.0)
    losses = [training_step(size, case)() for case in (BERT, "residual", "residual, every position decoded")]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-4)
    rows, goals = measure_depths(size, rounds=1)
    assert len(rows) == 3
    assert len(goals) == 2
