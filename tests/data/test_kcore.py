from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.kcore import k_core

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40)


def one_by_one(pairs: list[tuple[int, int]], min_user: int, min_item: int) -> set[int]:
    """The definition by hand: strike one interaction of somebody who has too few, until there is nobody left."""
    left = set(range(len(pairs)))
    while True:
        for n in left:
            user, item = pairs[n]
            by_user, by_item = sum(pairs[m][0] == user for m in left), sum(pairs[m][1] == item for m in left)
            if by_user < min_user or by_item < min_item:
                left.remove(n)
                break
        else:
            return left


def kept(pairs: list[tuple[int, int]], min_user: int, min_item: int) -> set[int]:
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    return set(np.flatnonzero(k_core(users, items, min_user=min_user, min_item=min_item)).tolist())


@settings(max_examples=150, deadline=None)
@given(PAIRS, st.integers(0, 5), st.integers(0, 5))
def test_agrees_with_striking_one_by_one(pairs, min_user, min_item):
    assert kept(pairs, min_user, min_item) == one_by_one(pairs, min_user, min_item)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=8), st.integers(1, 3), st.integers(1, 3))
def test_is_the_largest_of_all_sets_that_fit(pairs, min_user, min_item):
    """Every subset of the interactions is tried."""

    def fits(chosen: tuple[int, ...]) -> bool:
        users, items = ([pairs[n][side] for n in chosen] for side in (0, 1))
        return all(users.count(u) >= min_user for u in users) and all(items.count(i) >= min_item for i in items)

    subsets = (c for size in range(len(pairs), -1, -1) for c in itertools.combinations(range(len(pairs)), size))
    assert kept(pairs, min_user, min_item) == set(next(filter(fits, subsets)))


def test_a_chain_falls_link_by_link():
    """u0-i0-u1-i1-…: only the ends have too few at first, and in the end nothing is left."""
    pairs = [(n // 2 + n % 2, n // 2) for n in range(39)]
    assert kept(pairs, 2, 2) == set()
    assert kept([*pairs, (0, 19)], 2, 2) == set(range(40))  # closed to a ring, it holds


def test_repetitions_count():
    assert kept([(0, 0)] * 5, 5, 5) == set(range(5))
