"""How evenly codes are used: entropy, perplexity and Gini coefficient of their counts.

I items, L levels, M signals, N codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 1 << 22
"""Codes counted at once."""


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """The codes of one signal at one level (from 1), over the items that have the signal.

    size: N; in_use: codes that at least one item has; entropy: in bits; gini: over all codes, 0 = even use; histogram:
    number of codes that 0, 1, 2-3, 4-7, … items have.
    """

    signal: str
    level: int
    items: int
    size: int
    in_use: int
    perplexity: float
    entropy: float
    gini: float
    histogram: list[int]


def having(codes: np.ndarray, present: np.ndarray | None, number: int) -> np.ndarray:
    """The codes (I', L, M) of the items that have signal `number`, of `codes` (I, L, M).

    present: (I, M) bool; None: every item has every signal.
    """
    return codes if present is None or present[:, number].all() else codes[present[:, number]]


def codebook(counts: np.ndarray, *, signal: str, level: int) -> Codebook:
    """The figures of a codebook. counts (N,): number of items with each code."""
    bits = entropy(counts)
    return Codebook(
        signal=signal, level=level, items=int(counts.sum()), size=len(counts), in_use=int((counts > 0).sum()),
        perplexity=float(2**bits) if counts.any() else 0.0, entropy=bits, gini=gini(counts),
        histogram=histogram(counts),
    )  # fmt: skip


def code_counts(codes: np.ndarray, size: int) -> np.ndarray:
    """Number of items with each code, (size,) int64. codes (I,), all below size."""
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, len(codes), BLOCK):  # since bincount makes 8 bytes of every code
        counts += np.bincount(codes[start : start + BLOCK], minlength=size)
    return counts


def entropy(counts: np.ndarray, times: np.ndarray | None = None) -> float:
    """Entropy of an item's group in bits: -Σ p log2 p, p = count / sum.

    Args:
        counts: (n,) sizes of groups.
        times: (n,) number of groups of each size; None: one each.
    """
    kept = counts > 0
    sizes = counts[kept].astype(np.float64)
    number = np.ones(len(sizes)) if times is None else times[kept]
    total = (sizes * number).sum()
    return float(-(number * sizes / total * np.log2(sizes / total)).sum()) + 0.0 if total else 0.0


def perplexity(codes: np.ndarray) -> float:
    """2^entropy of codes (I,): the number of evenly used codes with the same entropy; 0 without items."""
    return float(2 ** entropy(np.bincount(codes))) if len(codes) else 0.0


def gini(counts: np.ndarray, times: np.ndarray | None = None) -> float:
    """Gini coefficient: 0 if all groups are equally large, near 1 if one has all items. Arguments as in `entropy`."""
    order = np.argsort(counts, kind="stable")
    sizes = counts[order].astype(np.float64)
    number = np.ones(len(sizes)) if times is None else times[order].astype(np.float64)
    groups, total = number.sum(), (sizes * number).sum()
    if not total:
        return 0.0
    # Ranks from 1; groups of equal size get the mean of their ranks.
    rank = np.cumsum(number) - (number - 1) / 2
    return float(2 * (rank * sizes * number).sum() / (groups * total) - (groups + 1) / groups) + 0.0


def histogram(counts: np.ndarray) -> list[int]:
    """Number of counts (N,) that are 0, 1, 2-3, 4-7, …, up to the largest."""
    # frexp's exponent, with the mantissa in [0.5, 1), is the number of binary digits.
    digits = np.frexp(counts.astype(np.float64))[1]
    return np.bincount(digits).tolist()
