from __future__ import annotations

import math

import numpy as np
import pytest

from bbqrec_cli.data.splits import split_of
from bbqrec_cli.evaluation.alignment import (
    co_interaction_share,
    nearest_items,
    neighbour_overlap,
    next_item_recall,
    ridge_explained,
    shared_information,
)
from bbqrec_cli.records import Sequences

ITEMS = 2000


def pair(correlation: float, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians whose mutual information is -width/2 · log(1 - correlation²)."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, ITEMS, width))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_information_of_gaussians(correlation):
    found = shared_information(*pair(correlation), seed=0)
    true = -3 / 2 * math.log(1 - correlation**2)
    assert 0.7 * true < found.information < 1.2 * true  # 400 items are measured: some noise
    assert abs(found.shuffled) < 0.05
    assert found.explained == pytest.approx(correlation**2, abs=0.05)


@pytest.mark.slow
def test_the_first_is_explained_by_the_second():
    whole = np.random.default_rng(3).normal(size=(ITEMS, 3))
    part = whole[:, :1]
    assert shared_information(part, whole, seed=0).explained == pytest.approx(1, abs=0.01)
    assert shared_information(whole, part, seed=0).explained == pytest.approx(1 / 3, abs=0.05)


def test_nothing_shared():
    rng = np.random.default_rng(1)
    found = shared_information(rng.normal(size=(ITEMS, 20)), rng.normal(size=(ITEMS, 30)), seed=0)
    assert found.information < 0.05, "a critic that learnt its items by heart must not count"
    assert found.explained < 0.02


def test_information_that_no_line_can_see():
    """z̄ = z² has no correlation with z, yet all of its information."""
    x = np.random.default_rng(2).normal(size=(ITEMS, 1))
    found = shared_information(x, x**2, seed=0)
    assert found.explained < 0.02
    assert found.information > 0.5


def test_a_constant_shares_nothing():
    x, _ = pair(0.5)
    found = shared_information(np.ones((ITEMS, 4)), x, seed=0)
    assert (found.information, found.explained) == (0.0, 0.0)
    found = shared_information(x, np.ones((ITEMS, 4)), seed=0)
    assert found.information == 0.0
    assert found.explained == pytest.approx(0, abs=0.01)


def test_same_seed_same_figures():
    x, y = (each[:200] for each in pair(0.5))
    assert shared_information(x, y, seed=3) == shared_information(x, y, seed=3) != shared_information(x, y, seed=4)


def test_ridge_against_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(4)
    x = rng.normal(size=(90, 5))
    y = x @ rng.normal(size=(5, 2)) + rng.normal(size=(90, 2))
    parts = [np.arange(60), np.arange(60, 75), np.arange(75, 90)]
    scaled = [(each - each[parts[0]].mean(0)) / each[parts[0]].std(0) for each in (x, y)]
    models = [Ridge(alpha=10.0**p * 60, fit_intercept=False).fit(*(s[:60] for s in scaled)) for p in range(-4, 2)]

    def score(model, part):
        return r2_score(scaled[1][part], model.predict(scaled[0][part]), multioutput="variance_weighted")

    best = max(models, key=lambda model: score(model, parts[1]))
    assert ridge_explained(y, x, parts) == pytest.approx(score(best, parts[2]))


def test_neighbours():
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3]])
    np.testing.assert_array_equal(nearest_items(vectors, 1)[:, 0], [1, 0, 3, 2])
    np.testing.assert_array_equal(nearest_items(vectors, 2)[0], [1, 3])


def test_overlap():
    assert neighbour_overlap(np.array([[1, 2], [0, 2]]), np.array([[2, 1], [3, 2]])) == 0.75


SEQUENCES = Sequences.from_lists([[0, 1, 2, 3], [0, 1], [3, 2, 1, 0]])


def test_taken_together():
    train = Sequences.from_lists([[0, 1], [2, 0]])
    found = np.array([[1, 3], [0, 2], [0, 1], [0, 1]])
    # 0 went with 1 and 2, 1 and 2 with 0, and 3 with nobody: it does not count.
    assert co_interaction_share(found, train) == pytest.approx((0.5 + 0.5 + 0.5) / 3)


def test_next_items():
    held = split_of(SEQUENCES).validation  # [0, 1] -> 2 and [3, 2] -> 1
    found = np.array([[1], [2], [3], [0]])
    assert next_item_recall(found, held) == 0.5
