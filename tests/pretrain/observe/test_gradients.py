"""Gradient probes and validation see the same network at every ZeRO stage and precision: two gloo ranks each."""

import json
from pathlib import Path

import pytest

from launch.ranks import run_local_ranks
from modeling import AcnGradientProbe, precision_refusal
from pretrain.observe import ProbesConfig
from tests.pretrain.observe import observe_rank


def observe(stage: int, precision: str, folder: Path) -> list[dict[str, float]]:
    """[probe of step 1, validation after it, probe of step 2]"""
    output = folder / f"{stage}-{precision}.json"
    assert run_local_ranks(2, observe_rank.observe, (stage, precision, output)) == 0
    return json.loads(output.read_text())


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    return observe(1, "fp32", tmp_path_factory.mktemp("stage1"))


def plain_probe() -> dict[str, float]:
    """The first step's probe without DeepSpeed: each rank's micro-batch alone, then the mean over the ranks."""
    reports = []
    for rank in range(2):
        model = observe_rank.build_model()
        with AcnGradientProbe(model) as probe:
            model(**vars(observe_rank.micro_batch(0, rank))).loss.backward()
        reports.append(probe.report())
    metrics = {}
    for layer, (one, two) in enumerate(zip(*reports, strict=True)):
        full = (one.full_norm + two.full_norm) / 2
        metrics[f"probe/gradient_norm_layer_{layer:02d}"] = full
        metrics[f"probe/direct_share_layer_{layer:02d}"] = (one.direct_norm + two.direct_norm) / 2 / full
        metrics[f"probe/parameter_gradient_norm_layer_{layer:02d}"] = (one.parameter_norm + two.parameter_norm) / 2
    return metrics


def test_a_probe_of_two_ranks_is_the_mean_of_plain_torchs_whatever_scales_the_loss(stage_1):
    assert stage_1[0] == pytest.approx(plain_probe(), rel=1e-5)


def test_at_stage_3_probes_and_validation_equal_those_of_stage_1(stage_1, tmp_path):
    for mine, theirs in zip(observe(3, "fp32", tmp_path), stage_1, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow  # two ranks for each of the other stages
@pytest.mark.parametrize("stage", [0, 2])
def test_probes_and_validation_are_the_same_at_every_stage(stage, stage_1, tmp_path):
    for mine, theirs in zip(observe(stage, "fp32", tmp_path), stage_1, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow  # and for each of the other precisions
@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16"), (3, "bf16"), (1, "fp16"), (3, "fp16")])
def test_half_precision_and_its_loss_scale_change_probes_by_rounding_only(stage, precision, tmp_path):
    if precision_refusal(precision) is not None:
        pytest.skip("this CPU has no fp16 arithmetic")
    assert observe(stage, precision, tmp_path)[0] == pytest.approx(plain_probe(), rel=0.03)


def test_the_best_cut_is_the_smallest_depth_within_the_tolerance():
    from pretrain.validate import best_cut

    assert best_cut([0.1, 0.29, 0.292, 0.28, 0.30]) == 1
    assert best_cut([0.5, 0.2, 0.3]) == 0, "a shallow depth may be better than all layers"
    assert best_cut([0.1, 0.2, 0.3]) == 2
    assert best_cut([0.1, 0.2, 0.3], tolerance=0.1) == 1


def test_problems_name_the_field():
    assert ProbesConfig().problems() == []
    assert [problem.field for problem in ProbesConfig(every=-1).problems()] == ["probes.every"]
