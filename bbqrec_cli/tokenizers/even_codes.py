"""Codes that a batch uses evenly, by Sinkhorn and Knopp, as LC-Rec and LETTER choose the last level's while training.

n items, N codes. `sinkhorn.transport` solves the same problem to the end, in NumPy, for a few items that share an ID.
Here it is solved at every step of a training, for a whole batch, as far as a fixed number of iterations leads.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 50
"""LC-Rec's and LETTER's."""
LARGEST_EXPONENT = 690.0
"""e to its power, times the items of a batch, is a float64. Whole ranges are 2 / ε, at ε = 0.003 that is 667."""
EQUAL = 1e-6
"""Logarithms of shares that are no further apart are equal: their last bits say nothing."""


@torch.no_grad()
def even_codes(distances: Tensor, *, epsilon: float, iterations: int = ITERATIONS) -> Tensor:
    """The code of which each item has the largest share, (n,) int64, where all codes are given out alike.

    Shares are those of entropic optimal transport (Cuturi 2013) after so many rounds over items and codes. With n ≥ N
    every item takes N / n of a code. With n < N every item takes one code, none is given out twice, and what is left
    goes to nobody (the published programs give all of it to the items, which then have equal shares of several codes).
    Of codes with equal shares the nearest is chosen.

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
    turned, columns = kernel.T.contiguous(), kernel.new_ones(codes)
    for _ in range(iterations):
        columns = 1 / (turned @ (mass / (kernel @ columns)))
        columns = columns / columns.max()
    shares = logits + columns.log()
    largest = shares >= shares.amax(1, keepdim=True) - EQUAL
    return costs.masked_fill(~largest, torch.inf).argmin(1).to(distances.device)
