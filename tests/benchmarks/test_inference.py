"""The engines of `benchmarks.inference` are timed only when they compute the same model; what is missing is said."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import engines, inference
from benchmarks.engines import EARLY_EXIT, ENGINES, REFERENCE, Answer, Engine, Models, at, eager
from benchmarks.inference import MANY, ONE, Size, answered, check, deviation, expected, measure
from benchmarks.timing import Report

SMALL = Size(hidden=64, vocab=512, length=16, depths=(3, 2, 1))
LOOSEST = replace(REFERENCE, tolerance=max(engine.tolerance for engine in ENGINES))


@pytest.fixture(scope="module")
def models() -> Models:
    return SMALL.models()


def test_plain_torch_answers_as_expected_at_every_depth_and_with_early_exit(models: Models, tmp_path: Path) -> None:
    off = check(REFERENCE, eager(models, tmp_path), models, SMALL.loads())
    assert off.keys() == {(batch, case) for batch in (ONE, MANY) for case in (at(3), at(2), at(1), EARLY_EXIT)}
    assert max(off.values()) < 1e-5


def test_a_cut_model_is_what_the_whole_one_computes_at_that_depth(models: Models) -> None:
    texts = SMALL.loads()[MANY][0]
    at_depth_1 = answered(lambda texts: models[3](**texts.inputs, depth=1).logits, [texts])
    assert torch.equal(expected(models, [texts])[at(1)], at_depth_1)


def test_three_of_four_texts_leave_early_alone_and_in_the_batch() -> None:
    for load in SMALL.loads().values():
        exits = torch.cat([texts.exits for texts in load])
        assert (exits == 1).float().mean() == 0.75
        assert (exits == 3).float().mean() == 0.25


@pytest.mark.parametrize("case", [at(3), at(1), EARLY_EXIT])
def test_an_engine_that_runs_another_depth_is_refused_at_any_tolerance(
    case: str, models: Models, tmp_path: Path
) -> None:
    answers = eager(models, tmp_path)
    answers[case] = answers[at(2)]
    with pytest.raises(
        ValueError, match=rf"torch fp32, {case}, batch 1: logits are .* more than {LOOSEST.tolerance:g}"
    ):
        check(LOOSEST, answers, models, SMALL.loads())


@pytest.mark.parametrize(
    "wrong", [lambda logits: logits.flip(0), lambda logits: -logits, lambda logits: logits * float("nan")]
)
def test_an_engine_that_mixes_up_texts_or_numbers_is_refused(wrong: Answer, models: Models, tmp_path: Path) -> None:
    right = eager(models, tmp_path)[at(3)]
    with pytest.raises(ValueError, match="standard deviations from plain torch's"):
        check(LOOSEST, {at(3): lambda texts: wrong(right(texts))}, models, SMALL.loads())


def test_ignoring_the_padding_is_noticed_by_the_tolerance_of_fp32(models: Models, tmp_path: Path) -> None:
    answers: dict[str, Answer] = {at(3): lambda texts: models[3](texts.inputs["input_ids"]).logits}
    with pytest.raises(ValueError, match=f"batch {MANY}"):
        check(REFERENCE, answers, models, SMALL.loads())


def test_the_deviation_is_in_standard_deviations() -> None:
    reference = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    spread = torch.tensor([2.0, 4.0])
    assert deviation(reference + spread / 2, reference, spread) == pytest.approx(0.5)


def test_what_is_not_installed_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("eval.compress.onnx_model._NEEDED", ("onnx_that_is_not_there",))
    monkeypatch.setenv("CXX", "c++-that-is-not-there")
    report = Report()
    measure(Namespace(quick=True, rounds=1), report)
    assert {row["engine"] for row in report.results["results"]} == {"torch fp32", "torch bf16"}
    left_out = report.results["left_out"]
    assert left_out.keys() == {engine.name for engine in ENGINES} - {"torch fp32", "torch bf16"}
    assert "pip install 'acn-lm[onnx]'" in left_out["ONNX Runtime fp32"]
    assert "c++-that-is-not-there" in left_out["torch.compile fp32"]
    assert "onnx_that_is_not_there not installed" in capsys.readouterr().out
    assert all("ONNX" not in goal.what and "compile" not in goal.what for goal in report.goals)


def test_an_emulated_precision_gets_fewer_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bf16 = next(engine for engine in ENGINES if engine.name == "torch bf16")
    size = replace(SMALL, depths=(1,))
    answers = eager(size.models(), tmp_path)
    for native, rounds in ((True, 8), (False, 2)):
        monkeypatch.setattr(engines, "cpu_multiplies_bf16", lambda native=native: native)
        times = inference.measure_engine(bf16, answers, answers[at(1)], size.loads(), rounds=8)
        assert len(times[MANY][at(1)].seconds) == rounds


def test_onnx_runtime_answers_as_torch_does_in_fp32_and_int8(tmp_path: Path) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    size = replace(SMALL, depths=(1,))
    models = size.models()
    for name in ("ONNX Runtime fp32", "ONNX Runtime int8"):
        engine = next(engine for engine in ENGINES if engine.name == name)
        off = check(engine, engine.build(models, tmp_path), models, size.loads())
        assert off.keys() == {(ONE, at(1)), (MANY, at(1))}, "no early exit in a graph"


@pytest.mark.slow  # compilers take their time
def test_every_figure_of_a_quick_run_is_written(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    assert inference.BENCHMARK.main(["--quick", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    measured = {row["engine"] for row in written["results"]}
    assert measured | written["left_out"].keys() == {engine.name for engine in ENGINES}
    for row in written["results"]:
        texts = {ONE: inference.SINGLES, MANY: MANY}[row["batch"]]
        assert row["texts_per_second"] == pytest.approx(texts / row["seconds"][0])
        assert row["milliseconds_per_text"] == pytest.approx(1e3 / row["texts_per_second"])
        assert row["deviation"] <= row["tolerance"]
    for name in measured:
        for batch in (ONE, MANY):
            assert any(goal["what"].startswith(f"{name}, batch {batch}: throughput") for goal in written["goals"])
    assert len(written["tables"][0]["rows"]) == len(written["results"]) / 2


def test_goals_are_the_ratios_of_the_times() -> None:
    timing = inference.Timing
    cases = {inference.WHOLE: timing([8.0]), at(3): timing([6.0]), at(1): timing([2.0]), EARLY_EXIT: timing([3.0])}
    engine = Engine("ONNX Runtime fp32", eager, 1.0)
    goals = {goal.what: goal for goal in inference.goals_of(engine, {ONE: cases}, SMALL, {ONE: 4.0})}
    assert goals["ONNX Runtime fp32, batch 1: throughput of depth 1 over depth 3"].value == 3.0
    assert goals["ONNX Runtime fp32, batch 1: depth 3 over torch fp32"].value == pytest.approx(8 / 6)
    gained = goals["ONNX Runtime fp32, batch 1: early exit's speed-up in time over that in FLOPs"]
    assert gained.value == 0.5
    assert not gained.met
