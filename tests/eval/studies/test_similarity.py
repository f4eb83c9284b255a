"""CKA against the U-statistic written out, and its invariances."""

from itertools import permutations

import numpy as np
import pytest

from eval.studies.similarity import cka


def _hsic_by_definition(k: np.ndarray, m: np.ndarray) -> float:
    """The U-statistic: mean over distinct (i, j, q, r) of k_ij (m_ij + m_qr - 2 m_iq) (Gretton et al. 2005)."""
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return float(np.mean(terms))


def test_it_is_the_normalised_u_statistic_of_hsic() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 5))
    k, m = x @ x.T, y @ y.T
    expected = _hsic_by_definition(k, m) / np.sqrt(_hsic_by_definition(k, k) * _hsic_by_definition(m, m))
    assert cka([x, y])[0, 1] == pytest.approx(expected, abs=1e-12)


def test_a_representation_is_like_itself_rotated_shifted_and_scaled() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    similar = cka([x, x @ rotation, 3 * x + 5, x[:, ::-1]])
    np.testing.assert_allclose(similar, 1, atol=1e-10)


def test_unrelated_representations_are_unlike_however_wide() -> None:
    """The biased estimator would say 0.9 here."""
    rng = np.random.default_rng(2)
    assert abs(cka([rng.normal(size=(50, 500)), rng.normal(size=(50, 500))])[0, 1]) < 0.1


def test_a_representation_that_never_changes_has_no_similarity() -> None:
    x = np.random.default_rng(3).normal(size=(9, 4))
    similar = cka([x, np.ones((9, 4))])
    assert np.isnan(similar[0, 1])
    assert np.isnan(similar[1, 1])
    assert similar[0, 0] == pytest.approx(1)
