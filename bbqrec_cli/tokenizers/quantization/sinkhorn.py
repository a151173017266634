"""Entropic optimal transport (Cuturi 2013) by Sinkhorn and Knopp: n items share N codes that are all given out alike.

One core, `received`, serves three uses: codes that a training batch uses evenly (`even_codes`), codes for the items
that share an ID (`assign_by_share`), and clusters of one size (`balanced.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

ITERATIONS = 50
"""Of `even_codes`: LC-Rec's and LETTER's."""
LARGEST_EXPONENT = 690.0
"""e to its power, times the items of a batch, is a float64. Whole ranges are 2 / ε, at ε = 0.003 that is 667."""
EQUAL = 1e-6
"""Logarithms of shares that are no further apart are equal: their last bits say nothing."""
SHARPNESS = 0.01
"""ε of `transport`, as a part of the range of the costs: the smaller, the closer to the cheapest assignment."""


def received(kernel: Any, mass: Any, columns: Any) -> tuple[Any, Any]:
    """One round: every item hands out its mass in proportion to its row of the kernel, times the codes' factors.

    Args:
        kernel: (n, N) positive; NumPy arrays or tensors, as the others.
        mass: (n,), or one number for all items.
        columns: (N,), the codes' factors.

    Returns:
        rows (n,), the items' factors; sums (N,) of the kernel with these. 1 / sums are the codes' factors with which
        each code is given out exactly once.
    """
    rows = mass / (kernel @ columns)
    return rows, kernel.T @ rows


@torch.no_grad()
def even_codes(distances: Tensor, *, epsilon: float, iterations: int = ITERATIONS) -> Tensor:
    """The code of which each item has the largest share, (n,) int64, where all codes are given out alike.

    As LC-Rec and LETTER choose the last level's codes while training: shares are those after so many rounds over items
    and codes. With n ≥ N every item takes N / n of a code. With n < N every item takes one code, none is given out
    twice, and what is left goes to nobody (the published programs give all of it to the items, which then have equal
    shares of several codes). Of codes with equal shares the nearest is chosen.

    Args:
        distances: (n, N), finite.
        epsilon: ε, the weight of the entropy, as a part of half the range of the distances.
    """
    items, codes = distances.shape
    # Not in logarithms, which take twenty times as long; float64 holds these exponents. Apple's GPUs lack it.
    costs = (distances.cpu() if distances.device.type == "mps" else distances).double()
    half = ((costs.max() - costs.min()) / 2).clamp(min=1e-12)
    logits = (-(costs - costs.amin(1, keepdim=True)) / (half * epsilon)).clamp(min=-LARGEST_EXPONENT)
    kernel, mass = logits.exp(), logits.new_full((items,), codes / items)
    if items < codes:
        kernel, mass = torch.cat([kernel, kernel.new_ones(1, codes)]), logits.new_ones(items + 1)
        mass[-1] = codes - items
    columns = kernel.new_ones(codes)
    for _ in range(iterations):
        columns = 1 / received(kernel, mass, columns)[1]
        columns = columns / columns.max()
    shares = logits + columns.log()
    largest = shares >= shares.amax(1, keepdim=True) - EQUAL
    return costs.masked_fill(~largest, torch.inf).argmin(1).to(distances.device)


def transport(
    costs: np.ndarray, *, epsilon: float = SHARPNESS, iterations: int = 500, tolerance: float = 1e-6
) -> np.ndarray:
    """Shares (n, N) in which items take codes, with uniform marginals on the codes, solved to the end.

    Every code is given out once. With n ≤ N every item takes one code in all, and what is left of the codes goes to
    nobody, at no cost; with n > N every item takes N / n of a code.

    Args:
        costs: (n, N), finite.
        epsilon: ε as a part of the range of the costs.
        iterations: at most so many rounds over items and codes.
        tolerance: stop when no item is further from its mass.
    """
    items, codes = costs.shape
    spare = max(codes - items, 0)
    kernel = np.exp(-(costs - costs.min()) / (max(float(np.ptp(costs)), 1e-12) * epsilon))
    mass = np.full(items, 1.0 if spare else codes / items)
    if spare:
        kernel, mass = np.vstack([kernel, np.ones(codes)]), np.append(mass, spare)
    rows, columns = np.ones(len(kernel)), 1 / kernel.sum(0)
    for _ in range(iterations):
        others, sums = received(kernel, mass, columns)
        if np.abs(mass * rows / others - mass).max() < tolerance:
            break
        rows, columns = others, 1 / sums
    return (kernel * rows[:, None] * columns)[:items]


def assign_by_share(costs: np.ndarray) -> np.ndarray:
    """A different code for each item, (n,) int64; -1 for those that come too late where n > N.

    The largest share goes first; equal ones in the order of items, then of codes. costs (n, N).
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
