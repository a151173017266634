"""Settings near good ones: what is tried while there are few trials to learn from.

Random settings are mostly worse than a system's own, and small budgets are spent before a model of the trials knows it.
Steps from the best so far find what is better in fewer trials, as FLAML's frugal search does (Wu et al., AAAI 2021).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from bbqrec_cli.config import Range
from bbqrec_cli.tuning.systems import Space

SHARE = 1 / 3
"""Of the options, about, that a step changes."""
STRIDE = 0.2
"""Standard deviation of a step, as a part of a range."""
TRIES = 100
"""Draws, at most, for settings that nobody has tried."""


def near(space: Space, best: Mapping[str, Any], tried: Collection[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Values of all options in `space`, some of them other than in `best`; if possible none of `tried`."""
    generator = np.random.default_rng(seed)
    values = dict(best)
    for _ in range(TRIES):
        chosen = [name for name in space if generator.random() < SHARE] or [generator.choice(list(space))]
        values = dict(best) | {str(name): _beside(space[name], best[name], generator) for name in chosen}
        if values not in tried:
            break
    return values


def _beside(search: tuple[Any, ...] | Range, value: Any, generator: np.random.Generator) -> Any:
    """Another value of an option: of a range one not far away, of numbers a neighbour, of words any."""
    if isinstance(search, Range):
        return _within(search, value, float(generator.normal(0, STRIDE)))
    if any(isinstance(each, str) for each in search):
        return search[int(generator.choice([n for n, each in enumerate(search) if each != value]))]
    place = search.index(value)
    return search[int(generator.choice([n for n in (place - 1, place + 1) if 0 <= n < len(search)]))]


def _within(search: Range, value: float, step: float) -> float:
    """The value so many ranges away, at an end turned back."""
    low, high = (math.log(search.low), math.log(search.high)) if search.log else (search.low, search.high)
    place = ((math.log(value) if search.log else value) - low) / (high - low) + step
    place = min(max(abs(place) if place < 0 else 2 - place if place > 1 else place, 0.0), 1.0)
    found = low + place * (high - low)
    return min(max(math.exp(found) if search.log else found, search.low), search.high)
