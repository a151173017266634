"""Which item takes which code, all together: entropic optimal transport by Sinkhorn and Knopp. n items, F codes."""

from __future__ import annotations

import numpy as np

SHARPNESS = 0.01
"""ε, the weight of the entropy, as a part of the largest cost: the smaller, the closer to the cheapest assignment."""


def transport(
    costs: np.ndarray, *, epsilon: float = SHARPNESS, iterations: int = 500, tolerance: float = 1e-6
) -> np.ndarray:
    """Shares (n, F) in which items take codes, with uniform marginals on the codes (Cuturi 2013, in the log domain).

    Every code is given out once. With n ≤ F every item takes one code in all, and what is left of the codes goes to
    nobody, at no cost; with n > F every item takes F / n of a code.

    Args:
        costs: (n, F), finite.
        epsilon: ε as a part of the range of the costs.
        iterations: at most so many rounds over rows and columns.
        tolerance: stop when no row is further from its mass.
    """
    items, codes = costs.shape
    spare = max(codes - items, 0)
    kernel = -(costs - costs.min()) / (max(float(np.ptp(costs)), 1e-12) * epsilon)
    mass = np.full(items, 1.0 if spare else codes / items)
    if spare:
        kernel, mass = np.vstack([kernel, np.zeros(codes)]), np.append(mass, spare)
    rows, target = np.zeros(len(kernel)), np.log(mass)
    for _ in range(iterations):
        columns = -_log_sum(kernel + rows[:, None], axis=0)
        given = _log_sum(kernel + columns, axis=1)
        if np.abs(np.exp(given + rows) - mass).max() < tolerance:
            break
        rows = target - given
    # The codes' step comes last: each is given out exactly once.
    columns = -_log_sum(kernel + rows[:, None], axis=0)
    return np.exp(kernel + rows[:, None] + columns)[:items]


def _log_sum(values: np.ndarray, *, axis: int) -> np.ndarray:
    """log Σ exp along an axis, without overflow."""
    highest = values.max(axis=axis, keepdims=True)
    return (np.log(np.exp(values - highest).sum(axis=axis, keepdims=True)) + highest).squeeze(axis)


def assign(costs: np.ndarray) -> np.ndarray:
    """A different code for each item, (n,) int64; -1 for those that come too late where n > F.

    The largest share goes first; equal ones in the order of items, then of codes. costs (n, F).
    """
    items, codes = costs.shape
    found = np.full(items, -1, dtype=np.int64)
    if not codes:
        return found
    shares = transport(costs)
    open_items, open_codes = np.ones(items, dtype=bool), np.ones(codes, dtype=bool)
    # Rounded, so that twins are equal and the order of the rows decides, whatever the last bits say.
    for place in np.argsort(-np.round(shares, 9), axis=None, kind="stable"):
        item, code = divmod(int(place), codes)
        if open_items[item] and open_codes[code]:
            found[item], open_items[item], open_codes[code] = code, False, False
            if not (open_items.any() and open_codes.any()):
                break
    return found
