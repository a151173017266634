"""Entropic optimal transport (Cuturi 2013) by Sinkhorn–Knopp: n items use N codes equally often.

One core, `received`, serves three uses: codes that a training batch uses evenly (`even_codes`), codes of items
that share an ID (`assign_by_share`), and clusters of equal size (`balanced.py`). `chosen_again` is a program's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

ITERATIONS = 50
"""Rounds of `even_codes` and `chosen_again`, as in LC-Rec and LETTER."""
PUBLISHED_EPSILON = 0.003
"""ε of `chosen_again`: of the last level, in both programs."""
LARGEST_EXPONENT = 690.0
"""Its exponential, times the items of a batch, fits a float64. The range of exponents is 2 / ε, 667 at ε = 0.003."""
EQUAL = 1e-6
"""Logarithms of shares that differ by no more than this count as equal: the last bits are rounding."""
SHARPNESS = 0.01
"""ε of `transport`, as a fraction of the range of the costs: the smaller, the closer to the cheapest assignment."""


def received(kernel: Any, turned: Any, mass: Any, columns: Any) -> tuple[Any, Any]:
    """One round: every item distributes its mass in proportion to its row of the kernel, times the codes' factors.

    Args:
        kernel: (n, N) positive; like the others, a NumPy array or a tensor.
        turned: its transpose (N, n), in whichever layout is the fastest.
        mass: (n,), or one number for all items.
        columns: (N,), the codes' factors; None: all are 1.

    Returns:
        rows (n,), the items' factors; sums (N,), what each code receives with them. With the factors 1 / sums each code
        receives exactly 1.
    """
    rows = mass / (kernel.sum(1) if columns is None else kernel @ columns)
    return rows, turned @ rows


@torch.no_grad()
def even_codes(distances: Tensor, *, epsilon: float, iterations: int = ITERATIONS) -> Tensor:
    """The code of which each item has the largest share, (n,) int64, where the shares use all codes equally often.

    LC-Rec and LETTER choose the last level's codes this way in training; shares are those after `iterations` rounds.
    With n ≥ N every item has N / n of a code. With n < N every item has one code in sum, and the rest stays unused
    (the published programs distribute it among the items, which then have equal shares of several codes).
    Several items may have the largest share of one code. Of codes with equal shares the nearest is chosen.

    Args:
        distances: (n, N), finite.
        epsilon: ε, the weight of the entropy, as a fraction of half the range of the distances.
    """
    items, codes = distances.shape
    # Not in logarithms, which would take 20 times as long; float64 holds these exponents. MPS lacks float64.
    costs = (distances.cpu() if distances.device.type == "mps" else distances).double()
    half = ((costs.max() - costs.min()) / 2).clamp(min=1e-12)
    logits = (-(costs - costs.amin(1, keepdim=True)) / (half * epsilon)).clamp(min=-LARGEST_EXPONENT)
    kernel, mass = logits.exp(), logits.new_full((items,), codes / items)
    if items < codes:
        kernel, mass = torch.cat([kernel, kernel.new_ones(1, codes)]), logits.new_ones(items + 1)
        mass[-1] = codes - items
    turned, columns = kernel.T.contiguous(), kernel.new_ones(codes)
    for _ in range(iterations):
        columns = 1 / received(kernel, turned, mass, columns)[1]
        columns = columns / columns.max()
    shares = logits + columns.log()
    largest = shares >= shares.amax(1, keepdim=True) - EQUAL
    return costs.masked_fill(~largest, torch.inf).argmin(1).to(distances.device)


def transport(
    costs: np.ndarray, *, epsilon: float = SHARPNESS, iterations: int = 500, tolerance: float = 1e-6
) -> np.ndarray:
    """Shares (n, N) of items in codes, with uniform marginals on the codes, solved to convergence.

    With n ≤ N every item has a total share of one code, and the rest of the codes stays unused at no cost; with n > N
    every item has N / n of a code.

    Args:
        costs: (n, N), finite.
        epsilon: ε as a fraction of the range of the costs.
        iterations: rounds over items and codes, at most.
        tolerance: stop when no item is further than this from its mass.
    """
    items, codes = costs.shape
    spare = max(codes - items, 0)
    kernel = np.exp(-(costs - costs.min()) / (max(float(np.ptp(costs)), 1e-12) * epsilon))
    mass = np.full(items, 1.0 if spare else codes / items)
    if spare:
        kernel, mass = np.vstack([kernel, np.ones(codes)]), np.append(mass, spare)
    rows, columns = np.ones(len(kernel)), 1 / kernel.sum(0)
    for _ in range(iterations):
        others, sums = received(kernel, kernel.T, mass, columns)
        if np.abs(mass * rows / others - mass).max() < tolerance:
            break
        rows, columns = others, 1 / sums
    return (kernel * rows[:, None] * columns)[:items]


def assign_by_share(costs: np.ndarray) -> np.ndarray:
    """A different code for each item, (n,) int64; -1 for items left over if n > N.

    Assigned by falling share; equal shares in the order of items, then of codes. costs (n, N).
    """
    items, codes = costs.shape
    found = np.full(items, -1, dtype=np.int64)
    if not codes:
        return found
    shares = transport(costs)
    open_items, open_codes = np.ones(items, dtype=bool), np.ones(codes, dtype=bool)
    # Rounded, so that for equal items the order of the rows decides, not the last bits.
    for place in np.argsort(-np.round(shares, 9), axis=None, kind="stable"):
        item, code = divmod(int(place), codes)
        if open_items[item] and open_codes[code]:
            found[item], open_items[item], open_codes[code] = code, False, False
            if not (open_items.any() and open_codes.any()):
                break
    return found


def chosen_again(distances: np.ndarray) -> np.ndarray:
    """The code of which each item has the largest share, (n,) int64, as the programs of LC-Rec and LETTER find it for
    items that share an ID. After `ITERATIONS` rounds over items and codes every code is used up, so that few items have
    shares of many codes. An item's largest share is of a code that is near compared with the other items, which may be
    far from all of them; of those that it has to itself (a share of 1 in float64), and of all for equal items, the
    first. Several items may choose one code.

    Args:
        distances: (n, N), squared; finite.
    """
    (items, codes), middle = distances.shape, (distances.max() + distances.min()) / 2
    shares = np.exp(-(distances - middle) / (distances.max() - middle + 1e-5) / PUBLISHED_EPSILON)
    for _ in range(ITERATIONS):  # step by step as there: of shares near 1, rounding decides which are equal
        shares /= shares.sum(1, keepdims=True)
        shares /= items
        shares /= shares.sum(0)
        shares /= codes
    return (shares * items).argmax(1)
