"""Forgetting: the measures by their formulas, Synaptic Intelligence and EWC by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from eval import TASKS
from eval.progress import Progress
from eval.studies.base import Context
from eval.studies.consolidation import ElasticWeights, SynapticIntelligence
from eval.studies.forgetting import ForgettingOptions, _models, average_accuracy, average_forgetting, learn_in_sequence
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]


def test_average_accuracy_and_forgetting_of_three_tasks() -> None:
    scores = [[0.9], [0.7, 0.8], [0.75, 0.6, 0.95]]
    assert average_accuracy(scores) == pytest.approx((0.75 + 0.6 + 0.95) / 3)
    # task 1 was best after itself (0.9 -> 0.75), task 2 too (0.8 -> 0.6); the last cannot be forgotten
    assert average_forgetting(scores) == pytest.approx((0.15 + 0.2) / 2)
    assert average_forgetting([[0.5], [0.6, 0.4]]) == pytest.approx(-0.1), "a task may get better"
    assert average_forgetting([[0.5]]) == 0.0


def _step(si: SynapticIntelligence, weight: nn.Parameter, gradient: list[float], to: list[float]) -> None:
    """One optimizer step: the task's gradient comes, the weights go somewhere."""
    weight.grad = torch.tensor(gradient)
    si.before_step()
    with torch.no_grad():
        weight.copy_(torch.tensor(to))
    si.after_step()


def test_synaptic_intelligence_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([0.0, 0.0, 1.0]))
    si = SynapticIntelligence([weight], strength=0.5, damping=0.1)
    _step(si, weight, [-2.0, 1.0, 3.0], [1.0, 0.5, 1.0])
    assert weight.grad.tolist() == [-2.0, 1.0, 3.0], "the first task is free"
    _step(si, weight, [-1.0, 0.0, 3.0], [3.0, 0.0, 1.0])
    # omega = -sum g dw: 2*1 + 1*2 = 4;  -1*0.5 + 0 = -0.5;  0
    assert si.path[0].tolist() == [4.0, -0.5, 0.0]
    si.consolidate()
    # Omega = max(omega, 0) / (way^2 + xi): 4 / (9 + 0.1); a weight whose way made things worse is not held
    torch.testing.assert_close(si.importance[0], torch.tensor([4 / 9.1, 0.0, 0.0]))
    # c Omega (w - 3)^2 at w = 5 has the slope 2 c Omega (5 - 3)
    with torch.no_grad():
        weight.copy_(torch.tensor([5.0, 7.0, 7.0]))
    weight.grad = torch.zeros(3)
    si.before_step()
    torch.testing.assert_close(weight.grad, torch.tensor([2 * 0.5 * 4 / 9.1 * 2, 0.0, 0.0]))


def test_synaptic_intelligence_leaves_the_penalty_out_of_its_path_and_adds_importances_up() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    si = SynapticIntelligence([weight], strength=1.0, damping=1.0)
    _step(si, weight, [-2.0], [1.0])
    si.consolidate()  # Omega = 2 / (1 + 1) = 1, held at 1
    _step(si, weight, [-3.0], [2.0])  # at 1 there is no pull yet
    _step(si, weight, [-3.0], [3.0])  # at 2 the pull is 2 Omega (2 - 1) = 2
    assert weight.grad.tolist() == [-1.0]
    assert si.path[0].tolist() == [6.0], "3 + 3: the task's gradient only"
    si.consolidate()
    torch.testing.assert_close(si.importance[0], torch.tensor([1 + 6 / (4 + 1)]))
    assert si.pull[0].tolist() == pytest.approx([2 * 2.2 * 3.0]), "held at the new place"


class _Logistic(nn.Module):
    """Logits (0, w x)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(x), self.weight * x], dim=-1))


def test_elastic_weights_have_the_fisher_information_of_logistic_regression() -> None:
    """F(w) = x^2 p (1 - p), whatever the labels at hand are."""
    model: Any = _Logistic(0.7)
    ewc = ElasticWeights([model.weight], strength=3.0)
    xs = [1.0, 2.0] * 3000
    ewc.consolidate(model, [{"x": torch.tensor([x]), "labels": torch.tensor([0])} for x in xs], seed=0)
    p = {x: 1 / (1 + math.exp(-0.7 * x)) for x in (1.0, 2.0)}
    fisher = sum(x**2 * p[x] * (1 - p[x]) for x in p) / 2
    assert ewc.stiffness[0].item() == pytest.approx(3 * fisher, rel=0.05)
    with torch.no_grad():
        model.weight.fill_(1.7)
    model.weight.grad = torch.tensor([0.25])
    ewc.before_step()
    assert model.weight.grad.item() == pytest.approx(0.25 + 3 * fisher * (1.7 - 0.7), rel=0.05)


def test_elastic_weights_keep_a_quadratic_for_every_task() -> None:
    model: Any = _Logistic(0.0)
    ewc = ElasticWeights([model.weight], strength=1.0)
    example = [{"x": torch.tensor([2.0])}]
    ewc.consolidate(model, example, seed=0)  # p = 1/2 for either label: F = x^2/4 = 1 at 0
    with torch.no_grad():
        model.weight.fill_(4.0)
    ewc.stiffness[0] += 2.0  # a second task of F = 2, held at 4
    ewc.pull[0] += 2.0 * 4.0
    model.weight.grad = torch.zeros(1)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ewc.before_step()
    assert model.weight.grad.item() == pytest.approx(1.0 * (1 - 0) + 2.0 * (1 - 4))


def test_all_tasks_have_one_encoder_and_a_head_of_their_own(
    make_context: Callable[..., Context], pretrained: Path, tracker: Any
) -> None:
    context = make_context(model=str(pretrained), max_train_samples=16, epochs=1.0)
    rte = replace(context.only, task=replace(TASKS["sst2"], name="again"))
    context = replace(context, data=[context.only, rte])
    first, second = _models(context, seed=1)
    assert first.acn is second.acn
    assert not torch.equal(first.classifier.weight, second.classifier.weight)
    validation = context.encode(rte.task, rte.validation)
    options = ForgettingOptions(ewc_samples=2)
    for name in options.names:
        scores = learn_in_sequence(context, options, name, 1, [validation] * 2, Progress("forgetting", 9))
        assert [len(row) for row in scores] == [1, 2]
    assert {"forgetting/si/again/seed_1/loss", "forgetting/ewc/sst2/seed_1/loss"} <= {
        name for _, values in tracker.metrics for name in values
    }


def test_weights_without_a_gradient_are_left_alone(classifier: MakeClassifier) -> None:
    model = classifier()
    weights = list(model.acn.parameters())
    si = SynapticIntelligence(weights, 1.0, 0.1)
    si.before_step()
    si.after_step()
    assert all(weight.grad is None for weight in weights)
    assert all(not path.any() for path in si.path)
