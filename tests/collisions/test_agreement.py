from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from bbqrec_cli.collisions.agreement import adjusted_mutual_information, agreement
from bbqrec_cli.collisions.inputs import agreements
from bbqrec_cli.records import Codes

sklearn = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize(
    ("items", "a", "b"), [(100, 5, 7), (1000, 300, 300), (50, 40, 3), (3000, 256, 256), (20, 1, 4)]
)
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_against_scikit_learn(items, a, b, kept):
    generator = np.random.default_rng(items)
    one = generator.integers(0, a, items)
    other = np.where(generator.random(items) < kept, one % b, generator.integers(0, b, items))
    expected = sklearn.adjusted_mutual_info_score(one, other)
    assert adjusted_mutual_information(one, other) == pytest.approx(expected, abs=1e-9)


def test_one_code_for_nearly_all_items():
    """The table of overlaps is as wide as the smaller group: here 60 thousand × 2 in place of 60 thousand × as many."""
    one = np.zeros(60_000, int)
    one[:3] = [1, 2, 3]
    other = np.arange(60_000) // 2
    tracemalloc.start()
    assert adjusted_mutual_information(one, other) == pytest.approx(0, abs=1e-3)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_edges():
    apart = np.arange(9)
    assert adjusted_mutual_information(apart, apart[::-1].copy()) is None, "says nothing: nobody is together"
    assert adjusted_mutual_information(apart[:0], apart[:0]) is None
    assert adjusted_mutual_information(np.zeros(9, dtype=int), np.ones(9, dtype=int)) == 1
    names = np.random.default_rng(0).permutation(5)
    labels = np.arange(40) % 5
    assert adjusted_mutual_information(labels, names[labels]) == pytest.approx(1), "whatever the codes are called"


def test_levels_and_signals():
    generator = np.random.default_rng(0)
    one = generator.integers(0, 6, (300, 3, 2))
    other = one.copy()
    other[:, 1, 0] = generator.integers(0, 6, 300)  # level 2 of the first signal
    found = agreement(one, other[:, :2, ::-1], (("id", "text"), ("text", "id")))
    assert found.codes["text"] == pytest.approx([1, 1])
    assert found.codes["id"][0] == pytest.approx(1)
    assert abs(found.codes["id"][1]) < 0.1
    assert found.prefixes[0] == pytest.approx(1)
    assert 0 < found.prefixes[1] < 1
    assert (found.items, len(found.prefixes)) == (300, 2)


def test_a_level_that_counts_equal_ids_is_no_signals():
    one = np.random.default_rng(0).integers(0, 6, (300, 3, 2))
    found = agreement(one, one, (("id", "text"), ("id", "text")), levels=2)
    assert {name: len(values) for name, values in found.codes.items()} == {"id": 2, "text": 2}
    assert len(found.prefixes) == 3


def test_only_items_that_have_the_signal_in_both():
    generator = np.random.default_rng(0)
    one = generator.integers(0, 4, (200, 1, 1))
    other = one.copy()
    other[100:] = generator.integers(0, 4, (100, 1, 1))
    first, second = np.ones((200, 1), dtype=bool), np.arange(200)[:, None] < 100
    assert agreement(one, other, (("id",), ("id",)), (first, second)).codes["id"] == [pytest.approx(1)]
    assert agreement(one, other, (("id",), ("id",))).codes["id"][0] < 0.9


def test_a_code_each_against_codes_of_pairs():
    assert adjusted_mutual_information(np.arange(6), np.array([0, 0, 1, 1, 2, 2])) == pytest.approx(0)


def test_prefixes_are_of_all_levels_so_far():
    one, other = np.random.default_rng(0).integers(0, 3, (2, 200, 2, 1))
    joint = [3 * codes[:, 0, 0] + codes[:, 1, 0] for codes in (one, other)]
    found = agreement(one, other, (("id",), ("id",)))
    assert found.prefixes[1] == pytest.approx(adjusted_mutual_information(*joint))


def test_signals_in_another_order():
    """Half of the items have no text in the second file, whose first signal is the text."""
    generator = np.random.default_rng(0)
    one = generator.integers(0, 4, (200, 1, 2))
    other, there = one[:, :, ::-1].copy(), np.ones((200, 2), dtype=bool)
    other[100:, :, 0], there[100:, 0] = generator.integers(0, 4, (100, 1)), False
    found = agreement(one, other, (("id", "text"), ("text", "id")), (None, there))
    assert found.codes["text"] == pytest.approx([1])


def test_files_with_their_items_in_another_order():
    """Items that lack the text in the second file have any code there. No order of items is its own inverse."""
    generator = np.random.default_rng(0)
    codes, order = generator.integers(0, 4, (60, 1, 2)), np.roll(np.arange(60), 7)
    there = np.ones((60, 2), dtype=bool)
    there[:20, 1] = False
    other = codes.copy()
    other[:20, :, 1] = generator.integers(0, 4, (20, 1))
    names = np.array([f"i{item}" for item in range(60)])
    ids = [
        SimpleNamespace(item_ids=[*called], codes=Codes(codes=of, modalities=("id", "text"), method="x",
                                                         codebook_size=4, present=present))
        for called, of, present in ((names, codes, None), (names[order], other[order], there[order]))
    ]  # fmt: skip
    ((one, two, found),) = agreements(ids)
    assert (one, two, found.codes["text"]) == (0, 1, pytest.approx([1]))
