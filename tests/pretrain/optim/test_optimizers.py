"""Every optimizer computes its paper's equations at every ZeRO stage it is allowed at, and resumes exactly."""

import pytest
import torch

from launch.ranks import run_local_ranks
from tests.pretrain.optim.optimizer_ranks import (
    ACCUMULATIONS,
    EMA_DECAY,
    EMA_EVERY,
    RATES,
    WORLD,
    Probe,
    cases,
    slopes,
    train_all,
)

DECAY, BETAS, EPS, MOMENTUM = 0.1, (0.9, 0.98), 1e-6, 0.95


# slow: all optimizers and stages once more
@pytest.fixture(scope="module", params=["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def results(precision, tmp_path_factory):
    """What two ranks made of all cases; one start of the processes for them all."""
    folder = tmp_path_factory.mktemp("optimizers")
    assert run_local_ranks(WORLD, train_all, (folder, precision)) == 0
    return torch.load(folder / "results.pt", weights_only=False)


def initial(precision: str) -> dict[str, torch.Tensor]:
    """DeepSpeed makes the fp32 weights of a bf16 run from bf16 ones."""
    model = Probe().bfloat16() if precision == "bf16" else Probe()
    return {name: p.detach().double() for name, p in model.named_parameters()}


def reference(optimizer: str, precision: str) -> dict[str, torch.Tensor]:
    """The equations in float64, one whole tensor at a time."""
    weights = initial(precision)
    rule = {"adamw": Adam(trust=False), "lamb": Adam(trust=True), "muon": Muon()}[optimizer]
    for step, rate in enumerate(RATES):
        count = ACCUMULATIONS[step] * WORLD
        batches = [slopes(step, number) for number in range(count)]
        for name in weights:
            gradient = sum(batch[name].double() for batch in batches) / count
            rule.apply(name, weights[name], gradient, rate, step + 1)
    return weights


class Adam:
    """AdamW (algorithm 2 of arXiv 1711.05101), or LAMB (algorithm 2 of arXiv 1904.00962)."""

    def __init__(self, trust: bool):
        self.trust, self.first, self.second = trust, {}, {}

    def apply(self, name, x, g, rate, t):
        m = self.first[name] = BETAS[0] * self.first.get(name, 0) + (1 - BETAS[0]) * g
        v = self.second[name] = BETAS[1] * self.second.get(name, 0) + (1 - BETAS[1]) * g * g
        direction = (m / (1 - BETAS[0] ** t)) / ((v / (1 - BETAS[1] ** t)).sqrt() + EPS)
        if x.ndim == 2:
            direction = direction + DECAY * x
            if self.trust:
                direction = direction * x.norm() / direction.norm()
        x -= rate * direction


class Muon:
    """Keller Jordan's Muon with five quintic Newton-Schulz steps, at the size of AdamW's steps (arXiv 2502.16982)."""

    def __init__(self):
        self.momentum, self.adam = {}, Adam(trust=False)

    def apply(self, name, x, g, rate, t):
        if x.ndim < 2 or name == "table.weight":
            return self.adam.apply(name, x, g, rate, t)
        self.momentum[name] = MOMENTUM * self.momentum.get(name, 0) + (1 - MOMENTUM) * g
        nesterov = MOMENTUM * self.momentum[name] + (1 - MOMENTUM) * g
        u, s, vt = torch.linalg.svd(nesterov, full_matrices=False)
        s = s / s.square().sum().sqrt()
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        x -= rate * (0.2 * max(x.shape) ** 0.5 * (u * s) @ vt + DECAY * x)
        return None


@pytest.mark.parametrize("case", cases(), ids=str)
def test_the_weights_are_those_of_the_equations(results, precision, case):
    optimizer, stage = case
    # ZeRO rounds Muon's updates to the type of the gradients
    tolerance = 5e-4 if (optimizer, precision) == ("muon", "bf16") and stage else 2e-6
    trained, expected, start = results[case][0][0][-1], reference(optimizer, precision), initial(precision)
    assert set(trained) == set(expected)
    for name, weight in trained.items():
        assert (expected[name] - start[name]).abs().max() > 0.03, "the steps are large against the tolerance"
        torch.testing.assert_close(weight.double(), expected[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_checkpoint_keeps_the_optimizers_state_bit_for_bit(results, case):
    (undisturbed, average), (resumed, resumed_average) = results[case]
    assert all(torch.equal(weight, resumed[-1][name]) for name, weight in undisturbed[-1].items())
    assert all(torch.equal(weight, resumed_average[name]) for name, weight in average.items())


@pytest.mark.parametrize("case", cases(), ids=str)
def test_the_average_is_that_of_the_weights_after_every_second_step(results, case):
    history, average = results[case][0]
    for name, found in average.items():
        expected = history[0][name].double()
        for step in (2, 4):
            past = min(EMA_DECAY, (1 + step) / (10 + step)) ** EMA_EVERY
            expected = past * expected + (1 - past) * history[step][name].double()
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_the_cases_are_all_that_is_allowed():
    assert set(cases()) == {(name, stage) for name in ("adamw", "lamb", "muon") for stage in range(4)} - {("lamb", 3)}
