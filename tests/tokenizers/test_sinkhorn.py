"""Sinkhorn and Knopp's shares, against the marginals they must have and against the best assignment there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog

from bbqrec_cli.tokenizers.quantization.sinkhorn import assign_by_share, transport


@pytest.mark.parametrize(("items", "codes"), [(1, 1), (1, 5), (3, 8), (6, 6), (9, 4)])
def test_marginals(items, codes):
    shares = transport(np.random.default_rng(items).random((items, codes)), epsilon=0.1)
    assert (shares >= 0).all()
    per_item, per_code = shares.sum(1), shares.sum(0)
    np.testing.assert_allclose(per_item, np.full(items, min(1.0, codes / items)), atol=1e-5)
    if items >= codes:
        np.testing.assert_allclose(per_code, 1, atol=1e-9)
    else:
        assert per_code.max() <= 1 + 1e-9, "no code is given out more than once"


def test_in_numbers():
    """Two items, two codes, ε = 1 of a range of 1: K = exp(-C) scaled to marginals of one by hand.

    C = [[0, 1], [1, 0]] is symmetric, so the scaling is one number: p = 1 / (1 + e⁻¹) on the diagonal.
    """
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(transport(np.array([[0.0, 1], [1, 0]]), epsilon=1), [[p, 1 - p], [1 - p, p]], atol=1e-7)


def test_small_epsilon_is_the_linear_program():
    """The unregularised problem with the same marginals (each code at most once), solved by SciPy."""
    costs = np.random.default_rng(5).random((4, 7))
    once = np.kron(np.ones(4), np.eye(7))
    every = np.kron(np.eye(4), np.ones(7))
    best = linprog(costs.ravel(), A_ub=once, b_ub=np.ones(7), A_eq=every, b_eq=np.ones(4))
    shares = transport(costs, epsilon=0.003, iterations=20_000)
    assert (shares * costs).sum() == pytest.approx(best.fun, rel=0.01)


def test_no_overflow():
    """Costs that differ a million times more than the least of them."""
    shares = transport(np.array([[0.0, 1e6, 1e-3], [0.0, 2e6, 3e-3]]))
    assert np.isfinite(shares).all()
    assert assign_by_share(np.array([[0.0, 1e6, 1e-3], [0.0, 2e6, 3e6]])).tolist() == [2, 0]


def test_close_to_the_best_assignment():
    """Against the Hungarian method, on 100 random cases: mostly the same, never far off, and better than greed."""
    generator, mine, best, greedy = np.random.default_rng(0), [], [], []
    for _ in range(100):
        costs = generator.random((generator.integers(2, 8), generator.integers(8, 40)))
        rows, columns = linear_sum_assignment(costs)
        found = assign_by_share(costs)
        assert len(set(found)) == len(found)
        mine.append(costs[np.arange(len(costs)), found].sum())
        best.append(costs[rows, columns].sum())
        greedy.append(one_after_the_other(costs))
    ratio = np.array(mine) / np.array(best)
    assert (ratio < 1 + 1e-9).mean() > 0.85
    assert ratio.max() < 1.2
    assert sum(mine) < sum(greedy)


def one_after_the_other(costs: np.ndarray) -> float:
    left, total = list(range(costs.shape[1])), 0.0
    for row in costs:
        code = min(left, key=row.__getitem__)
        left.remove(code)
        total += row[code]
    return total


def test_twins_take_the_nearest_codes_in_order():
    assert assign_by_share(np.tile([[0.3, 0.1, 0.9, 0.2]], (3, 1))).tolist() == [1, 3, 0]


def test_too_many_items():
    found = assign_by_share(np.random.default_rng(1).random((5, 3)))
    assert sorted(found.tolist()) == [-1, -1, 0, 1, 2]
    assert assign_by_share(np.empty((2, 0))).tolist() == [-1, -1]
