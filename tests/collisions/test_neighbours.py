from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.collisions import neighbours as module
from bbqrec_cli.collisions.analysis import _mean_cosine
from bbqrec_cli.collisions.neighbours import cosine_by_depth, nearest_mask, neighbour_recall
from bbqrec_cli.records import Feature

GENERATOR = np.random.default_rng(0)


def cosine(values):
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit @ unit.T


def top(values, row, k):
    order = np.argsort(-cosine(values)[row], kind="stable")
    return set(order[order != row][:k].tolist())


@pytest.mark.parametrize("cells", [1 << 24, 100])
def test_against_sorting(cells, monkeypatch):
    monkeypatch.setattr(module, "CELLS", cells)
    values = GENERATOR.standard_normal((40, 6)).astype(np.float32)
    vectors = np.concatenate([values[:, :3], GENERATOR.standard_normal((40, 3))], axis=1).astype(np.float32)
    present = np.arange(40) % 7 > 0
    rows, here = np.arange(0, 40, 3), np.flatnonzero(present)
    found = neighbour_recall({"text": Feature(values=values, present=present)}, vectors, ("text", "id"), k=5, rows=rows)
    assert [(kept.feature, kept.vectors, kept.k) for kept in found] == [("text", "all", 5), ("text", "text", 5)]
    asked = [place for place, row in enumerate(here) if row in rows]
    for kept, part in zip(found, (vectors, vectors[:, :3]), strict=True):
        shared = [len(top(values[here], row, 5) & top(part[here], row, 5)) / 5 for row in asked]
        assert kept.recall == pytest.approx(np.mean(shared), abs=1e-6)
        assert (kept.asked, kept.chance) == (len(asked), 5 / (len(here) - 1))


def test_ties_share_the_last_places():
    """Rows 1, 2 and 3 are the same: each is one of the two nearest to 0 with a probability of two thirds."""
    values = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [-1, 0]], dtype=np.float32)
    assert nearest_mask(values, np.array([0]), 2)[0] == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3, 0])
    assert nearest_mask(values, np.array([1]), 2)[0] == pytest.approx([0, 0, 1, 1, 0])


def test_perfect_and_chance():
    values = GENERATOR.standard_normal((300, 8)).astype(np.float32)
    feature = {"text": Feature(values=values, present=np.ones(300, dtype=bool))}
    (same,) = neighbour_recall(feature, 3 * values, ("id",), k=4, rows=np.arange(300))
    assert same.recall == pytest.approx(1)
    (none,) = neighbour_recall(feature, np.zeros((300, 8), np.float32), ("id",), k=4, rows=np.arange(300))
    assert none.recall == pytest.approx(none.chance) == pytest.approx(4 / 299)


def test_likeness_in_a_group_of_thousands():
    """Half of the items along one axis, half along another: of all pairs just under a half are alike."""
    values = np.repeat(np.eye(2, dtype=np.float32), 1500, axis=0)
    found = _mean_cosine(Feature(values=values, present=np.ones(3000, dtype=bool)), np.arange(3000))
    assert found == pytest.approx(2 * 1500 * 1499 / (3000 * 2999), abs=1e-9)


def test_likeness_by_depth():
    """Reference: the mean over all pairs, one by one."""
    values = GENERATOR.standard_normal((30, 4)).astype(np.float32)
    present = np.arange(30) % 5 > 0
    codes = GENERATOR.integers(0, 3, (30, 3, 2))
    codes[:, 2] = np.arange(30)[:, None]
    found = cosine_by_depth(codes, Feature(values=values * present[:, None], present=present))
    similar = cosine(values)
    for depth in range(4):
        pairs = [
            similar[i, j] for i in range(30) for j in range(i)
            if present[i] and present[j] and (codes[i, :depth] == codes[j, :depth]).all()
        ]  # fmt: skip
        assert found[depth] == (pytest.approx(np.mean(pairs), abs=1e-6) if pairs else None)
    assert found[3] is None


def test_a_signals_part_of_the_vectors_is_found_by_its_place():
    """The second signal, and the only feature."""
    text, other = np.random.default_rng(0).standard_normal((2, 40, 3)).astype(np.float32)
    feature = Feature(values=text, present=np.ones(40, dtype=bool))
    vectors = np.concatenate([other, text], axis=1)
    found = neighbour_recall({"text": feature}, vectors, ("id", "text"), k=5, rows=np.arange(40))
    assert (found[1].vectors, found[1].recall) == ("text", pytest.approx(1))
