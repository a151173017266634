from __future__ import annotations

import sys

import numpy as np
import pytest

from bbqrec_cli.errors import MissingPackageError
from bbqrec_cli.tokenizers.quantization.kmeans import (
    kmeans,
    nearest_centroids,
    residual_codes,
    residual_kmeans,
    sum_of_codes,
)


def distances(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((vectors[:, None].astype(np.float64) - centroids[None]) ** 2).sum(2)


def inertia(vectors: np.ndarray, centroids: np.ndarray) -> float:
    return float(distances(vectors, centroids).min(1).sum())


def lloyd(vectors: np.ndarray, start: np.ndarray, iterations: int = 25) -> np.ndarray:
    """Plain Lloyd's iterations; a centroid without vectors stays where it is."""
    centroids = start.astype(np.float64)
    for _ in range(iterations):
        label = distances(vectors, centroids).argmin(1)
        centroids = np.stack(
            [vectors[label == k].mean(0) if (label == k).any() else old for k, old in enumerate(centroids)]
        )
    return centroids


@pytest.fixture
def vectors(round_centres) -> np.ndarray:
    """1,500 vectors round 40 centres of very different weight."""
    return round_centres(1500, 40)


def test_as_good_as_lloyds(vectors):
    theirs = [
        inertia(vectors, lloyd(vectors, vectors[np.random.default_rng(seed).choice(1500, 30, replace=False)]))
        for seed in range(20)
    ]
    mine = [inertia(vectors, kmeans(vectors, codes=30, seed=seed)) for seed in range(20)]
    # One run differs from the next by 4 % (it depends on the vectors to start from), the mean of 20 by 1 %.
    assert np.mean(mine) <= 1.02 * np.mean(theirs)
    assert max(mine) <= 1.02 * max(theirs)


def test_more_iterations_of_lloyds_find_little(vectors):
    found = kmeans(vectors, codes=30, seed=0)
    assert inertia(vectors, lloyd(vectors, found)) >= 0.98 * inertia(vectors, found)


def test_a_seed_gives_one_answer(vectors):
    one, other = (kmeans(vectors, codes=20, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one, kmeans(vectors, codes=20, seed=1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("copies", [1, 2, 50])
@pytest.mark.parametrize("codes", [6, 7, 40])
def test_fewer_distinct_vectors_than_codes(copies, codes):
    distinct = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    found = kmeans(np.repeat(distinct, copies, axis=0), codes=codes, seed=0)
    assert found.shape == (codes, 3)
    assert np.isfinite(found).all()
    assert inertia(distinct, found) == 0, "each has a code of its own"
    assert len(np.unique(found, axis=0)) == codes, "and no two codes are the same"


def test_one_vector():
    found = kmeans(np.ones((9, 2), dtype=np.float32), codes=4, seed=0)
    assert inertia(np.ones((1, 2)), found) == 0
    assert np.abs(found - 1).max() < 0.1


def test_residuals(vectors):
    books = residual_kmeans(vectors, levels=3, codes=16, seed=0)
    assert books.shape == (3, 16, 6)
    residual = vectors.astype(np.float64)
    for book in books:
        label = distances(residual, book).argmin(1)
        assert inertia(residual, lloyd(residual, book)) >= 0.97 * inertia(residual, book), "k-means of what is left"
        residual = residual - book[label]
    again = residual_kmeans(vectors, levels=3, codes=16, seed=0)
    np.testing.assert_array_equal(books, again)


def test_nearest_in_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    vectors, centroids = (generator.standard_normal((n, 5)).astype(np.float32) for n in (103, 9))
    expected = distances(vectors, centroids).argmin(1)
    np.testing.assert_array_equal(nearest_centroids(vectors, centroids), expected)
    books = generator.standard_normal((3, 9, 5)).astype(np.float32)
    codes = residual_codes(vectors, books)
    vectors_of_codes = sum_of_codes(codes, books)
    monkeypatch.setattr("bbqrec_cli.tokenizers.quantization.kmeans.BLOCK", 10)
    np.testing.assert_array_equal(nearest_centroids(vectors, centroids), expected)
    np.testing.assert_array_equal(residual_codes(vectors, books), codes)
    np.testing.assert_array_equal(sum_of_codes(codes, books), vectors_of_codes)
    np.testing.assert_allclose(vectors_of_codes, books[np.arange(3), codes.astype(int)].sum(1), rtol=1e-5)
    assert nearest_centroids(vectors[:0], centroids).shape == (0,)


def test_without_faiss(monkeypatch, vectors):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackageError, match="needs faiss") as caught:
        kmeans(vectors, codes=4, seed=0)
    assert caught.value.exit_code == 4
    assert "bbqrec[cpu]" in caught.value.hint
