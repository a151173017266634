"""From the rounds' times to what a table shows. Rounds of a contest are paired: the first of each entrant belong
together, since they ran in the same turn, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


def per_unit(rounds: Sequence[tuple[float, float]]) -> list[float]:
    """Seconds per unit of each round of (seconds, units)."""
    return [seconds / units for seconds, units in rounds]


def ratio(rounds: Sequence[tuple[float, float]], first: Sequence[tuple[float, float]]) -> Spread:
    """How many times as long as the first entrant it takes, round by round, for the same number of units."""
    pairs = zip(per_unit(rounds), per_unit(first), strict=True)
    return Spread.of([own / other for own, other in pairs])
