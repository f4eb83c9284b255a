"""Depth supervision in pretraining: its loss in float64, its cost, and real runs."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from modeling import AcnForMaskedLM, DepthSupervision
from pretrain import ModelConfig, PretrainError, check_run
from pretrain.checkpoints import CheckpointConfig
from pretrain.deepspeed_options import OffloadConfig
from pretrain.distil import Lessons, SupervisedForMaskedLM, TeacherConfig, training_flops
from pretrain.observe import ProbesConfig
from pretrain.observe.figures import read_metrics
from pretrain.optim.config import OptimConfig
from pretrain.step import masked_cross_entropy
from tests.pretrain.conftest import continued
from tests.pretrain.distil.conftest import residual_config
from tests.pretrain.distil.test_student import ALONE, BESIDE, CPU, batch, errors_in_float64, student, teacher

LAYERS = 4


def supervised(**fields) -> SupervisedForMaskedLM:
    torch.manual_seed(0)
    config = residual_config(num_hidden_layers=LAYERS, **fields)
    config.connectivity = "acn"
    model = SupervisedForMaskedLM(config).double()
    model.loss_function = loss_in_float64
    return model


def loss_in_float64(logits, labels, vocab_size, num_items_in_batch):
    """transformers' own is one in float32."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def predictions(model: AcnForMaskedLM) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (L + 1, 5, V) of the batch's targets at every depth, and the labels (5,)."""
    one = batch()
    real = (one.labels != -100).flatten()
    logits = [
        logits.flatten(0, 1)[real] for logits in model.depth_logits(one.masked_positions, input_ids=one.input_ids)
    ]
    x = torch.stack(logits).detach().double().numpy()
    return x - np.log(np.exp(x).sum(-1, keepdims=True)), one.labels.flatten()[real].numpy()


def expected_loss(kind: str, step: int, losses: np.ndarray, divergences: np.ndarray) -> float:
    """By the definitions in docs/model.md, of four layers; the depth that is drawn is read from the weights."""
    if kind == "deep":
        return sum(k * losses[k] for k in range(1, 5)) / 10
    if kind == "adaptive":
        depth = min(DepthSupervision("adaptive").weights(LAYERS, 3, step).loss)
        return losses[4] + losses[depth] / depth + divergences[depth]
    depth = 1 + step % 3
    own, last = 0.2 * sum(range(depth + 1)), 3 + 0.2 * (1 + 2 + 3)
    return (own * losses[depth] + last * losses[4]) / (own + last)


@pytest.mark.parametrize("kind", ["deep", "adaptive", "layerskip"])
def test_the_loss_is_what_the_kind_says(kind):
    model, one = supervised(), batch()
    logs, labels = predictions(model)
    losses = -logs[:, np.arange(5), labels].mean(-1)
    divergences = (np.exp(logs[-1]) * (logs[-1] - logs)).sum(-1).mean(-1)
    supervision = DepthSupervision(kind, drop=0.0 if kind == "layerskip" else None)
    for step in range(6):
        lessons = Lessons(CPU, depths=lambda step: supervision.weights(LAYERS, 3, step), targets_per_block=None)
        outputs = model(**lessons.read(one).arguments(), depths=lessons.depths(step))
        assert outputs.loss.item() == pytest.approx(expected_loss(kind, step, losses, divergences), rel=1e-10)
        assert float(outputs.mlm_loss) == pytest.approx(losses[-1], rel=1e-10)


@pytest.mark.parametrize("kind", ["deep", "adaptive"])
def test_the_losses_of_micro_batches_add_up_to_that_of_all_their_targets(kind):
    """Also where one has fewer targets than the others; with the loss that pretraining has."""
    model, weights = supervised().float(), DepthSupervision(kind).weights(LAYERS, 3, 0)
    model.loss_function = masked_cross_entropy
    one = Lessons(CPU).read(batch()).arguments()
    whole = model(**one, depths=weights, num_items_in_batch=torch.tensor(5.0))
    parts = [
        model(
            **{name: value[rows] for name, value in one.items()}, depths=weights, num_items_in_batch=torch.tensor(5.0)
        )
        for rows in (slice(0, 1), slice(1, 3))
    ]
    assert sum(part.loss.item() for part in parts) == pytest.approx(whole.loss.item(), rel=1e-5)
    whole.loss.backward()
    expected = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    for part in parts:
        part.loss.backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", [ALONE, BESIDE])
def test_with_a_teacher_every_depth_has_both_losses(config):
    model, lessons = student(config, num_hidden_layers=LAYERS).double(), Lessons(CPU, config, teacher())
    model.loss_function = loss_in_float64
    lesson = lessons.read(batch())
    outputs = model(**lesson.arguments(), depths=DepthSupervision("deep").weights(LAYERS, 0, 0))
    read_outs = list(model.acn.read_outs(**lesson.inputs))
    losses = 2 * np.array([errors_in_float64(model, read_out, lesson.states).mean() for read_out in read_outs])
    assert float(outputs.match) == pytest.approx(losses[-1] / 2, rel=1e-12)
    if config is BESIDE:
        logs, labels = predictions(model)
        losses -= logs[:, np.arange(5), labels].mean(-1)
    assert outputs.loss.item() == pytest.approx(sum(k * losses[k] for k in range(1, 5)) / 10, rel=1e-10)


@pytest.mark.parametrize(
    ("kind", "config"),
    [("deep", None), ("deep", ALONE), ("deep", BESIDE), ("adaptive", None), ("adaptive", BESIDE)],
    ids=["deep", "deep, match alone", "deep, both", "adaptive", "adaptive, both"],
)
def test_the_flops_are_what_torch_counts(kind, config):
    supervision = DepthSupervision(kind)
    lessons = Lessons(CPU) if config is None else Lessons(CPU, config, teacher())
    model = supervised().float() if config is None else student(config, num_hidden_layers=LAYERS)
    for one in (model, *([lessons.teacher.model] if config else [])):
        one.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as asking:
        lesson = lessons.read(batch())
    with FlopCounterMode(display=False) as forward:
        model(**lesson.arguments(), depths=supervision.weights(LAYERS, 0, 0))
    masked = config is None or config.masked
    expected = training_flops(model.config, 11, 2, lessons.taught_by, masked, supervision)
    assert asking.get_total_flops() + 3 * forward.get_total_flops() == 3 * expected  # three blocks


def test_layers_that_are_left_out_are_counted_in_the_mean():
    model = supervised().config
    whole = training_flops(model, 11, 2, supervision=DepthSupervision("layerdrop", drop=0.0))
    half = training_flops(model, 11, 2, supervision=DepthSupervision("layerdrop", drop=0.5))
    head = training_flops(residual_config(num_hidden_layers=0), 11, 2)
    assert half - head == pytest.approx((whole - head) / 2)
    steps = [DepthSupervision("layerskip", drop=0.9).weights(LAYERS, 1, step) for step in range(4000)]
    run = LAYERS - np.mean([len(step.left_out) for step in steps])
    assert DepthSupervision("layerskip", drop=0.9).layers_per_step(LAYERS) == pytest.approx(run, abs=0.05)


RUNS = {
    "layerskip": {"supervision": DepthSupervision("layerskip", drop=0.6)},
    "adaptive": {"supervision": DepthSupervision("adaptive")},
    "layerdrop": {"supervision": DepthSupervision("layerdrop", drop=0.4)},
}
MODEL = ModelConfig(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, max_position_embeddings=16
)
OPTIM = OptimConfig(lr=1e-3, eps=1e-6)  # see tests/pretrain/checkpoints/test_resize.py


@pytest.mark.parametrize(
    ("kind", "ranks", "layout"),
    [
        ("layerskip", 2, {"zero_stage": 3}),
        ("layerdrop", 1, {"zero_stage": 3, "offload": OffloadConfig(optimizer="cpu")}),
        # the others differ in whose gradients DeepSpeed keeps alone
        pytest.param("layerdrop", 2, {"zero_stage": 2}, marks=pytest.mark.slow),
        pytest.param(
            "layerdrop", 1, {"zero_stage": 1, "offload": OffloadConfig(optimizer="cpu")}, marks=pytest.mark.slow
        ),
        pytest.param("adaptive", 2, {"zero_stage": 3}, marks=pytest.mark.slow),
    ],
)
def test_a_run_gives_the_same_curve_on_other_ranks_at_another_stage_and_resumed(
    acn, recipe, tmp_path, kind, ranks, layout
):
    """All ranks leave the same layers out, none applies an old gradient to one, and what goes on from a checkpoint
    leaves out what it would have left out."""
    fields = RUNS[kind] | {"model": MODEL, "optim": OPTIM, "checkpoint": CheckpointConfig(every=2, keep=9)}
    done = acn("pretrain", "--config", str(recipe("one", 1, zero_stage=0, **fields)))
    assert done.returncode == 0, done.stderr
    continued(tmp_path / "one", tmp_path / "two", step=2)
    done = acn("pretrain", "--config", str(recipe("two", ranks, **layout, **fields)))
    assert done.returncode == 0, done.stderr
    assert "at step 2" in done.stdout
    curves, after = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    for name in ("train/loss", "train/mlm_loss", "validation/loss_depth_01", "validation/loss_depth_03"):
        expected = {step: value for step, value in curves[name].items() if step > 2}
        assert after[name] == pytest.approx(expected, rel=2e-5), name
    assert "train/match" not in curves
    assert (curves["train/loss"] == curves["train/mlm_loss"]) == (kind == "layerdrop")
    content = json.loads((tmp_path / "one" / "model" / "config.json").read_text())
    assert content["architectures"] == ["AcnForMaskedLM"]
    assert "supervision" not in content
    names = load_file(tmp_path / "one" / "model" / "model.safetensors").keys()
    assert sum(name.endswith("mlp_norm.weight") for name in names) == 3


def test_a_run_goes_on_with_another_supervision_or_none(acn, recipe, tmp_path):
    """It is no part of what a run is, as a learning rate is none."""
    done = acn("pretrain", "--config", str(recipe("first", model=MODEL, steps=3)))
    assert done.returncode == 0, done.stderr
    shutil.move(tmp_path / "first", tmp_path / "second")
    done = acn("pretrain", "--config", str(recipe("second", model=MODEL, supervision=DepthSupervision("deep"))))
    assert done.returncode == 0, done.stderr
    assert "at step 3" in done.stdout
    curves = read_metrics(tmp_path / "second")
    assert sorted(curves["train/loss"]) == [1, 2, 3, 4, 5, 6]
    assert sorted(curves["train/mlm_loss"]) == [4, 5, 6]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"supervision": DepthSupervision("deep", drop=0.1)}, "supervision.drop=0.1 is for layerskip and layerdrop"),
        (
            {"supervision": DepthSupervision("deep"), "model": ModelConfig(num_hidden_layers=1)},
            "supervision.kind=deep needs two layers at least, not 1",
        ),
        (
            {"supervision": DepthSupervision("layerdrop"), "model": ModelConfig(num_hidden_layers=0)},
            "supervision.kind=layerdrop needs two layers at least, not 0",
        ),
        (
            {
                "supervision": DepthSupervision("layerdrop"),
                "zero_stage": 3,
                "offload": OffloadConfig(optimizer="nvme", nvme_path="/nowhere"),
            },
            "supervision.kind=layerdrop does not go with offload.optimizer nvme",
        ),
        (
            {"supervision": DepthSupervision("deep"), "probes": ProbesConfig(every=2)},
            "supervision.kind=deep does not go with probes.every",
        ),
        (
            {
                "supervision": DepthSupervision("adaptive"),
                "teacher": TeacherConfig(weight=1.0, model="there", mlm_weight=0.0),
            },
            "supervision.kind=adaptive learns predictions of masked tokens: set teacher.mlm_weight above 0",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tiny_run, fields, message):
    with pytest.raises(PretrainError) as caught:
        check_run(tiny_run(**fields), world_size=1)
    assert message in str(caught.value)
