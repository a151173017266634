"""Whether two runs group the same items together: adjusted mutual information. I items, L levels, M signals.

Vinh, Epps and Bailey (JMLR 2010): (MI - E) / (mean of the entropies - E), where E is the mutual information of two
partitions with the same sizes drawn at random. 1 for equal partitions, about 0 for independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from bbqrec_cli.grouping import group_codes


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Adjusted mutual information of two files' IDs over the same items.

    codes: signal -> one value per level that both quantise, over the items that have the signal in both; prefixes: one
    value per depth, of the groups that share a prefix. None = undefined: fewer than two items, or all groups have one
    item in both.
    """

    items: int
    codes: dict[str, list[float | None]]
    prefixes: list[float | None]


def agreement(
    one: np.ndarray, other: np.ndarray, signals: tuple[tuple[str, ...], tuple[str, ...]],
    present: tuple[np.ndarray | None, np.ndarray | None] = (None, None), *, levels: int | None = None,
) -> Agreement:  # fmt: skip
    """The agreement of two codings, over the levels and signals that both have.

    Args:
        one, other: (I, L, M) codes of the same items in the same order; L and M may differ.
        signals: the names of each one's signals.
        present: (I, M) bool of each; None: every item has every signal.
        levels: how many of them are codes of signals, in both; None: all.
    """
    shared = min(one.shape[1], other.shape[1])
    levels = shared if levels is None else levels
    codes: dict[str, list[float | None]] = {}
    for name in (name for name in signals[0] if name in signals[1]):
        here, there = signals[0].index(name), signals[1].index(name)
        rows = np.ones(len(one), dtype=bool)
        for number, has in zip((here, there), present, strict=True):
            rows &= True if has is None else has[:, number]
        codes[name] = [
            adjusted_mutual_information(one[rows, level, here], other[rows, level, there]) for level in range(levels)
        ]
    prefixes = [
        adjusted_mutual_information(group_codes(one[:, :depth])[0], group_codes(other[:, :depth])[0])
        for depth in range(1, shared + 1)
    ]
    return Agreement(items=len(one), codes=codes, prefixes=prefixes)


def adjusted_mutual_information(one: np.ndarray, other: np.ndarray) -> float | None:
    """Adjusted mutual information of two partitions of the same items, as labels (I,) from 0; None = undefined."""
    a, b = (counts[counts > 0] for counts in (np.bincount(one), np.bincount(other)))
    items = len(one)
    if not items or len(a) == len(b) == items:
        return None
    if len(a) == len(b) == 1:
        return 1.0
    joint = group_codes(np.column_stack([one, other]))[1]
    entropies = [_entropy(counts, items) for counts in (a, b)]
    mutual = sum(entropies) - _entropy(joint, items)
    expected = expected_information(a, b)
    chance = sum(entropies) / 2 - expected
    return float((mutual - expected) / chance) if chance > 1e-12 else None


def _entropy(counts: np.ndarray, items: int) -> float:
    """Entropy in nats of groups with these counts."""
    share = counts / items
    return float(-(share * np.log(share)).sum())


def expected_information(a: np.ndarray, b: np.ndarray) -> float:
    """Expected mutual information, in nats, of two random partitions with group sizes a (R,) and b (C,) (eq. 24a).

    It depends on the sizes only, so each pair of sizes is computed once.
    """
    items = int(a.sum())
    (sizes, times), (others, other_times) = (np.unique(each, return_counts=True) for each in (a, b))
    factorial = gammaln(np.arange(items + 1) + 1.0)  # its logarithm
    total = 0.0
    for size, number in zip(sizes.tolist(), times.tolist(), strict=True):
        n = np.arange(1, min(size, int(others[-1])) + 1)
        # A table (C', n) of possible overlaps; impossible ones are clipped to a possible one and masked.
        low, high = np.maximum(1, size + others - items)[:, None], np.minimum(size, others)[:, None]
        possible = (n >= low) & (n <= high)
        n = np.clip(n, low, high)
        b_ = others[:, None]
        weight = np.exp(
            factorial[size] + factorial[b_] + factorial[items - size] + factorial[items - b_] - factorial[items]
            - factorial[n] - factorial[size - n] - factorial[b_ - n] - factorial[items - size - b_ + n]
        )  # fmt: skip
        means = (possible * weight * n / items * np.log(items * n / (size * b_))).sum(axis=1)
        total += number * float((means * other_times).sum())
    return total
