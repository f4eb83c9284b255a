"""docs/performance.md is what the committed measurements say, and says what was not measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.aims import all_aims, over_trainer
from benchmarks.page import PAGE, RESULTS, device, page, records
from benchmarks.page_top import COMPARISONS, TRAINER, top


def record(file: Path, date: str, value: float, **fields: Any) -> None:
    """A file with one measurement."""
    goal = {"what": "a speed", "value": value, "bound": 2.0, "at_least": True, "met": value >= 2.0}
    machine = {"cpu_cores": 3, "torch": "9.9", "date": date}
    file.write_text(json.dumps({"machine": machine, "benchmark": "model", "quick": False, "goals": [goal], **fields}))


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == page(RESULTS), "run `python -m benchmarks.page`"


def test_the_newest_measurement_of_a_figure_is_shown_with_machine_and_date(tmp_path: Path) -> None:
    record(tmp_path / "a.json", "2026-02-02", 2.5)
    record(tmp_path / "b.json", "2026-01-01", 1.5)
    text = page(tmp_path)
    assert "3 CPU cores, torch 9.9, 2026-02-02 ([a.json]" in text
    assert "2.5 |" in text
    assert "2026-01-01" not in text


def test_a_missed_goal_is_not_hidden(tmp_path: Path) -> None:
    record(tmp_path / "a.json", "2026-02-02", 1.5)
    assert "**no** |" in page(tmp_path)


def test_everything_aimed_at_is_either_measured_or_listed_as_missing(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert text.count("**Not yet measured:**") == 3
    for aims in all_aims().values():
        for aim in aims:
            assert aim.what in text
    aims = all_aims()["gpu"]
    measured = [{"what": aim.what, "value": 1, "bound": aim.bound, "at_least": True, "met": False} for aim in aims]
    sections = {
        "ours base/128": {"cases": {"not compiled": {"tokens_per_second": 1234.0, "mfu": 0.25, "peak_gib": 7.0}}},
        "checkpoint base/128": {"save_seconds": 1.5},
    }
    record(tmp_path / "gpu.json", "2026-02-02", 3.0, benchmark="gpu", goals=measured, sections=sections)
    text = page(tmp_path)
    assert text.count("**Not yet measured:**") == 2
    assert "| base/128, not compiled |    1,234 | 25.0% |      7.0 |" in text
    assert "checkpoint base/128: `save_seconds` 1.5" in text


def test_a_suite_is_taken_apart_and_quick_runs_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "one.json", "2026-02-02", 2.5)
    inner = json.loads((tmp_path / "one.json").read_text())
    (tmp_path / "one.json").write_text(json.dumps({"machine": {}, "benchmarks": {"model": inner}}))
    assert "a speed" in page(tmp_path)
    for study in ("claim-cpu.json", "convert-2h.json"):  # they have a page of their own
        (tmp_path / study).write_text("{}")
    assert "a speed" in page(tmp_path)
    record(tmp_path / "two.json", "2026-02-02", 2.5, quick=True)
    with pytest.raises(ValueError, match=r"two.json.*--quick"):
        page(tmp_path)


def test_the_tables_that_a_benchmark_showed_are_on_the_page_the_newest_only(tmp_path: Path) -> None:
    for name, date, cell in (("a", "2026-02-02", "7 ms"), ("b", "2026-01-01", "9 ms")):
        shown = {"title": "speeds of everything", "columns": ["case", "time"], "rows": [["whole", cell]]}
        record(tmp_path / f"{name}.json", date, 2.5, tables=[shown])
    text = page(tmp_path)
    assert "speeds of everything:\n\n| case  | time |" in text
    assert "| whole | 7 ms |" in text
    assert "9 ms" not in text


def test_the_top_says_in_short_what_is_faster_than_what_on_which_machine(tmp_path: Path) -> None:
    def goals(*named: tuple[str, float]) -> list[dict[str, Any]]:
        return [{"what": what, "value": value, "bound": 1, "at_least": True, "met": True} for what, value in named]

    half = (over_trainer("mini", "bf16", "acn").what, 1.97)
    record(tmp_path / "a.json", "2026-02-02", 1.0, benchmark="training", goals=goals(half))
    start = ("acn pretrain, 1 rank(s): the first step over the bare imports", 1.25)
    record(tmp_path / "b.json", "2026-03-03", 1.0, benchmark="startup", goals=goals(start))
    figures: dict[str, Any] = {}
    for entry in records(tmp_path):
        figures[entry["benchmark"]] = {goal["what"]: (entry, goal) for goal in entry["goals"]}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in top(figures, device).splitlines()]
    assert ["pretrain, 256 x 12", TRAINER, "1.97 in bf16", "3 CPU cores, 2026-02-02"] in rows
    assert "0.80" in next(row for row in rows if row[:1] == ["`acn pretrain` to its first step"])  # slower is said so
    assert "8 of `finetune`" in top(figures, device)
    text = page(tmp_path)
    assert text.index("## In short") < text.index("| here") < text.index("## finetune")


def test_every_figure_at_the_top_is_one_that_its_benchmark_makes() -> None:
    aims = all_aims()
    made = {name: {aim.what for aim in found} for name, found in aims.items()}
    for entry in records(RESULTS):
        made.setdefault(entry["benchmark"], set()).update(goal["what"] for goal in entry["goals"])
    for line in COMPARISONS:
        assert set(line.figures.values()) <= made[line.benchmark]


def test_a_processor_is_named_where_the_record_has_it() -> None:
    assert device({"cpu_cores": 2}) == "2 CPU cores"
    assert device({"cpu_cores": 2, "processor": "EPYC"}) == "2 CPU cores (EPYC)"
    assert device({"cpu_cores": 2, "processor": "EPYC", "gpu": "H100"}) == "H100"
