"""The scaling benchmark runs through, and splits the efficiency as it says."""

import json
from pathlib import Path

import pytest

from benchmarks.scaling import ALL_REDUCE, ALONE, BENCHMARK, QUICK, RUN_OF_TWO, SIDE_BY_SIDE, compared


def test_efficiency_is_memory_times_communication_and_the_model_adds_up() -> None:
    found = {
        # the second round was disturbed, which costs all cases the same
        "seconds": {ALONE: [1.0, 2.0], SIDE_BY_SIDE: [1.25, 2.5], RUN_OF_TWO: [1.6, 3.2], ALL_REDUCE: [0.1, 0.1]},
        "size": {"parameters": 1000, "persistent": 0, "persistent_tensors": 0},
        "all_reduce_bytes": 4000,
    }
    row = compared(QUICK[0], found)
    assert row["efficiency"] == pytest.approx(0.625)
    assert row["memory"] == pytest.approx(0.8)
    assert row["memory"] * row["communication"] == pytest.approx(row["efficiency"])
    assert row["bandwidth"] == 40_000  # two ranks: as many bytes as the tensor has, in 0.1 s
    assert row["sent"] == pytest.approx(6000, rel=0.01)
    assert row["model_seconds"] == pytest.approx(1.875 + 6000 / 40_000, rel=0.01)


@pytest.mark.slow  # four cases, one after the other
def test_a_quick_run_measures_every_case(tmp_path: Path) -> None:
    assert BENCHMARK.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    (row,) = written["rows"]
    assert {len(seconds) for seconds in row["seconds"].values()} == {1}
    assert len(written["goals"]) == 2
