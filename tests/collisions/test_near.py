from __future__ import annotations

import builtins

import numpy as np
import pytest

from bbqrec_cli.collisions import near as module
from bbqrec_cli.collisions.near import near_items
from bbqrec_cli.errors import MissingPackageError


def brute(vectors, codes, near, rows):
    """The definitions, with all distances at once."""
    apart = np.sqrt(((vectors[:, None] - vectors) ** 2).sum(2))
    scale = np.sqrt((apart**2).sum() / len(vectors) ** 2)
    close = apart / scale < near
    np.fill_diagonal(close, False)
    same = (codes[:, None] == codes).all(axis=(2, 3))
    return scale, close[rows] & same[rows], close[rows] & ~same[rows], apart / scale


@pytest.mark.parametrize("sample", [90, 20])
@pytest.mark.parametrize("hits", [1 << 24, 1])
def test_against_all_distances(sample, hits, monkeypatch):
    monkeypatch.setattr(module, "HITS", hits)
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, (90, 2, 2)).astype(np.uint16)
    book = generator.standard_normal((4, 3)) + 5
    vectors = (book[codes[:, 0]] + 0.3 * book[codes[:, 1]]).reshape(90, 6).astype(np.float32)
    rows = np.sort(generator.permutation(90)[:sample])
    found = near_items(vectors, codes, ("id", "text"), near=0.6, rows=rows, pairs=5)
    scale, same, other, apart = brute(vectors.astype(np.float64), codes, 0.6, rows)
    assert found.scale == pytest.approx(scale, rel=1e-5)
    assert (found.searched, found.same_id) == (sample, same.any(axis=1).sum())
    assert found.other_id == other.any(axis=1).sum()
    assert found.other_id > 0
    assert found.neighbours == pytest.approx(other.sum() / sample)
    one, item = np.nonzero(other)
    differ = (codes[rows[one]] != codes[item]).sum(axis=0)
    assert found.differ == {"id": differ[:, 0].tolist(), "text": differ[:, 1].tolist()}
    asked = rows[one]
    pairs = sorted(
        {(round(float(apart[a, b]), 6), *sorted((int(a), int(b)))) for a, b in zip(asked, item, strict=True)}
    )
    assert [pair.distance for pair in found.closest] == pytest.approx([far for far, *_ in pairs[:5]], abs=1e-4)
    assert all(
        pair.first < pair.second and (pair.first, pair.second) in {p[1:] for p in pairs} for pair in found.closest
    )


def test_items_that_all_lie_in_one_place():
    vectors, codes = np.ones((6, 4), dtype=np.float32), np.arange(6).reshape(6, 1, 1)
    found = near_items(vectors, codes, ("id",), near=0.1, rows=np.arange(6), pairs=3)
    assert (found.scale, found.other_id) == (0, 0)


def test_without_faiss(monkeypatch):
    real = builtins.__import__

    def missing(name, *more):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackageError) as caught:
        near_items(np.ones((2, 2)), np.zeros((2, 1, 1)), ("id",), near=0.1, rows=np.arange(2), pairs=1)
    assert "bbqrec[cpu]" in caught.value.hint


def test_alike_vectors_that_are_wide(monkeypatch):
    """Pairs of the same vector, far from the mean: |x|² + |y|² - 2xy in float32 leaves more than nothing of them."""
    monkeypatch.setattr(module, "_PAIRS", 50)
    generator = np.random.default_rng(0)
    vectors = np.repeat(generator.standard_normal((150, 288)) * np.linspace(1, 40, 150)[:, None], 2, axis=0)
    codes = np.arange(300).reshape(300, 1, 1).astype(np.uint16)
    found = near_items(vectors.astype(np.float32), codes, ("id",), near=1e-6, rows=np.arange(300), pairs=200)
    assert (found.other_id, len(found.closest)) == (300, 150)
    assert {pair.distance for pair in found.closest} == {0.0}


def test_items_without_a_near_one_count():
    vectors = np.array([[0, 0], [0.01, 0], [5, 0], [0, 5]], dtype=np.float32)
    found = near_items(vectors, np.arange(4).reshape(4, 1, 1), ("id",), near=0.1, rows=np.arange(4), pairs=1)
    assert (found.other_id, found.neighbours) == (2, 0.5)
