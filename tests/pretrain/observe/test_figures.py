"""The picture of a run: any number of validations and layers, resumed runs, drawn in time."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from pretrain.observe import figures
from pretrain.observe.figures import RunPicture, draw_run, draw_side_by_side, edges, read_metrics, rows_of


def write_run(run: Path, layers: int, validations: int, probes: bool = True) -> None:
    run.mkdir(exist_ok=True)
    lines = []
    for number in range(1, validations + 1):
        step = 10 * number
        lines.append({"step": step, "train/loss": 5.0 / number})
        values = {f"validation/accuracy_depth_{depth:02d}": depth / layers * number for depth in range(layers + 1)}
        lines.append({"step": step, "validation/loss": 5.0 / number, "validation/cut_depth": 1.0} | values)
        if probes:
            names = ("gradient_norm", "direct_share")
            lines.append(
                {"step": step} | {f"probe/{name}_layer_{i:02d}": 0.1 * i for name in names for i in range(layers)}
            )
    (run / "metrics.jsonl").write_text("".join(json.dumps({"time": 0.0} | line) + "\n" for line in lines))


@pytest.mark.parametrize(("layers", "validations", "probes"), [(6, 1, False), (48, 500, True), (2, 3, True)])
def test_any_number_of_validations_and_layers_becomes_a_picture_of_the_same_size(tmp_path, layers, validations, probes):
    write_run(tmp_path, layers, validations, probes)
    picture = draw_run(tmp_path, "a run")
    height, width, _ = plt.imread(picture).shape
    assert (width, height) == (1344, 960 if probes else 480)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing is left aside"


def test_a_run_that_was_never_validated_has_its_loss_drawn(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"time": 0, "step": 1, "train/loss": 3.0}\n')
    assert draw_run(tmp_path, "a run").is_file()


def test_a_conversion_has_its_scale_its_match_and_a_panel_of_every_depths_match(tmp_path, monkeypatch):
    lines = [
        {"step": 1, "train/loss": 5.0, "train/match": 1.0, "train/mlm_loss": 4.0, "train/shortcut_scale": 1.0},
        {"step": 2, "validation/loss": 4.0, "validation/match": 0.5, "validation/match_depth_00": 0.9},
        {"step": 3, "train/loss": 3.5, "train/match": 0.5, "train/mlm_loss": 3.0, "train/shortcut_scale": 0.1},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"time": 0} | line) + "\n" for line in lines))
    drawn = []
    monkeypatch.setattr("data_pipeline.pictures._label_plainly", drawn.append)
    draw_run(tmp_path, "a conversion")
    losses, *others = drawn[0].axes
    legend = [text.get_text() for text in losses.get_legend().get_texts()]
    assert legend[:2] == ["match, training", "match, validation"]
    assert legend[-1] == "shortcuts"
    assert [list(line.get_ydata()) for axes in others for line in axes.get_lines()] == [[1.0, 0.1]]
    assert "Error of the match of every depth" in {axes.get_title() for axes in others}


def test_what_a_resumed_run_logged_again_replaces_the_old_and_steps_stay_in_order(tmp_path):
    steps = [(1, 5.0), (2, 4.0), (5, 9.0), (2, 4.5), (3, 3.5), (5, 2.0)]  # resumed from step 1
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"time": 0, "step": step, "train/loss": loss}) + "\n" for step, loss in steps)
    )
    assert list(read_metrics(tmp_path)["train/loss"].items()) == [(1, 5.0), (2, 4.5), (3, 3.5), (5, 2.0)]


def test_rows_are_in_the_order_of_their_numbers():
    curves = {f"m_layer_{i:02d}": {1: float(i)} for i in (101, 2, 11)} | {"m_layer_x": {1: 0.0}, "other_01": {1: 0.0}}
    assert [row[1] for row in rows_of(curves, "m_layer_")] == [2.0, 11.0, 101.0]


def test_a_column_reaches_back_to_the_measurement_before_it():
    assert edges(np.array([10, 30, 35])).tolist() == [0, 10, 30, 35]


def test_drawing_is_put_off_while_it_would_take_a_noticeable_part_of_the_time(tmp_path, monkeypatch):
    now = 1000.0
    drawn = []

    def slow_draw(run: Path, title: str) -> Path:
        nonlocal now
        now += 2.0
        drawn.append(now)
        return run / "pretraining.png"

    monkeypatch.setattr(figures, "draw_run", slow_draw)
    monkeypatch.setattr(figures, "time", SimpleNamespace(monotonic=lambda: now))
    picture = RunPicture(tmp_path, "a run", share=0.02)
    assert picture.draw() == tmp_path / "pretraining.png", "the first one is drawn at once"
    now += 90.0
    assert picture.draw() is None
    assert picture.draw(whatever_it_takes=True) is not None
    now += 101.0
    assert picture.draw() is not None
    assert len(drawn) == 3


def test_norms_that_are_zero_or_missing_leave_cells_empty(tmp_path):
    lines = [{"step": 1} | {f"probe/gradient_norm_layer_{i:02d}": value for i, value in enumerate((0.0, "NaN", 0.5))}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"time": 0} | line) + "\n" for line in lines))
    assert draw_run(tmp_path, "a run").is_file()
    assert not math.isnan(read_metrics(tmp_path)["probe/gradient_norm_layer_02"][1])


def test_twins_side_by_side_share_a_scale(tmp_path, monkeypatch):
    """The larger of two runs has the colours' upper end, in both columns."""
    for name, layers in (("weak", 2), ("strong", 2)):
        write_run(tmp_path / name, layers, 3)
    runs = {name: read_metrics(tmp_path / name) for name in ("weak", "strong")}
    for metric, curve in runs["weak"].items():
        if "accuracy" in metric:
            runs["weak"][metric] = {step: value / 10 for step, value in curve.items()}
    drawn = []
    monkeypatch.setattr("data_pipeline.pictures._label_plainly", drawn.append)
    assert draw_side_by_side(tmp_path / "twins.png", runs, figures.HEATMAPS[:2]) is not None
    images = [axes.collections[0] for axes in drawn[0].axes if axes.collections and axes.get_title()]
    assert len(images) == 4
    assert [image.get_clim() for image in images[:2]] == [(0.0, 3.0)] * 2
    assert draw_side_by_side(tmp_path / "none.png", {"a": {}}, figures.HEATMAPS) is None
