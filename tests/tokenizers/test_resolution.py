"""Items that share an ID: counted on, moved to a free one, or left."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bbqrec_cli.errors import UsageError
from bbqrec_cli.records import Codes
from bbqrec_cli.tokenizers.base import Tokenized
from bbqrec_cli.tokenizers.resolution import resolve

CODES = np.array([[[0, 5], [1, 5]], [[0, 6], [1, 5]], [[2, 7], [1, 5]], [[0, 5], [1, 5]]], dtype=np.uint16)
"""Four items, two levels, two signals; the first and the last collide."""


def made_codes(values: np.ndarray, size: int = 8) -> Tokenized:
    return Tokenized(codes=Codes(codes=values, modalities=("id", "text"), method="x", codebook_size=size), history=[])


def test_suffix():
    values = np.concatenate([CODES, CODES[1:2], CODES[:1]])  # item 0, 3 and 5 are alike, and 1 and 4
    made = resolve(made_codes(values), "suffix")
    assert made.codes.shape == (6, 3, 2)
    np.testing.assert_array_equal(made.codes[:, :2], values)
    assert made.codes[:, 2, 0].tolist() == [0, 0, 0, 1, 1, 2], "counted in the order of the rows"
    assert not made.codes[:, 2, 1].any()
    assert len(np.unique(made.codes.reshape(6, -1), axis=0)) == 6
    assert made.codebook_size == 8
    assert made.codes.dtype == np.uint16


def test_a_large_group_needs_more_codes():
    made = resolve(made_codes(np.repeat(CODES[:1], 9, axis=0)), "suffix")
    assert (made.codebook_size, made.codes[:, 2, 0].max()) == (9, 8)


def test_nothing_to_resolve():
    codes = made_codes(CODES[:3])
    assert resolve(codes, "suffix") is codes.codes
    double = made_codes(CODES)
    assert resolve(double, "share") is double.codes
    assert resolve(double, "nearest") is double.codes, "there are no vectors to be near to"


def test_more_alike_than_codes_can_count():
    with pytest.raises(UsageError, match="65,537 items share one ID"):
        resolve(made_codes(np.repeat(CODES[:1], (1 << 16) + 1, axis=0)), "suffix")


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
    after = resolve(made, "nearest")
    assert distinct(after.codes) == len(before)
    assert after.codes.shape == before.shape, "no level is added"
    np.testing.assert_array_equal(made.codes.codes, before, "the input stays as it is")
    np.testing.assert_array_equal(after.codes[:, :-1], before[:, :-1])
    changed = (after.codes != before).sum((1, 2))
    assert changed.max() == 1, "one code of one signal"
    first = [row for row, codes in enumerate(before) if not (before[:row] == codes).all((1, 2)).any()]
    assert not changed[first].any(), "the first of a group keeps its ID, and so do those that share none"
    np.testing.assert_array_equal(after.item_vectors, vectors(after.codes, made.codes.codebooks))


def test_nearest_takes_the_cheapest_free_id():
    made = quantised(levels=1, signals=2)
    after = resolve(made, "nearest").codes
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


def test_nearest_leaves_what_cannot_be_told_apart():
    made = quantised(levels=1, signals=1, items=10)
    after = resolve(made, "nearest").codes
    assert distinct(after) == 4, "4 codes are all there are"


def test_nearest_changes_no_signal_that_an_item_lacks():
    made = quantised()
    present = np.ones((40, 2), dtype=bool)
    present[:, 1] = False
    lacking = Tokenized(codes=made.codes, history=[], latents=made.latents, present=present)
    after = resolve(lacking, "nearest").codes
    assert (after != made.codes.codes).any()
    np.testing.assert_array_equal(after[:, :, 1], made.codes.codes[:, :, 1])
