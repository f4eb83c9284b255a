"""Pull-back spectra against the explicit Jacobian."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eval.studies.geometry import Spectrum, exact_spectrum, lanczos_spectrum, layer_maps
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]


@pytest.fixture(scope="module")
def layers(classifier: MakeClassifier) -> list:
    model = classifier(hidden_size=8, intermediate_size=16, connectivity="hybrid", hybrid_init=0.5).double()
    model.set_attn_implementation("eager")
    return list(layer_maps(model.requires_grad_(False), {"input_ids": torch.tensor([[2, 7, 9, 3]])}))


def _explicit(function: Callable, x: torch.Tensor) -> np.ndarray:
    n = x.numel()
    jacobian = torch.autograd.functional.jacobian(function, x).view(n, n)  # reverse mode, a row at a time
    return np.linalg.eigvalsh((jacobian.T @ jacobian).numpy())


def test_the_exact_spectrum_is_that_of_the_explicit_jacobian(layers: list) -> None:
    assert len(layers) == 3
    for function, x in layers:
        spectrum = exact_spectrum(function, x)
        assert spectrum.size == 32
        np.testing.assert_allclose(spectrum.eigenvalues, _explicit(function, x), atol=1e-9)


def test_as_many_lanczos_steps_as_dimensions_find_every_eigenvalue(layers: list) -> None:
    function, x = layers[0]
    expected = _explicit(function, x)
    found = lanczos_spectrum(function, x, 40, torch.Generator().manual_seed(0))
    assert found.shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.eigenvalues[-1], expected[-1], rtol=1e-8)
    distinct = expected[expected > 1e-8]
    nearest = np.abs(found.eigenvalues[:, None] - distinct).min(0)
    np.testing.assert_allclose(nearest / distinct, 0, atol=1e-4)


def test_few_lanczos_steps_give_the_mean_and_the_effective_rank_on_average(layers: list) -> None:
    function, x = layers[1]
    exact = exact_spectrum(function, x)
    several = [lanczos_spectrum(function, x, 10, torch.Generator().manual_seed(seed)) for seed in range(60)]
    assert np.mean([s.mean for s in several]) == pytest.approx(exact.mean, rel=0.1)
    assert np.mean([s.effective_rank for s in several]) == pytest.approx(exact.effective_rank, rel=0.15)
    assert np.mean([s.eigenvalues[-1] for s in several]) == pytest.approx(exact.eigenvalues[-1], rel=1e-3)
    for rank in (1, 2, 4):
        assert max(s.largest(rank) for s in several) <= exact.largest(rank) * (1 + 1e-9)


def test_a_linear_layer_has_the_squared_singular_values_of_its_matrix() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64))
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    for spectrum in (
        exact_spectrum(lambda v: v @ matrix, x),
        lanczos_spectrum(lambda v: v @ matrix, x, 9, torch.Generator().manual_seed(1)),
    ):
        np.testing.assert_allclose(spectrum.eigenvalues, [0, 1, 4, 9], atol=1e-9)


def test_the_effective_rank_counts_equal_directions() -> None:
    assert Spectrum(np.array([2.0, 2.0, 2.0]), np.full(3, 1 / 3), 3).effective_rank == pytest.approx(3)
    assert Spectrum(np.array([0.0, 0.0, 5.0]), np.full(3, 1 / 3), 3).effective_rank == pytest.approx(1)
    two = Spectrum(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 8)  # half of eight dimensions, alike
    assert two.effective_rank == pytest.approx(4)
    assert [two.largest(rank) for rank in (1, 2, 3)] == [1.0, 0.0, 0.0]
