from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from bbqrec_cli.errors import DataError
from bbqrec_cli.evaluation import metrics, significance
from bbqrec_cli.evaluation.comparison import cut
from bbqrec_cli.evaluation.significance import Rows, aligned, paired, paired_t_test, wilcoxon
from bbqrec_cli.evaluation.tables import against_table


def test_t_test_from_the_formula():
    generator = np.random.default_rng(0)
    a, b = (generator.random(50) for _ in range(2))
    difference = a - b
    t = difference.mean() / (difference.std(ddof=1) / math.sqrt(50))
    assert paired_t_test(a, b) == pytest.approx(2 * stats.t.sf(abs(t), 49), rel=1e-4)
    assert paired_t_test(a, b) == paired_t_test(b, a)


@pytest.mark.parametrize("users", [1, 2, 5, 9])
@pytest.mark.parametrize("values", [2, 3, 9])
def test_wilcoxon_from_all_signs(users, values):
    """Every choice of signs counted, for every choice of signs."""
    sizes = np.random.default_rng(users).integers(1, values, users) / 4
    ranks = stats.rankdata(sizes)
    signs = np.array(list(itertools.product([1, -1], repeat=users)))
    sums = (signs > 0) @ ranks
    for found, total in zip(signs[::7], sums[::7], strict=True):
        expected = min(1, 2 * min((sums <= total).mean(), (sums >= total).mean()))
        assert wilcoxon(np.append(found * sizes, [0.0, 0.0]), np.zeros(users + 2)) == pytest.approx(expected)


@pytest.mark.parametrize(("better", "worse", "p"), [(5, 0, 0.0625), (8, 1, 0.0390625), (3000, 2900, 0.197)])
def test_hits_are_compared_by_the_sign_test(better, worse, p):
    a, b = np.repeat([1.0, 0.0, 1.0], [better, worse, 300]), np.repeat([0.0, 1.0, 1.0], [better, worse, 300])
    assert wilcoxon(a, b) == pytest.approx(p, abs=1e-3)


def test_exact_and_approximate_meet(monkeypatch):
    difference = np.round(np.random.default_rng(0).normal(0.2, 1, 90), 1)
    exact = wilcoxon(difference, np.zeros(90))
    monkeypatch.setattr(significance, "EXACT", 0)
    assert wilcoxon(difference, np.zeros(90)) == pytest.approx(exact, abs=2e-3)


def test_wilcoxon_from_the_formula(monkeypatch):
    """Signed ranks without the zeros, the normal approximation with the correction for ties."""
    monkeypatch.setattr(significance, "EXACT", 0)
    a, b = np.array([3, 5, 4, 1, 9, 2, 7, 4.0]), np.array([1, 5, 2, 2, 1, 4, 1, 3.0])
    difference = (a - b)[a != b]
    ranks = stats.rankdata(abs(difference))
    n, above = len(difference), ranks[difference > 0].sum()
    _, ties = np.unique(ranks, return_counts=True)
    deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24 - (ties**3 - ties).sum() / 48)
    expected = 2 * stats.norm.sf(abs(above - n * (n + 1) / 4) / deviation)
    assert wilcoxon(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("test", [paired_t_test, wilcoxon])
def test_means_over_seeds_tie(test):
    """As many users have 3 hits to 2 as have 0 to 1: the last bit of a third is no difference."""
    a, b = np.repeat([1.0, 0.0], 60), np.repeat([np.mean([1, 1, 0]), np.mean([1, 0, 0])], 60)
    assert test(a, b) == pytest.approx(1)


@pytest.mark.parametrize("test", [paired_t_test, wilcoxon])
def test_extremes(test):
    hits = np.resize(np.float32([0, 1]), 400)
    assert test(hits, hits) == 1
    assert test(hits, np.zeros_like(hits)) < 1e-6
    # Everybody differs by the same amount: no spread at all.
    assert test(np.ones(400, np.float32), np.zeros(400, np.float32)) < 1e-6


def test_a_few_users_who_differ_alike_prove_little():
    assert paired_t_test(np.ones(5), np.zeros(5)) == wilcoxon(np.ones(5), np.zeros(5)) == 0.0625


def test_a_single_user_proves_nothing():
    assert paired_t_test(np.ones(1), np.zeros(1)) == 1


def test_users_are_matched_by_id():
    a, b = aligned(["x", "y", "z"], np.array([1, 2, 3]), ["z", "x", "y"], np.array([30, 10, 20]))
    assert (a.tolist(), b.tolist()) == ([1, 2, 3], [10, 20, 30])


@pytest.mark.parametrize(
    ("others", "said"),
    [(["x", "y"], "3 and 2; 'z' is in one only"), (["x", "y", "w"], "; 'z' is in one only")],
)
def test_other_users_are_refused(others, said):
    with pytest.raises(DataError, match=said):
        aligned(["x", "y", "z"], np.arange(3), others, np.arange(len(others)))


def test_more_users_on_the_other_side_are_refused():
    with pytest.raises(DataError, match="2 and 3"):
        aligned(["x", "y"], np.arange(2), ["x", "y", "z"], np.arange(3))


def test_several_targets_of_a_user_count_as_their_mean():
    """y has the targets i and j, i again later; the other file has them in another order."""
    one = Rows(["x", "y", "y", "y"], ["i", "i", "j", "i"], np.array([3, 5, 6, 7]))
    other = Rows(["y", "y", "x", "y"], ["i", "j", "i", "i"], np.array([7, 6, 3, 5]))
    a, b = paired(one, np.array([1.0, 0, 1, 0.5]), other, np.array([0.5, 0, 0.25, 1]))
    assert (a.tolist(), b.tolist()) == ([1, 0.5], [0.25, 0.5])
    with pytest.raises(DataError, match="'y: i after 7 items' is in one only"):
        paired(one, np.zeros(4), other._replace(history_length=np.array([8, 6, 3, 5])), np.zeros(4))


def test_old_files_are_matched_by_user():
    one, old = Rows(["x", "y"], ["i", "j"], np.array([3, 4])), Rows(["y", "x"], None, None)
    a, b = paired(one, np.array([1.0, 0]), old, np.array([2.0, 3]))
    assert (a.tolist(), b.tolist()) == ([1, 0], [3, 2])


@pytest.mark.parametrize("test", [paired_t_test, wilcoxon])
def test_what_float32_rounds_ties(test):
    """Over three seeds A is first once, B seventh three times: both have an NDCG of 1/3."""
    a = np.stack([metrics.ndcg_at_k(np.array([rank] * 12), 10) for rank in (1, 0, 0)]).mean(axis=0, dtype=float)
    b = np.stack([metrics.ndcg_at_k(np.array([7] * 12), 10)] * 3).mean(axis=0, dtype=float)
    assert (a != b).any(), "in the last bit"
    assert test(a, b) == 1


def test_the_last_rank_of_a_list_is_in_it():
    assert cut(np.array([0, 4, 5, 6]), 5).tolist() == [0, 4, 5, 0]


def test_the_cells_beside_another_file():
    found = {"confidence": (-0.01, 0.03), "against": 0.2, "difference": 0.1, "t_test": 0.011, "wilcoxon": 0.022}
    table = against_table({"ndcg@5": 0.3, "ndcg@9": 0.4}, {"ndcg@5": found}, "b")
    assert [[*(each.lines[0] for each in row)] for row in table.rows] == [
        ["ndcg@5", "0.3000", "0.2000", "+0.1000", "-0.0100 … +0.0300", "0.011", "0.022"],
        ["ndcg@9", "0.4000", "", "", "", "", ""],
    ]
