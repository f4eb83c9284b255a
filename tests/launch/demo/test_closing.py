"""The closing screen says first how much of the model is enough, and says so only where it is."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from eval import read_results
from eval.report import Run, verdict
from launch.demo.closing import closing_screen

LEARNED = [0.5, 0.72, 0.72, 0.73]
LATE = [0.5, 0.51, 0.55, 0.74]
CHANCE = [0.5, 0.5, 0.51, 0.52]


def write(home: Path, twin: str, task: str, scores: list[float], cut: int) -> Run:
    folder = home / f"glue-{twin}" / task
    folder.mkdir(parents=True)
    record = {
        "task": task, "metric": "accuracy", "seed": 42, "model": "m", "connectivity": twin, "full_score": scores[-1],
        "depth_scores": scores, "cut_depth": cut, "tolerance": 0.01, "params_by_depth": [1, 2, 3, 4],
        "flops_by_depth": [0, 1, 2, 3], "seq_length": 96, "majority_score": 0.5, "standard_error": 0.02, "train": {},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(record))
    return Run(folder, f"glue-{twin}", read_results(folder))


@pytest.mark.parametrize(
    ("acn", "cut", "twin", "said"),
    [
        (LEARNED, 1, LATE, "Cut there, the ACN is ahead by 0.210."),
        (LATE, 2, LEARNED, "Cut there, its twin is ahead by 0.170."),
        (LEARNED, 1, LEARNED, "no advantage of the ACN"),
        (LEARNED, 3, LATE, "No layer can go: with one less the ACN loses more than 0.01."),
        (CHANCE, 0, LATE, "has learned nothing that could be cut"),
        (LEARNED, 1, CHANCE, "Its twin has not learned the task"),
    ],
)
def test_the_verdict_is_honest(tmp_path, acn, cut, twin, said):
    runs = write(tmp_path, "acn", "docorder", acn, cut), write(tmp_path, "residual", "docorder", twin, 3)
    assert said in verdict(*runs)


def test_the_screen_leads_with_what_the_cut_keeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names: nothing is wrapped
    for task, twin in (("docsource", LATE), ("docorder", CHANCE)):
        write(Path("runs"), "acn", task, LEARNED, 1)
        write(Path("runs"), "residual", task, twin, 3)
    console = Console(width=120, record=True)
    closing_screen(console, Path("runs"), ("docsource", "docorder"), ("acn", "residual"), "sqlite:///m.db", 200.0)
    lines = console.export_text().strip().splitlines()
    assert lines[:4] == [
        "docsource: with 1 of 3 layers acn keeps 0.720 of 0.730 (± 0.020), residual 0.510 of 0.740.",
        "  Cut there, the ACN is ahead by 0.210.",
        "docorder: with 1 of 3 layers acn keeps 0.720 of 0.730 (± 0.020), residual at chance (0.520).",
        "  Its twin has not learned the task, so that there is nothing to compare.",
    ]
    table = [line.split() for line in lines if line.startswith((" docsource ", " docorder "))]
    assert table[-1] == ["docorder", "residual", "0.500", "0.500", "0.510", "0.520", "at", "chance"]
    assert any("done in 3m20s" in line for line in lines)
    assert any("runs/report/index.html" in line for line in lines)
    assert any("runs/report/figures/docsource.png" in line for line in lines)
    assert any("acn predict runs/small runs/tasks/docsource/validation.parquet" in line for line in lines)
