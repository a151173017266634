"""Groups of equal rows of codes, found by sorting integers: 100 million rows fit in a few gigabytes.

The columns of a row are packed into one 64-bit key, the first in the highest bits, so that keys sort like rows and a
key's high bits are a prefix of the row. If 64 bits are too few, the columns so far are replaced by their rank.

I rows (items), L levels, M signals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

KEY_BITS = 64
WIDEST = 32
"""Bits of a column, at most; wider columns are replaced by their ranks."""


class _Keys:
    """Prefixes of rows as 64-bit keys: values (I,), of which the low `bits` are used. Equal keys are equal prefixes."""

    def __init__(self, rows: int) -> None:
        self.values = np.zeros(rows, dtype=np.uint64)
        self.bits = 0

    def has_room(self, width: int) -> bool:
        """Whether there is room for a column of `width` bits."""
        return self.bits + width <= KEY_BITS

    def append(self, column: np.ndarray, width: int) -> None:
        self.values <<= np.uint64(width)
        # Signed columns, which NumPy cannot combine with unsigned keys, are copied.
        self.values |= column if column.dtype.kind == "u" else column.astype(np.uint64)
        self.bits += width

    def shorten(self) -> None:
        """Replace the keys by their ranks: with I rows, log2 I bits at most."""
        ranks, sizes = _ranks(self.values)
        self.values, self.bits = ranks.astype(np.uint64), _width(len(sizes) - 1)


def _width(largest: int) -> int:
    return max(1, int(largest).bit_length())


def _narrow(column: np.ndarray) -> tuple[np.ndarray, int]:
    """A column (I,) as integers from 0, and the bits that they need."""
    if not len(column):
        return column, 1
    low, high = int(column.min()), int(column.max())
    if low < 0 or _width(high) > WIDEST:
        column, sizes = _ranks(column)
        high = len(sizes) - 1
    return column, _width(high)


def _ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each value among the distinct ones, (I,) int64, and the count of each, (distinct,) int64."""
    order = np.argsort(values)
    sizes = _run_lengths(values[order])
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.repeat(np.arange(len(sizes)), sizes)
    return ranks, sizes


def _run_lengths(values: np.ndarray) -> np.ndarray:
    """Lengths (runs,) int64 of the runs of equal neighbours in values (I,)."""
    fresh = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return np.diff(np.flatnonzero(fresh), append=len(values))


def group_codes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group items by semantic ID, in lexicographic order.

    Args:
        codes: (I, ...) integers.

    Returns:
        token_of_item (I,) int64, the number of each item's ID; counts (distinct,) int64, the items that share it.
    """
    flat = codes.reshape(len(codes), math.prod(codes.shape[1:]))
    keys = _Keys(len(flat))
    for each in flat.T:
        column, width = _narrow(each)
        if not keys.has_room(width):
            keys.shorten()
        keys.append(column, width)
    return _ranks(keys.values)


def shared_groups(codes: np.ndarray) -> list[np.ndarray]:
    """The groups of items that share an ID, one array of rows per group, in lexicographic order. codes (I, ...)."""
    token, sharing = group_codes(codes)
    rows = np.flatnonzero(sharing[token] > 1)
    rows = rows[np.argsort(token[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(token[rows])) + 1) if len(rows) else []


def prefix_sizes(codes: np.ndarray) -> Iterator[np.ndarray]:
    """For every depth from 1 to L: the items per prefix, (distinct,) int64, in lexicographic order.

    One sort serves all depths whose codes fit in one key: sorted keys without their low bits are sorted prefixes.

    Args:
        codes: (I, L, M) integers.
    """
    keys = _Keys(len(codes))
    ends: list[int] = []  # the key's bits at the end of each level not counted yet
    for level in range(codes.shape[1]):
        for signal in range(codes.shape[2]):
            column, width = _narrow(codes[:, level, signal])
            if not keys.has_room(width):
                yield from _counted(np.sort(keys.values), keys.bits, ends)
                ends = []
                keys.shorten()
            keys.append(column, width)
        ends.append(keys.bits)
    keys.values.sort()
    yield from _counted(keys.values, keys.bits, ends)


def _counted(values: np.ndarray, bits: int, ends: list[int]) -> Iterator[np.ndarray]:
    """For each of `ends`, the sizes of the groups with equal first `end` bits. values: sorted keys."""
    for end in ends:
        yield _run_lengths(values >> np.uint64(bits - end) if end < bits else values)


def count_colliding_items(codes: np.ndarray) -> int:
    """Number of items that share their whole ID with another item. codes (I, ...)."""
    (sizes,) = prefix_sizes(codes.reshape(len(codes), 1, math.prod(codes.shape[1:])))
    return in_groups(sizes)


def in_groups(sizes: np.ndarray) -> int:
    """Number of members of the groups with more than one. sizes (groups,)."""
    return int(sizes[sizes > 1].sum())
