from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.grouping import count_colliding_items, group_codes, prefix_sizes


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [
        ((500, 3, 2), 0, 3),  # one key holds all
        ((500, 5, 3), 0, 60_000),  # 240 bits: keys are shortened, in the middle of a level too
        ((500, 4, 4), 0, 65_536),
        ((500, 40, 2), 0, 2),
        ((300, 2, 2), -5, 5),
        ((300, 2, 2), 0, 1 << 40),  # a column wider than 32 bits
        ((1, 2, 2), 0, 9),
        ((5, 2, 1), 0, 1),
    ],
)
def test_against_unique_rows(shape, low, high):
    """Reference: numpy.unique over rows."""
    generator = np.random.default_rng(0)
    codes = generator.integers(low, high, shape)
    codes[generator.integers(0, len(codes), len(codes) // 2)] = codes[0]
    twins = generator.integers(0, len(codes), len(codes) // 3)
    codes[twins] = codes[generator.permutation(twins)]
    flat = codes.reshape(len(codes), -1)
    _, inverse, counts = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
    token, sharing = group_codes(codes)
    assert (token.dtype, sharing.dtype) == (np.int64, np.int64)
    np.testing.assert_array_equal(token, inverse.ravel())
    np.testing.assert_array_equal(sharing, counts)
    assert count_colliding_items(codes) == counts[counts > 1].sum()
    for depth, sizes in enumerate(prefix_sizes(codes), 1):
        _, expected = np.unique(codes[:, :depth].reshape(len(codes), -1), axis=0, return_counts=True)
        np.testing.assert_array_equal(sizes, expected)


def test_the_codes_stay_as_they_are():
    codes = np.random.default_rng(0).integers(0, 9, (50, 3, 2)).astype(np.uint16)
    before = codes.copy()
    list(prefix_sizes(codes))
    group_codes(codes)
    np.testing.assert_array_equal(codes, before)


def test_no_items():
    token, sharing = group_codes(np.zeros((0, 2, 2), dtype=np.uint16))
    assert (token.tolist(), sharing.tolist()) == ([], [])
    assert [sizes.tolist() for sizes in prefix_sizes(np.zeros((0, 2, 2), dtype=np.uint16))] == [[], []]


def test_a_million_items():
    codes = np.random.default_rng(0).integers(0, 256, (1_000_000, 3, 2)).astype(np.uint16)
    first, _, third = (len(sizes) for sizes in prefix_sizes(codes))
    assert (first, third) == (65_536, 1_000_000)
