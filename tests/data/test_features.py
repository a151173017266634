from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.data.features import standardized
from bbqrec_cli.records import Feature


@pytest.mark.parametrize("block", [3, 4096])
def test_standardized(block):
    generator = np.random.default_rng(0)
    values = (5 + 2 * generator.standard_normal((10, 4))).astype(np.float32)
    values[:, 2] = 7
    present = np.arange(10) % 4 != 1
    values[~present] = np.nan
    made = standardized(Feature(values=values, present=present), block=block)
    here = values[present].astype(np.float64)
    expected = (here - here.mean(0)) / np.where(np.arange(4) == 2, 1, here.std(0))
    np.testing.assert_allclose(made[present], expected, rtol=1e-5, atol=1e-6)
    assert (made[:, 2] == 0).all(), "a constant column says nothing"
    assert (made[~present] == 0).all()
    assert made.dtype == np.float32


@pytest.mark.parametrize("others", [1, 6])
def test_a_large_column_does_not_hide_the_others(others):
    """A date in seconds beside numbers around zero."""
    values = np.random.default_rng(0).standard_normal((50, others + 1)).astype(np.float32)
    values[:, 0] = 1.4e9 + 3e6 * values[:, 0]
    made = standardized(Feature(values=values, present=np.ones(50, dtype=bool)))
    np.testing.assert_allclose(made.std(0), 1, rtol=1e-3)


def test_standardized_does_not_blow_up_rounding():
    values = np.full((6, 2), 0.1, dtype=np.float32)
    values[:, 1] = [1, 2, 3, 4, 5, 6]
    values[0, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    assert np.abs(standardized(Feature(values=values, present=np.ones(6, dtype=bool)))[:, 0]).max() == 0


def test_many_large_columns_do_not_hide_the_others():
    """Two dates in seconds beside a rating, three in milliseconds beside two numbers."""
    numbers = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    for large, size in ((2, 1e8), (3, 1e11)):
        values = np.concatenate([size * (14 + numbers[:, :large]), 3 + numbers[:, 3:]], axis=1)
        made = standardized(Feature(values=values, present=np.ones(50, dtype=bool)))
        np.testing.assert_allclose(made.std(0), 1, rtol=1e-3)
