"""The report: every task and run is in it, it stands alone, and it overwrites nothing but itself."""

import csv
import itertools
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from eval import DepthCurve, EvalError, ReportConfig, save_depth_figure, write_report
from eval.frontier import frontier
from eval.report import Origin
from eval.report.study_figures import _draw, _panels
from eval.report.study_file import read_study
from eval.report.tables import Table, latex, write_tables

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes RUN/TASK/results.json with made-up numbers; keyword arguments override."""

    def write(run: str, task: str, **overrides: Any) -> Path:
        values = {
            "task": task,
            "metric": "accuracy",
            "seed": 1,
            "model": "run/model",
            "connectivity": "acn",
            "full_score": 0.8125,
            "depth_scores": [0.5, 0.8111, 0.8125],
            "cut_depth": 1,
            "tolerance": 0.005,
            "params_by_depth": [1_000_000, 2_000_000, 3_000_000],
            "flops_by_depth": [0, 10**9, 2 * 10**9],
            "seq_length": 128,
            "majority_score": 0.5,
            "train": {},
        }
        path = tmp_path / run / task / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values | overrides))
        return path

    return write


def _report(tmp_path: Path, *folders: str) -> Path:
    return write_report(ReportConfig([str(tmp_path / folder) for folder in folders], str(tmp_path / "report")))


class _Page(HTMLParser):
    """Collects the cells of table bodies and all sources of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.cells: list[str] = []
        self.sources: list[str] = []
        self.labels: list[str | None] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open = "td" if self.open == "td" else tag  # a cell may hold markup
        self.sources += [value for name, value in attributes if name in ("src", "srcset", "href") and value]
        if tag == "td":
            self.cells.append("")
            self.labels.append(dict(attributes).get("data-label"))

    def handle_endtag(self, tag: str) -> None:
        self.open = "" if tag == "td" else self.open

    def handle_data(self, data: str) -> None:
        if self.open == "td":
            self.cells[-1] += data.strip()


def test_the_report_has_a_figure_and_a_row_per_task_and_run(tmp_path: Path, save: Save) -> None:
    for run, connectivity in (("glue-acn", "acn"), ("glue-res", "residual")):
        for task in ("rte", "docpair", "sst2"):
            save(run, task, connectivity=connectivity)
    page = _report(tmp_path, "glue-res", "glue-acn")
    assert page == tmp_path / "report" / "index.html"
    text = page.read_text()
    assert re.findall(r"<h2>(\w+)</h2>", text) == ["sst2", "rte", "docpair"]
    cells = _Page(text).cells
    assert (cells.count("glue-acn"), cells.count("glue-res")) == (3, 3)
    assert cells[:2] + cells[11:13] == ["glue-acn", "acn", "glue-res", "residual"]
    assert cells[2:11] == [
        "1",
        "0.8125",
        "0.005",
        "1 of 2",
        "0.8111",
        *["3.00M → 2.00M", "2.000 → 1.000", "128", "11.4 → 7.6"],
    ]
    assert {path.name for path in (tmp_path / "report" / "figures").iterdir()} == {
        f"{task}.{kind}" for task in ("sst2", "rte", "docpair") for kind in ("png", "svg")
    }
    with (tmp_path / "report" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[0]["task"] == "sst2"
    assert (rows[0]["run"], rows[0]["cut_score"], rows[0]["cut_params"]) == ("glue-acn", "0.8111", "2000000")
    assert rows[0]["depth_scores"] == "0.5 0.8111 0.8125"


def test_the_page_needs_nothing_but_itself(tmp_path: Path, save: Save) -> None:
    save("glue", "sst2")
    text = _report(tmp_path, "glue").read_text()
    sources = _Page(text).sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert sum(source.startswith("data:") for source in sources) == 2, "the picture for a screen and for a phone"
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_names_from_the_results_are_escaped(tmp_path: Path, save: Save) -> None:
    save("<b>run", "sst2")
    text = write_report(ReportConfig([str(tmp_path)], str(tmp_path / "report"))).read_text()
    assert "<b>" not in text
    assert '<td data-label="run">&lt;b&gt;run</td>' in text


def test_overlapping_folders_count_a_run_once_and_equal_names_are_told_apart(tmp_path: Path, save: Save) -> None:
    save("one/glue", "sst2")
    save("two/glue", "sst2")
    cells = _Page(_report(tmp_path, ".", "one").read_text()).cells
    assert [cell for cell in cells if "glue" in cell] == [str(tmp_path / run / "glue") for run in ("one", "two")]


def test_cut_models_and_unfinished_folders_are_left_out(tmp_path: Path, save: Save) -> None:
    save("runs/glue", "sst2")
    save("runs", ".sst2.partial-1")
    (tmp_path / "runs" / "small").mkdir()
    (tmp_path / "runs" / "small" / "results.json").write_text(json.dumps({"source": "x", "depth": 1, "score": 0.5}))
    with (_report(tmp_path, "runs").parent / "results.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["glue"]


def test_a_report_replaces_an_earlier_one_whole(tmp_path: Path, save: Save) -> None:
    path = save("glue", "sst2")
    _report(tmp_path, "glue")
    path.unlink()
    save("glue", "rte")
    _report(tmp_path, "glue")
    assert {path.name for path in (tmp_path / "report" / "figures").iterdir()} == {"rte.png", "rte.svg"}
    assert {path.name for path in tmp_path.iterdir()} == {"glue", "report"}


@pytest.mark.parametrize("make", ["empty", "file", "foreign", "notes", "figure_notes"])
def test_an_output_that_holds_anything_else_is_left_alone(tmp_path: Path, save: Save, make: str) -> None:
    save("glue", "sst2")
    output = tmp_path / "report"
    if make == "file":
        output.write_text("mine")
    elif make in ("empty", "foreign"):
        output.mkdir()
        if make == "foreign":
            (output / "index.html").write_text("mine")
    else:
        _report(tmp_path, "glue")
        (output / ("notes.md" if make == "notes" else "figures/notes.md")).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(EvalError, match="choose another --output"):
        _report(tmp_path, "glue")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_bad_inputs_are_errors_and_nothing_is_written(tmp_path: Path, save: Save) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvalError, match=r"no results\.json of a fine-tuning"):
        _report(tmp_path, "empty")
    with pytest.raises(EvalError, match="is not a folder"):
        _report(tmp_path, "absent")
    with pytest.raises(EvalError, match="results is empty"):
        _report(tmp_path)
    save("mixed/a", "own")
    save("mixed/b", "own", metric="f1")
    with pytest.raises(EvalError, match="scored by accuracy and f1"):
        _report(tmp_path, "mixed")
    broken = save("broken", "sst2")
    broken.write_text('{"task": "sst2"}')
    with pytest.raises(EvalError, match=r"broken/sst2/results\.json.*missing"):
        _report(tmp_path, "broken")
    broken.write_text("{")
    with pytest.raises(EvalError, match="cannot be read as JSON"):
        _report(tmp_path, "broken")
    assert not (tmp_path / "report").exists()


def test_a_figure_refuses_to_mix_metrics_and_leaves_no_half_file(tmp_path: Path) -> None:
    curves = [DepthCurve("a", "acn", metric, [0.1, 0.2], 1, [1, 2]) for metric in ("accuracy", "f1")]
    with pytest.raises(ValueError, match="one metric"):
        save_depth_figure(tmp_path / "x.png", curves, "x")
    assert list(tmp_path.iterdir()) == []
    save_depth_figure(tmp_path / "x.png", curves[:1], "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_results_file_in_the_run_folder_itself_is_found(tmp_path: Path, save: Save) -> None:
    save("glue", "sst2")
    page = write_report(ReportConfig([str(tmp_path / "glue" / "sst2")], str(tmp_path / "report")))
    assert _Page(page.read_text()).cells[0] == "glue"


def _study(folder: Path, **overrides: Any) -> None:
    points = [{"x": x, "mean": 0.8 - x / 10, "std": 0.01, "values": [0.79 - x / 10, 0.81 - x / 10]} for x in (0.0, 1.0)]
    curve = {"label": "swap", "x_label": "strength", "y_label": "accuracy", "points": points, "reference": 0.8}
    value = {
        "study": "noise",
        "model": "runs/suite-acn/sst2",
        "connectivity": "acn",
        "task": "sst2",
        "seeds": [1, 2],
        "curves": [curve, curve | {"label": "drop", "reference": None}],
        "table": {"columns": ["noise", "strength", "accuracy"], "rows": [["swap", 0.1, 0.79], ["drop", 0.1, 0.785]]},
        "notes": "Characters were <swapped>.",
    }
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(value | overrides))


def test_a_study_of_several_models_is_one_section_with_one_figure_and_one_table(tmp_path: Path) -> None:
    _study(tmp_path / "acn" / "noise")
    _study(tmp_path / "res" / "noise", connectivity="residual")
    page = _report(tmp_path, "acn", "res")
    text = page.read_text()
    assert text.count("data:image/png") == 2
    assert text.count("noise: sst2") == 1
    cells = _Page(text).cells
    assert (cells.count("acn"), cells.count("res"), cells.count("residual")) == (4, 2, 2)
    assert cells[:8] == ["acn", "acn", "sst2", "swap", "0.1000", "0.7900", "fp32", "1 2"]
    assert "&lt;swapped&gt;" in text
    files = {str(path.relative_to(page.parent)) for path in page.parent.rglob("*") if path.is_file()}
    assert {"figures/study-noise.png", "figures/study-noise.svg", "tables/study-noise.csv"} <= files
    assert r"\begin{tabular}" in (page.parent / "tables" / "study-noise.tex").read_text()


@pytest.mark.parametrize("damage", [{"table": {"columns": ["a"], "rows": [[1, 2]]}}, {"curves": [{}]}, {"seeds": None}])
def test_a_broken_study_is_an_error(tmp_path: Path, damage: dict[str, Any]) -> None:
    _study(tmp_path / "acn" / "noise", **damage)
    with pytest.raises(EvalError, match=r"noise/study\.json is not a study"):
        _report(tmp_path, "acn")


def _seeds(scores: list[list[float]]) -> dict[str, Any]:
    means = [sum(at) / len(at) for at in zip(*scores, strict=True)]
    return {
        "seeds": [1, 2],
        "standard_error": 0.01,
        "selection": "seed 1, the best of 2 by validation score",
        "metrics": {"validation": {"accuracy": scores[0]}},
        "speed": {"threads": 1, "depths": {"1": {"latency_ms": 5.0, "sequences_per_second": 40.0}}},
        "recut": [{"depth": 1, "epochs": 1.0, "score_before": 0.7, "score": 0.75}],
        "aggregate": {
            "by_seed": {"1": scores[0], "2": scores[1]},
            "depth_mean": means,
            "depth_std": [0.01, 0.02, 0.03],
            "standard_error": 0.02,
            "cut_depth_tolerance": 2,
            "cut_depth_one_standard_error": 1,
            "glue_scores": [scores[0][-1], scores[1][-1]],
        },
    }


def test_seeds_stand_together_with_means_deviations_speed_and_glues_average(tmp_path: Path, save: Save) -> None:
    together = _seeds([[0.5, 0.80, 0.8125], [0.5, 0.81, 0.8225]])
    for task in ("sst2", "rte"):
        save("suite", task, **together)
        save(f"suite/{task}", "seed-1")  # a cell is part of its task
    text = _report(tmp_path, "suite").read_text()
    cells = _Page(text).cells
    overview = cells[cells.index("0.8175 ± 0.0071") - 2 :]
    assert overview[:2] == ["suite", "acn"]
    assert overview[2:6] == ["0.8175 ± 0.0071"] * 4
    assert cells[cells.index("cut, 1 s.e.") :][:4] == ["cut, 1 s.e.", "1", "accuracy", "0.8050 ± 0.0200"]
    assert "5.0000" in cells
    assert cells[cells.index("0.7500") - 3 :][:5] == ["1", "1", "1.0000", "0.7500", "0.7000"]
    assert "the best of 2 by validation score" in text
    with (tmp_path / "report" / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert (tmp_path / "report" / "tables" / "glue.tex").read_text().count(r"$\pm$ 0.0071") == 4


def test_latex_tables_escape_what_latex_reads(tmp_path: Path) -> None:
    table = Table("x", "a_b & 50%", ["n_1", "score"], [["é{", 0.5], ["#", 12.25]])
    text = latex(table)
    assert r"\caption{a\_b \& 50\%}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"é\{ & 0.5000 \\" in text


def test_a_model_at_chance_is_not_said_to_keep_anything(tmp_path: Path, save: Save) -> None:
    save("a", "wnli", majority_score=0.8, standard_error=0.02)
    save("b", "wnli", connectivity="residual", majority_score=0.5, standard_error=0.02)
    save("a", "rte", majority_score=0.5, standard_error=0.02)
    save("b", "rte", connectivity="residual", majority_score=0.8, standard_error=0.02)
    text = _report(tmp_path, "a", "b").read_text()
    said = [re.sub(r"<.*?>", "", item) for item in re.findall(r"<li>(.*?)</li>", text)]
    assert sorted(said) == [
        "rte: with 1 of 2 layers acn keeps 0.811 of 0.812 (± 0.020), residual at chance (0.812)",
        "wnli: acn is at chance: 0.812 (± 0.020), residual 0.811 of 0.812",
    ]
    assert re.findall(r'data-label="cut depth">(.*?)</td>', text) == ["1 of 2", "at chance", "at chance", "1 of 2"]


def test_csv_tables_keep_all_digits_integers_beside_gaps_and_columns_without_rows(tmp_path: Path) -> None:
    rows = [["a", 1, 0.1 + 0.2], ["b, c", None, 12345678.9]]
    tables = [Table("full", "", ["run", "n", "n"], rows), Table("empty", "", ["run", "n"], [])]
    write_tables(tmp_path / "tables", tables)
    with (tmp_path / "tables" / "full.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["run", "n", "n"],
            ["a", "1", "0.30000000000000004"],
            ["b, c", "", "12345678.9"],
        ]
    assert (tmp_path / "tables" / "empty.csv").read_text().split() == ["run,n"]
    assert "run & n" in (tmp_path / "tables" / "empty.tex").read_text()


def test_the_first_thing_said_is_how_much_of_a_model_is_enough(tmp_path: Path, save: Save) -> None:
    for task in ("sst2", "rte"):
        save("a", task, **_seeds([[0.5, 0.80, 0.8125], [0.5, 0.814, 0.8225]]))
    save("b", "sst2", connectivity="residual", depth_scores=[0.5, 0.6, 0.9], full_score=0.9, cut_depth=2)
    save("c", "mrpc", connectivity="residual", standard_error=0.02)
    save("d", "mrpc", connectivity="residual", cut_depth=2)
    text = _report(tmp_path, "a", "b", "c", "d").read_text()
    said = [re.sub(r"<.*?>", "", item) for item in re.findall(r"<li>(.*?)</li>", text)]
    assert said == [
        "sst2: acn needs all 2 layers for 0.818 (± 0.020), residual 0.900",
        "mrpc: with 1 of 2 layers c (residual) keeps 0.811 of 0.812 (± 0.020), d (residual) 0.811 of 0.812",
        "rte: acn needs all 2 layers for 0.818 (± 0.020)",
    ]
    assert text.index("<li>") < text.index("<img") < text.index("<table"), "sentence, picture, table"


def test_every_cell_says_what_it_is_for_those_who_see_cards(tmp_path: Path, save: Save) -> None:
    save("suite", "sst2", **_seeds([[0.5, 0.80, 0.8125], [0.5, 0.81, 0.8225]]))
    _study(tmp_path / "acn" / "noise")
    page = _Page(_report(tmp_path, "suite", "acn").read_text())
    named = {label for label in page.labels if label}
    assert {"run", "cut depth", "GFLOPs", "strength", "M parameters"} <= named
    scores = [cell for cell, label in zip(page.cells, page.labels, strict=True) if label is None]
    assert scores == ["1 2", "fp32", "2", "1", "0.0200", "0.5000 ± 0.0100", "0.8050 ± 0.0200", "0.8175 ± 0.0300"]


def test_runs_that_were_not_computed_in_one_precision_are_said_not_to_be(tmp_path: Path, save: Save) -> None:
    save("one", "sst2", precision="bf16")
    save("two", "sst2", connectivity="residual")
    _study(tmp_path / "one" / "noise", precision="bf16")
    _study(tmp_path / "two" / "noise", connectivity="residual")
    page = _report(tmp_path, "one", "two")
    text = " ".join(page.read_text().split())
    assert "residual 0.811 of 0.812 (not of one precision: acn in bf16, residual in fp32)" in text
    assert "<p>These are not of one precision: one in bf16, two in fp32.</p>" in text
    with (page.parent / "results.csv").open(newline="") as file:
        assert [row["precision"] for row in csv.DictReader(file)] == ["bf16", "fp32"]
    alike = write_report(ReportConfig([str(tmp_path / "one")], str(tmp_path / "alike"))).read_text()
    assert "of one precision" not in alike


def test_date_commit_seeds_and_machine_are_said_as_far_as_they_are_known(tmp_path: Path, save: Save) -> None:
    save("one", "sst2")
    save("two", "rte", seed=7)
    _study(tmp_path / "two" / "noise")

    def recorded(folder: Path) -> Origin | None:
        return Origin("2026-01-02", "abc1234", "a machine") if folder.name == "two" else None

    os.utime(tmp_path / "one" / "sst2" / "results.json", (0, 86400 * 365))
    config = ReportConfig([str(tmp_path / name) for name in ("one", "two")], str(tmp_path / "report"))
    text = " ".join(write_report(config, Origin("2026-03-04", "def5678"), recorded).read_text().split())
    assert "measured 1971-01-01, 2026-01-02; commit abc1234; seeds 1, 2, 7; on a machine." in text
    assert "This page: 2026-03-04, commit def5678." in text
    assert "(seed 7; in fp32; 2026-01-02, commit abc1234, a machine)" in text
    assert "(seed 1; in fp32; 1971-01-01)" in text


def _points(*xs: float) -> list[dict[str, Any]]:
    return [{"x": x, "mean": 0.5, "std": None, "values": [0.5]} for x in xs]


def _flat_studies(tmp_path: Path, labels: list[tuple[str, str]], models: tuple[str, ...]) -> list[Any]:
    """A study of each model whose curves are all equal."""
    studies = []
    for i, kind in enumerate(models):
        curves = [
            {"label": label, "x_label": "x", "y_label": y, "points": _points(0, 1), "reference": None}
            for label, y in labels
        ]
        _study(tmp_path / str(i), connectivity=kind, curves=curves)
        studies.append((read_study(tmp_path / str(i) / "study.json"), f"run{i}"))
    return studies


def _panel_lines(tmp_path: Path, labels: list[tuple[str, str]], models: tuple[str, ...]) -> dict[str, int]:
    """How many lines each panel of a study has, by its title and axis."""
    panels, _ = _panels(_flat_studies(tmp_path, labels, models))
    return {f"{panel.title}|{panel.y_label}": len(panel.lines) for panel in panels}


def test_curves_that_belong_together_stand_in_one_panel(tmp_path: Path) -> None:
    twins = ("acn", "residual")
    few = [("swap", "accuracy"), ("drop", "accuracy")]
    assert _panel_lines(tmp_path / "few", few, twins) == {"|accuracy": 4}
    exits = [("plain, cut", "accuracy"), ("plain, entropy", "accuracy"), ("trained, entropy", "accuracy")]
    assert _panel_lines(tmp_path / "exits", exits, twins) == {"plain|accuracy": 4, "trained|accuracy": 2}
    many = [(name, y) for name in "abc" for y in ("accuracy", "accuracy, cut at depth 3")]
    assert _panel_lines(tmp_path / "many", many, twins) == {f"{name}|accuracy": 4 for name in "abc"}
    same = _panel_lines(tmp_path / "same", few, ("acn", "acn"))
    assert same == {"swap|accuracy": 2, "drop|accuracy": 2}, "one colour: styles tell the models"


def test_equal_curves_of_a_study_are_all_seen(tmp_path: Path) -> None:
    figure = Figure()
    labels = [("swap", "accuracy"), ("drop", "accuracy")]
    _draw(figure, *_panels(_flat_studies(tmp_path, labels, ("acn", "residual"))), "noise", 1, trade_off=False)
    widths = [line.get_linewidth() for line in figure.axes[0].lines]
    assert len(widths) == 4
    assert all(below > above for below, above in itertools.pairwise(widths))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12))
def test_a_frontier_is_what_nothing_beats_and_runs_one_way(points: list[tuple[float, float]]) -> None:
    kept = frontier([(x, y, (x, y)) for x, y in points])
    assert kept == sorted(kept)
    assert all(a[1] < b[1] for a, b in itertools.pairwise(kept))
    for x, y in points:
        assert any(cost <= x and score >= y for cost, score in kept)
    for cost, score in kept:
        assert not any((x <= cost and y > score) or (x < cost and y >= score) for x, y in points)
