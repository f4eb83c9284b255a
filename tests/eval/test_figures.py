"""Depth figures show how much of a curve is noise, and every curve, even one that equals another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from eval import DepthCurve, save_depth_figure
from eval.figures import COLOURS, _draw_depths
from eval.studies.base import Curve, Point
from eval.studies.figures import _draw_curves
from tests.eval.test_chance import results

CURVE = DepthCurve("one", "acn", "accuracy", [0.5, 0.7, 0.8], 2, [1, 2, 3], 0.5, errors=[0.02, 0.02, 0.01])


def legend(*curves: DepthCurve) -> list[str]:
    figure = Figure()
    _draw_depths(figure, curves, "accuracy", "a task")
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_standard_error_of_the_examples_is_drawn_and_named() -> None:
    assert any("± one standard error of the examples (up to 0.020)" in text for text in legend(CURVE))
    assert not any("all scores lie within" in text for text in legend(CURVE))
    assert any("was not recorded" in text for text in legend(replace(CURVE, errors=None)))


def test_an_axis_that_spans_less_than_the_error_says_so() -> None:
    flat = replace(CURVE, scores=[0.795, 0.79, 0.8], errors=[0.03] * 3)
    assert any("all scores lie within one" in text for text in legend(flat))


def test_the_error_of_every_depth_follows_from_that_of_the_whole_model() -> None:
    record = replace(results("accuracy", 0.8, 0.5, 0.02), depth_scores=[0.5, 0.8], params_by_depth=[1, 2])
    errors = DepthCurve.from_results(record, "x").errors
    assert errors == pytest.approx([0.02 * (0.25 / 0.16) ** 0.5, 0.02])
    other = DepthCurve.from_results(replace(record, metric="matthews"), "x").errors
    assert other is not None
    assert np.isnan(other[0])
    assert other[1] == 0.02


def test_a_model_at_chance_is_marked_and_has_no_cut() -> None:
    at_chance = DepthCurve.from_results(results("accuracy", 0.51, 0.5, 0.02), "twin")
    assert any(text.startswith("twin: 0.510, at chance") for text in legend(at_chance))
    assert not any("cut at" in text for text in legend(at_chance))


def test_of_two_equal_curves_both_are_seen(tmp_path: Path) -> None:
    twin = replace(CURVE, label="other", connectivity="residual")
    assert save_depth_figure(tmp_path / "x.png", [CURVE, twin], "equal")
    pixels = imread(tmp_path / "x.png")[:500, :, :3]  # above the legend
    for connectivity in ("acn", "residual"):
        near = np.abs(pixels - to_rgb(COLOURS[connectivity])).max(-1) < 0.05
        assert near.sum() > 400, connectivity


def test_lesions_of_two_models_are_drawn_to_the_same_scale_and_equal_lines_are_both_seen() -> None:
    points = [Point(x, [0.7]) for x in (1, 2)]
    figure = Figure()
    _draw_curves(figure, [Curve(name, "layer", "accuracy", points) for name in ("delete", "swap")], (0.0, 1.0))
    (axes,) = figure.axes
    assert axes.get_ylim() == (-0.02, 1.02)
    below, above = (line.lines[0] for line in axes.containers)
    assert below.get_linewidth() > above.get_linewidth()
    assert below.get_linestyle() != above.get_linestyle()
