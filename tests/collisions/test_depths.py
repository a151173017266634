from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from bbqrec_cli.collisions.depths import codebook_figures, codebooks, depths, largest_groups
from bbqrec_cli.collisions.usage import code_counts, codebook, entropy, gini, histogram, perplexity
from bbqrec_cli.records import Codes

BY_HAND = np.array([[1, 1], [1, 2], [1, 2], [2, 1], [3, 1], [3, 1], [3, 1]])[:, :, None]
"""Seven items, two levels, one signal: 12 twice, 31 three times, 11 and 21 alone."""


def figures(codes, signals, size=None, present=None):
    return depths(codes, codebooks(codes, signals, [size or int(codes.max()) + 1] * codes.shape[1], present))


def test_a_level_that_counts_equal_ids_has_a_size_of_its_own():
    """Four codes, evenly used, and one ID of seven items."""
    rows = np.array([[code, 0] for code in (1, 2, 3)] * 7 + [[0, number] for number in range(7)])[:, :, None]
    books = np.zeros((1, 1, 4, 2), dtype=np.float32)
    codes = Codes(codes=rows, modalities=("text",), method="rqvae", codebook_size=7, codebooks=books)
    assert codes.level_sizes == [4, 7]
    first, last = codebook_figures(codebooks(rows, codes.modalities, codes.level_sizes))
    assert (first.size, first.in_use, first.gini, last.size, last.in_use) == (4, 4, 0, 7, 7)


def test_by_hand():
    first, second = figures(BY_HAND, ("id",))
    assert (first.depth, first.distinct, first.colliding_items, first.largest) == (1, 3, 6, 3)
    assert (second.depth, second.distinct, second.colliding_items, second.largest) == (2, 4, 5, 3)
    assert (first.usage, second.usage) == ({"id": 3}, {"id": 2})
    share = np.array([5, 2]) / 7
    assert second.perplexity["id"] == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert second.entropy == pytest.approx(scipy_entropy([1, 2, 1, 3], base=2))
    # Below 1 lie 11 and 12, below 2 and 3 one prefix each.
    assert (first.mean_children, first.max_children) == (3, 3)
    assert (second.mean_children, second.max_children) == (pytest.approx(4 / 3), 2)
    assert [group.tolist() for group in largest_groups(BY_HAND, 5)] == [[4, 5, 6], [1, 2]]
    assert [group.tolist() for group in largest_groups(BY_HAND, 1)] == [[4, 5, 6]]


def test_against_counting_tuples():
    codes = np.random.default_rng(0).integers(0, 3, (400, 3, 2)).astype(np.uint16)
    found = figures(codes, ("id", "text"))
    for depth in (1, 2, 3):
        ids = [tuple(item[:depth].ravel()) for item in codes]
        counts, each = Counter(ids), found[depth - 1]
        children = Counter(prefix[: 2 * (depth - 1)] for prefix in counts)
        assert each.distinct == len(counts)
        assert each.colliding_items == sum(n for n in counts.values() if n > 1)
        assert each.largest == max(counts.values())
        assert each.usage["text"] == len({item[depth - 1, 1] for item in codes})
        assert each.max_children == max(children.values())
        assert each.mean_children == pytest.approx(np.mean(list(children.values())))
        assert each.entropy == pytest.approx(scipy_entropy(list(counts.values()), base=2))
        assert each.gini == pytest.approx(gini_by_pairs(np.array(list(counts.values()))))
    ids = [tuple(item.ravel()) for item in codes]
    sizes = [n for _, n in Counter(ids).most_common(4)]
    groups = largest_groups(codes, 4)
    assert [len(group) for group in groups] == sizes
    assert all(len({ids[row] for row in group}) == 1 for group in groups)


def gini_by_pairs(counts: np.ndarray) -> float:
    """The definition: mean absolute difference of all pairs over twice the mean."""
    return float(np.abs(counts[:, None] - counts).mean() / (2 * counts.mean()))


@pytest.mark.parametrize("counts", [[1, 2, 3, 10], [5, 5, 5], [0, 0, 7], [4], [0, 1, 1, 8, 100]])
def test_gini(counts):
    counts = np.array(counts)
    assert gini(counts) == pytest.approx(gini_by_pairs(counts), abs=1e-12)
    sizes, times = np.unique(counts, return_counts=True)
    assert gini(sizes, times) == pytest.approx(gini(counts), abs=1e-12)
    assert entropy(sizes, times) == pytest.approx(entropy(counts)) == pytest.approx(scipy_entropy(counts, base=2))


def test_perplexity_of_even_codes_is_their_number():
    assert perplexity(np.resize(np.arange(5), 100)) == pytest.approx(5)
    assert perplexity(np.zeros(9, dtype=np.uint16)) == pytest.approx(1)
    assert perplexity(np.zeros(0, dtype=np.uint16)) == 0


def test_histogram_of_codes():
    """0 | 1 | 2-3 | 4-7 | 8-15."""
    assert histogram(np.array([0, 0, 1, 2, 3, 4, 7, 8])) == [2, 1, 2, 2, 1]
    book = codebook(np.array([0, 3, 1]), signal="id", level=2)
    assert (book.items, book.in_use, book.histogram) == (4, 2, [1, 1, 1])


def test_counting_in_blocks(monkeypatch):
    from bbqrec_cli.collisions import usage

    monkeypatch.setattr(usage, "BLOCK", 7)
    codes = np.random.default_rng(0).integers(0, 5, 100).astype(np.uint16)
    assert code_counts(codes, 6).tolist() == [*(int((codes == code).sum()) for code in range(5)), 0]


def test_codes_of_signals_that_items_lack_do_not_count():
    codes = np.array([[[0, 0]], [[1, 3]], [[2, 3]], [[3, 1]]])
    present = np.array([[True, False], [True, True], [True, True], [True, False]])
    (only,) = figures(codes, ("id", "text"), present=present)
    assert only.usage == {"id": 4, "text": 1}
    assert only.perplexity == pytest.approx({"id": 4, "text": 1})


def test_codes_that_no_item_has_count_for_gini():
    assert codebook(np.array([0, 0, 5, 5]), signal="id", level=1).gini == pytest.approx(0.5)
