"""How the learning rate goes over a run."""

from __future__ import annotations

import math


def schedule(step: int, total: int, rise: int) -> float:
    """Share of the highest rate: linear up over the first `rise` steps, then a cosine down to a hundredth at `total`.

    Epochs may differ by a step or so: past the planned end the rate stays where it is.
    """
    if step < rise:
        return (step + 1) / rise
    share = min(1.0, (step - rise) / max(1, total - rise))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
