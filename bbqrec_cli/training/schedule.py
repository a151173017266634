"""The learning rate schedule."""

from __future__ import annotations

import math


def schedule(step: int, total: int, rise: int, shape: str = "cosine") -> float:
    """Learning rate at `step`, relative to the peak: linear over `rise` steps, then a cosine to 0.01 at `total`.

    With the shape 'constant' it stays at the peak. Epochs may differ by a step or so; after `total` steps the rate is
    constant.
    """
    if step < rise:
        return (step + 1) / rise
    if shape == "constant":
        return 1.0
    share = min(1.0, (step - rise) / max(1, total - rise))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
