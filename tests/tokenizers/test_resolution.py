"""Items that share an ID: counted on, moved to a free one, or left."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from bbqrec_cli.errors import UsageError
from bbqrec_cli.records import Codes
from bbqrec_cli.tokenizers.assignment.collisions import resolve_collisions
from bbqrec_cli.tokenizers.base import Tokenized

CODES = np.array([[[0, 5], [1, 5]], [[0, 6], [1, 5]], [[2, 7], [1, 5]], [[0, 5], [1, 5]]], dtype=np.uint16)
"""Four items, two levels, two signals; the first and the last collide."""


def made_codes(values: np.ndarray, size: int = 8) -> Tokenized:
    return Tokenized(codes=Codes(codes=values, modalities=("id", "text"), method="x", codebook_size=size), history=[])


def test_suffix():
    values = np.concatenate([CODES, CODES[1:2], CODES[:1]])  # item 0, 3 and 5 are alike, and 1 and 4
    made = resolve_collisions(made_codes(values), "suffix")
    assert made.codes.shape == (6, 3, 2)
    np.testing.assert_array_equal(made.codes[:, :2], values)
    assert made.codes[:, 2, 0].tolist() == [0, 0, 0, 1, 1, 2], "counted in the order of the rows"
    assert not made.codes[:, 2, 1].any()
    assert len(np.unique(made.codes.reshape(6, -1), axis=0)) == 6
    assert made.codebook_size == 8
    assert (made.quantised_levels, made.level_sizes) == (2, [8, 8, 3]), "without codebooks, too"
    assert made.codes.dtype == np.uint16


def test_a_large_group_needs_more_codes():
    made = resolve_collisions(made_codes(np.repeat(CODES[:1], 9, axis=0)), "suffix")
    assert (made.codebook_size, made.codes[:, 2, 0].max()) == (9, 8)
    assert made.level_sizes == [6, 6, 9], "of the levels before it only what occurs is known"


def test_nothing_to_resolve():
    codes = made_codes(CODES[:3])
    assert resolve_collisions(codes, "suffix") is codes.codes
    double = made_codes(CODES)
    assert resolve_collisions(double, "share") is double.codes
    assert resolve_collisions(double, "nearest") is double.codes, "there are no vectors to be near to"


def test_more_alike_than_codes_can_count():
    with pytest.raises(UsageError, match="65,537 items share one ID"):
        resolve_collisions(made_codes(np.repeat(CODES[:1], (1 << 16) + 1, axis=0)), "suffix")


def quantised(levels: int = 2, signals: int = 2, *, shared: bool = True, size: int = 4, items: int = 40) -> Tokenized:
    """Random vectors on random codebooks, nearest code level by level: far more items than IDs at the first level."""
    rng = np.random.default_rng([levels, signals, shared])
    books = rng.standard_normal((1 if shared else signals, levels, size, 3)).astype(np.float32)
    latents = rng.standard_normal((items, signals, 3)).astype(np.float32)
    latents[1::2] = latents[::2] + 1e-3 * rng.standard_normal(latents[::2].shape)  # every other item is a near copy
    values = np.zeros((items, levels, signals), dtype=np.uint16)
    for row, signal in itertools.product(range(items), range(signals)):
        residual = latents[row, signal].copy()
        for level in range(levels):
            book = books[min(signal, len(books) - 1), level]
            values[row, level, signal] = np.square(residual - book).sum(1).argmin()
            residual -= book[values[row, level, signal]]
    codes = Codes(
        codes=values, modalities=("id", "text")[:signals], method="x", codebook_size=size, codebooks=books,
        item_vectors=vectors(values, books),
    )  # fmt: skip
    return Tokenized(codes=codes, history=[], latents=latents)


def vectors(values: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Sums of the codes (eq. 7), side by side (eq. 10)."""
    parts = [
        sum(books[min(m, len(books) - 1), level][values[:, level, m]] for level in range(values.shape[1]))
        for m in range(values.shape[2])
    ]
    return np.concatenate(parts, axis=1)


def distinct(values: np.ndarray) -> int:
    return len(np.unique(values.reshape(len(values), -1), axis=0))


@pytest.mark.parametrize("shared", [True, False])
def test_nearest_gives_every_item_an_id_of_its_own(shared):
    made = quantised(shared=shared)
    before = made.codes.codes.copy()
    assert distinct(before) < len(before)
    after = resolve_collisions(made, "nearest")
    assert distinct(after.codes) == len(before)
    assert after.codes.shape == before.shape, "no level is added"
    np.testing.assert_array_equal(made.codes.codes, before, "the input stays as it is")
    np.testing.assert_array_equal(after.codes[:, :-1], before[:, :-1])
    changed = (after.codes != before).sum((1, 2))
    assert changed.max() == 1, "one code of one signal"
    first = [row for row, codes in enumerate(before) if not (before[:row] == codes).all((1, 2)).any()]
    assert not changed[first].any(), "the first of a group keeps its ID, and so do those that share none"
    np.testing.assert_array_equal(after.item_vectors, vectors(after.codes, made.codes.codebooks))


def test_nearest_moves_the_item_that_can_move():
    """Not the later one, which has no content."""
    made = quantised(items=6)
    values, present = made.codes.codes.copy(), np.ones((6, 2), dtype=bool)
    values[4], present[4] = values[1], False
    alike = dataclasses.replace(made, codes=dataclasses.replace(made.codes, codes=values, present=present))
    found = resolve_collisions(alike, "nearest").codes
    assert len(np.unique(found.reshape(6, -1), axis=0)) == 6
    assert (found[4] == values[4]).all()
    assert (found[1] != values[1]).any()


def test_nearest_takes_the_cheapest_free_id():
    made = quantised(levels=1, signals=2)
    after = resolve_collisions(made, "nearest").codes
    taken = {row.tobytes() for row in made.codes.codes}
    for row, (old, new) in enumerate(zip(made.codes.codes, after, strict=True)):
        if (old == new).all():
            continue
        costs = {}
        for signal, code in itertools.product(range(2), range(4)):
            option = old.copy()
            option[0, signal] = code
            book = made.codes.codebooks[0, 0]
            if option.tobytes() not in taken:
                both = [np.square(made.latents[row, signal] - book[c]).sum() for c in (code, old[0, signal])]
                costs[option.tobytes()] = both[0] - both[1]
        assert new.tobytes() == min(costs, key=costs.__getitem__)
        taken.add(new.tobytes())


@pytest.mark.parametrize("policy", ["nearest", "sinkhorn"])
def test_what_cannot_be_told_apart_is_left(policy):
    made = quantised(levels=1, signals=1, items=10)
    after = resolve_collisions(made, policy).codes
    assert distinct(after) == 4, "4 codes are all there are"


def without(made: Tokenized, rows: list[int]) -> Tokenized:
    """Less some items."""
    codes = dataclasses.replace(
        made.codes, codes=np.delete(made.codes.codes, rows, 0), item_vectors=np.delete(made.codes.item_vectors, rows, 0)
    )
    return Tokenized(codes=codes, history=[], latents=np.delete(made.latents, rows, 0))


def added(made: Tokenized, after: np.ndarray) -> float:
    """What the new codes add to the squared error of the last level, summed over items and signals."""
    last, total = made.codes.levels - 1, 0.0
    for row, signal in itertools.product(range(len(after)), range(after.shape[2])):
        books = made.codes.codebooks[min(signal, len(made.codes.codebooks) - 1)]
        residual = made.latents[row, signal] - sum(books[n][after[row, n, signal]] for n in range(last))
        errors = np.square(residual - books[last]).sum(1)
        total += errors[after[row, last, signal]] - errors[made.codes.codes[row, last, signal]]
    return total


@pytest.mark.parametrize("shared", [True, False])
def test_sinkhorn_gives_every_item_an_id_of_its_own(shared):
    made = without(quantised(shared=shared), [1, 5, 9])
    before = made.codes.codes.copy()
    after = resolve_collisions(made, "sinkhorn")
    assert distinct(after.codes) == len(before)
    np.testing.assert_array_equal(made.codes.codes, before, "the input stays as it is")
    np.testing.assert_array_equal(after.codes[:, :-1], before[:, :-1])
    alone = np.array([(before == codes).all((1, 2)).sum() == 1 for codes in before])
    assert 0 < alone.sum() < len(before)
    np.testing.assert_array_equal(after.codes[alone], before[alone], "only what collides moves")
    np.testing.assert_array_equal(after.item_vectors, vectors(after.codes, made.codes.codebooks))
    again = resolve_collisions(without(quantised(shared=shared), [1, 5, 9]), "sinkhorn")
    np.testing.assert_array_equal(again.codes, after.codes)


def test_sinkhorn_moves_the_item_that_loses_least():
    """Both share code 0; one is at home there, the other nearly as close to 1, in either order of the rows."""
    book = np.array([[[[0.0], [1.0], [9.0]]]], dtype=np.float32)
    for latents, expected in (([0.0, 0.49], [0, 1]), ([0.49, 0.0], [1, 0])):
        codes = Codes(
            codes=np.zeros((2, 1, 1), dtype=np.uint16), modalities=("id",), method="x", codebook_size=3, codebooks=book
        )
        made = Tokenized(codes=codes, history=[], latents=np.array(latents, dtype=np.float32).reshape(2, 1, 1))
        assert resolve_collisions(made, "sinkhorn").codes.ravel().tolist() == expected
        assert resolve_collisions(made, "nearest").codes.ravel().tolist() == [0, 1]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_sinkhorn_is_no_dearer_than_one_after_the_other(levels):
    made = quantised(levels=levels, signals=1, size=16, items=12 * levels)
    both = {policy: resolve_collisions(made, policy).codes for policy in ("nearest", "sinkhorn")}
    assert distinct(both["sinkhorn"]) == distinct(both["nearest"]) > distinct(made.codes.codes)
    assert 0 < added(made, both["sinkhorn"]) <= added(made, both["nearest"]) + 1e-6


@pytest.mark.parametrize("policy", ["nearest", "sinkhorn"])
@pytest.mark.parametrize("items", [6, 20, 40, 100])
def test_never_more_collisions(policy, items):
    """Also where there are far more items than IDs."""
    for signals, size in itertools.product((1, 2), (2, 4)):
        made = quantised(levels=1, signals=signals, size=size, items=items)
        after = resolve_collisions(made, policy).codes
        assert alone(after) >= alone(made.codes.codes)
        assert distinct(after) >= distinct(made.codes.codes)


def alone(codes: np.ndarray) -> int:
    """Items that share their ID with none."""
    _, counts = np.unique(codes.reshape(len(codes), -1), axis=0, return_counts=True)
    return int((counts == 1).sum())


@pytest.mark.parametrize("policy", ["nearest", "sinkhorn", "regroup"])
def test_no_signal_that_an_item_lacks_changes(policy):
    made = quantised()
    present = np.ones((40, 2), dtype=bool)
    present[:, 1] = False
    lacking = Tokenized(codes=dataclasses.replace(made.codes, present=present), history=[], latents=made.latents)
    after = resolve_collisions(lacking, policy).codes
    assert (after != made.codes.codes).any()
    np.testing.assert_array_equal(after[:, :, 1], made.codes.codes[:, :, 1])


def as_published(latents: np.ndarray, books: np.ndarray) -> list[tuple[int, ...]]:
    """The loop of LC-Rec's and LETTER's `generate_indices.py`, one signal: every item is encoded anew in each round,
    a group's last level by a plan whose rows and columns are normalised in turn. latents (I, D), books (L, N, D)."""

    def encode(group: np.ndarray, *, even: bool) -> list[tuple[int, ...]]:
        residual, found = group, []
        for level, book in enumerate(books):
            squared = ((residual[:, None] - book[None]) ** 2).sum(2).astype(np.float64)
            chosen = squared.argmin(1)
            if even and level == len(books) - 1:
                middle = (squared.max() + squared.min()) / 2
                plan = np.exp(-(squared - middle) / (squared.max() - middle + 1e-5) / 0.003)
                plan = plan / plan.sum()
                for _ in range(50):
                    plan /= plan.sum(1, keepdims=True)
                    plan /= len(plan)
                    plan /= plan.sum(0, keepdims=True)
                    plan /= plan.shape[1]
                chosen = (plan * len(plan)).argmax(1)
            residual, found = residual - book[chosen], [*found, chosen]
        return list(zip(*(each.tolist() for each in found), strict=True))

    ids = encode(latents, even=False)
    for _ in range(20):
        groups: dict[tuple[int, ...], list[int]] = {}
        for item, own in enumerate(ids):
            groups.setdefault(own, []).append(item)
        sharing = [items for items in groups.values() if len(items) > 1]
        if not sharing:
            break
        for items in sharing:
            for item, own in zip(items, encode(latents[items], even=True), strict=True):
                ids[item] = own
    return ids


@pytest.mark.parametrize(("levels", "size", "items"), [(1, 8, 12), (2, 8, 60), (3, 6, 80), (2, 16, 200)])
def test_regrouped_as_the_published_programs_do(levels, size, items):
    made = quantised(levels=levels, signals=1, size=size, items=items)
    assert made.latents is not None
    assert made.codes.codebooks is not None
    before, after = made.codes.codes, resolve_collisions(made, "regroup")
    expected = as_published(made.latents[:, 0], made.codes.codebooks[0])
    assert list(map(tuple, after.codes[:, :, 0].tolist())) == expected
    assert (after.codes[:, -1] != before[:, -1]).any()
    np.testing.assert_array_equal(after.codes[:, :-1], before[:, :-1])
    np.testing.assert_array_equal(after.item_vectors, vectors(after.codes, made.codes.codebooks))


def test_regrouped_items_may_go_on_sharing():
    """Items 0 and 1 are equal, which no plan tells apart; 2 is a near copy of 3."""
    made = quantised(levels=2, signals=1, size=8, items=4)
    assert made.latents is not None
    made.latents[1] = made.latents[0]
    after = resolve_collisions(made, "regroup").codes
    assert (after[0] == after[1]).all()
    assert after[0, -1] == 0, "all shares are equal, and the first code is taken"
    assert (after[2] != after[3]).any()


@pytest.mark.parametrize("frozen", [1, 17, 39])
def test_old_items_are_not_regrouped(frozen):
    made = quantised()
    after = resolve_collisions(late(made, frozen), "regroup", frozen=frozen)
    np.testing.assert_array_equal(after.codes[:frozen], made.codes.codes[:frozen])
    np.testing.assert_array_equal(after.item_vectors, vectors(after.codes, made.codes.codebooks))


def late(made: Tokenized, frozen: int) -> Tokenized:
    """The rows from `frozen` on have come later: only their vectors are at hand."""
    return Tokenized(codes=made.codes, history=[], latents=made.latents[frozen:])


@pytest.mark.parametrize("policy", ["nearest", "sinkhorn", "share"])
@pytest.mark.parametrize("frozen", [1, 17, 39])
def test_old_items_stay(policy, frozen):
    """Items 2n and 2n + 1 are near copies: old ones keep what they have, also where they collide among themselves."""
    made = quantised()
    before = made.codes.codes
    after = resolve_collisions(late(made, frozen), policy, frozen=frozen)
    np.testing.assert_array_equal(after.codes[:frozen], before[:frozen])
    np.testing.assert_array_equal(after.item_vectors[:frozen], made.codes.item_vectors[:frozen])
    np.testing.assert_array_equal(after.item_vectors, vectors(after.codes, made.codes.codebooks))
    old = {codes.tobytes() for codes in before[:frozen]}
    new = [codes.tobytes() for codes in after.codes[frozen:]]
    assert policy == "share" or (len(set(new)) == len(new) and not old & set(new))


def test_suffix_of_new_items():
    """Old: two groups of 2 and 1; the new ones are counted on from there, whatever they are of."""
    old = np.concatenate([CODES[[0, 3]], CODES[1:2]])
    first = resolve_collisions(with_books(old), "suffix")
    assert first.codes[:, 2, 0].tolist() == [0, 1, 0]
    news = np.concatenate([CODES[[1, 0, 2]], CODES[2:3]])
    fresh = np.concatenate([news, np.zeros((4, 1, 2), dtype=np.uint16)], axis=1)
    grown = dataclasses.replace(first, codes=np.concatenate([first.codes, fresh]))
    after = resolve_collisions(Tokenized(codes=grown, history=[], latents=np.zeros((4, 2, 3))), "suffix", frozen=3)
    np.testing.assert_array_equal(after.codes[:3], first.codes)
    assert after.codes[3:, 2, 0].tolist() == [1, 2, 0, 1]
    np.testing.assert_array_equal(after.codes[3:, :2], news)


def grow(codes: Codes, news: np.ndarray) -> Tokenized:
    """With new items (n, 2, 2), whose suffix is 0."""
    fresh = np.concatenate([news, np.zeros((len(news), 1, 2), dtype=np.uint16)], axis=1)
    return Tokenized(codes=dataclasses.replace(codes, codes=np.concatenate([codes.codes, fresh])), history=[])


def test_a_suffix_that_old_items_share_stays():
    """Suffixes, then an item that shares an ID with an old one, then suffixes again: all that is old stays."""
    first = resolve_collisions(with_books(CODES), "suffix")
    shared = resolve_collisions(grow(first, CODES[[1, 0]]), "share", frozen=4)
    assert shared.codes[:, 2, 0].tolist() == [0, 0, 0, 1, 0, 0]
    after = resolve_collisions(grow(shared, CODES[[1, 0, 2, 1]]), "suffix", frozen=6)
    np.testing.assert_array_equal(after.codes[:6], shared.codes)
    assert after.codes[6:, 2, 0].tolist() == [1, 2, 1, 2], "from the highest number of the group"
    assert not after.codes[:, 2, 1].any()


def test_a_suffix_that_old_items_share_takes_no_code():
    """Ten items of one ID, where codes go to 8: three share a number, so the last one still finds one."""
    first = resolve_collisions(with_books(np.repeat(CODES[:1], 7, axis=0)), "suffix")
    shared = grow(first, CODES[[0, 0]]).codes
    after = resolve_collisions(grow(shared, CODES[:1]), "suffix", frozen=9)
    assert after.codes[:, 2, 0].tolist() == [*range(7), 0, 0, 7]
    assert after.codebook_size == 8
    with pytest.raises(UsageError, match="need 9 numbers for one ID, and the old IDs have codes for 8"):
        resolve_collisions(grow(after, CODES[:1]), "suffix", frozen=10)


def with_books(values: np.ndarray) -> Tokenized:
    """As a tokenizer leaves them: with a codebook a level."""
    made = made_codes(values)
    return dataclasses.replace(made, codes=dataclasses.replace(made.codes, codebooks=np.zeros((1, 2, 8, 3))))


def test_a_suffix_beyond_the_old_codes():
    """Nine items of one ID, where codes go to 8: a model of the old IDs has none for the last."""
    old = np.repeat(CODES[:1], 8, axis=0)
    first = resolve_collisions(with_books(old), "suffix")
    longer = dataclasses.replace(first, codes=np.concatenate([first.codes, first.codes[-1:]]))
    grown = Tokenized(codes=longer, history=[], latents=np.zeros((1, 2, 3)))
    with pytest.raises(UsageError, match="the old IDs have codes for"):
        resolve_collisions(grown, "suffix", frozen=8)


def test_no_suffix_is_added_to_old_ids():
    grown = with_books(np.concatenate([CODES[:3], CODES[:1]]))
    with pytest.raises(UsageError, match="the old IDs have no suffix level"):
        resolve_collisions(grown, "suffix", frozen=3)
    fine = with_books(CODES[:3])
    assert resolve_collisions(fine, "suffix", frozen=2) is fine.codes, "nothing collides, nothing is needed"


def test_the_cheapest_move_is_by_what_it_adds():
    """Signal a is 2 from its own code and 2.2 from the other, b on its own and 1 from the other: a adds .84, b 1."""
    books = np.array([[[[0.0], [4.2]]], [[[0.0], [1.0]]]], dtype=np.float32)
    codes = Codes(
        codes=np.zeros((2, 1, 2), dtype=np.uint16), modalities=("a", "b"), method="x", codebook_size=2,
        codebooks=books, item_vectors=np.zeros((2, 2), dtype=np.float32), present=np.ones((2, 2), dtype=bool),
    )  # fmt: skip
    latents = np.array([[[2.0], [0.0]]] * 2, dtype=np.float32)
    made = resolve_collisions(Tokenized(codes=codes, history=[], latents=latents), "nearest")
    assert made.codes[:, 0].tolist() == [[0, 0], [1, 0]]
