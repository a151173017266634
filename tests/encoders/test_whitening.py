from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.encoders.whitening import fit_whitening
from bbqrec_cli.errors import DataError


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.standard_normal((300, 12)) @ generator.standard_normal((12, 12)) + 3).astype(np.float32)


def test_as_scikit_learn_does_it(values):
    decomposition = pytest.importorskip("sklearn.decomposition")
    expected = decomposition.PCA(5, whiten=True, svd_solver="full").fit_transform(values.astype(np.float64))
    found = fit_whitening(values, 5, what="text")(values)
    assert found.dtype == np.float32
    signs = np.sign((found * expected).sum(axis=0))  # its rule for signs differs between versions
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)


def test_uncorrelated_with_variance_one(values):
    found = fit_whitening(values, 12, what="text")(values)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(found.T), np.eye(12), atol=1e-3)


def test_signs_and_blocks_change_nothing(values):
    """The largest weight of a component is positive, whatever the order of the items."""
    one, other = fit_whitening(values, 4, what="text"), fit_whitening(values[::-1], 4, what="text", block=7)
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-5)
    largest = np.abs(one.matrix).argmax(axis=0)
    assert (one.matrix[largest, np.arange(4)] > 0).all()
    np.testing.assert_array_equal(one(values), one(values, block=11))
    assert one.name.startswith("whitened-4-")


@pytest.mark.parametrize(
    ("rows", "dims", "directions"),
    [(slice(0, 5), 5, 4), (slice(None), 13, 12), ([0, 0, 0], 1, 0)],
    ids=["few items", "a narrow feature", "equal items"],
)
def test_more_numbers_than_directions(values, rows, dims, directions):
    with pytest.raises(DataError, match=rf"--whiten {dims}: text, .* vary in {directions} directions only"):
        fit_whitening(values[rows], dims, what="text")
