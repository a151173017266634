from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from bbqrec_cli.tokenizers.quantization.balanced import balanced_assignment, balanced_kmeans
from bbqrec_cli.tokenizers.quantization.kmeans import kmeans, nearest_centroids


@pytest.fixture
def vectors(round_centres) -> np.ndarray:
    """600 vectors round 12 centres of very different weight."""
    return round_centres(600, 12)


def distances(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((vectors[:, None].astype(np.float64) - centroids[None]) ** 2).sum(2)


def cost(vectors: np.ndarray, centroids: np.ndarray, label: np.ndarray) -> float:
    return float(distances(vectors, centroids)[np.arange(len(label)), label].sum())


@pytest.mark.parametrize(
    ("count", "codes"), [(600, 20), (600, 7), (599, 256), (13, 12), (12, 12), (5, 12), (1, 3), (40, 1), (0, 4)]
)
def test_sizes_differ_by_one(vectors, count, codes):
    found = balanced_assignment(vectors[:count], vectors[np.arange(codes) % 600])
    sizes = np.bincount(found, minlength=codes)
    assert (sizes.min(), sizes.max()) == (count // codes, -(-count // codes))


def test_all_vectors_alike():
    """No distance says anything: still an end, and sizes as asked."""
    found = balanced_assignment(np.ones((50, 3), dtype=np.float32), np.ones((8, 3), dtype=np.float32))
    assert sorted(np.bincount(found)) == [6] * 6 + [7] * 2


def test_close_to_the_best_assignment(vectors):
    """The best one by the Hungarian algorithm, with a column for every place of a code."""
    centroids = balanced_kmeans(vectors, codes=20, seed=0)
    rows, places = linear_sum_assignment(np.repeat(distances(vectors, centroids), 30, axis=1))
    best = cost(vectors, centroids, places[rows.argsort()] // 30)
    found = cost(vectors, centroids, balanced_assignment(vectors, centroids))
    assert best <= found * (1 + 1e-9)
    assert found < 1.2 * best
    # Giving vectors away in the order of their rows, as far as there is room, is far from it.
    room, naive = np.full(20, 30), np.empty(600, dtype=int)
    for row, each in enumerate(distances(vectors, centroids)):
        naive[row] = np.where(room > 0, each, np.inf).argmin()
        room[naive[row]] -= 1
    assert found < cost(vectors, centroids, naive)


def test_blocks_change_nothing_but_rounding(vectors):
    centroids = kmeans(vectors, codes=20, seed=0)
    whole, parts = balanced_assignment(vectors, centroids), balanced_assignment(vectors, centroids, block=37)
    assert cost(vectors, centroids, parts) == pytest.approx(cost(vectors, centroids, whole), rel=1e-3)


def test_balanced_centroids_serve_balanced_sizes(vectors):
    """Lloyd's steps under the constraint lower the constrained cost below that of k-means' own centroids."""
    plain, made = kmeans(vectors, codes=20, seed=0), balanced_kmeans(vectors, codes=20, seed=0)
    costs = [cost(vectors, each, balanced_assignment(vectors, each)) for each in (plain, made)]
    assert costs[1] < 0.9 * costs[0]
    np.testing.assert_array_equal(made, balanced_kmeans(vectors, codes=20, seed=0))
    assert cost(vectors, plain, nearest_centroids(vectors, plain)) < costs[1], "what is not constrained is closer"


def test_a_sample(vectors):
    made = balanced_kmeans(vectors, codes=20, seed=0, sample=10)
    assert made.shape == (20, 6)
    assert not np.array_equal(made, balanced_kmeans(vectors, codes=20, seed=1, sample=10))
