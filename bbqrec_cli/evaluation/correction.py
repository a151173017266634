"""Correction of p-values for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of the p-values of a family of comparisons, in their order.

    A comparison whose corrected p is below α is significant with the chance of any false finding in the family at most
    α (Holm, Scandinavian Journal of Statistics 1979).
    """
    found, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        found[place] = highest
    return found
