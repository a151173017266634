"""Item features as numbers that a network can read. I items, d width of a feature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bbqrec_cli.records import Feature


def standardized(feature: Feature, *, block: int = 4096) -> np.ndarray:
    """(I, d) float32, standardised by the feature's own mean and scale; zeros where it is absent."""
    return standardize(feature, *mean_and_scale(feature, block=block), block=block)


def mean_and_scale(feature: Feature, *, block: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,) float64 per column, over the items that have the feature."""
    values, rows = feature.values, np.flatnonzero(feature.present)
    # In blocks, since a float64 copy of a large feature would take gigabytes.
    parts = [rows[start : start + block] for start in range(0, len(rows), block)]
    mean = np.sum([values[part].sum(0, dtype=np.float64) for part in parts], axis=0) / len(rows)
    deviation = np.sqrt(np.sum([np.square(values[part] - mean).sum(0) for part in parts], axis=0) / len(rows))
    # A column that varies by rounding alone carries no information; dividing by its deviation would amplify noise. What
    # the columns have in common is the lower median, and at most 1: large ones, such as dates, say nothing of others.
    usual = min(1.0, max(np.quantile(deviation, 0.5, method="lower"), 1e-12))
    return mean, np.where(deviation > np.maximum(1e-7 * np.abs(mean), 1e-6 * usual), deviation, np.inf)


def standardize(feature: Feature, mean: np.ndarray, scale: np.ndarray, *, block: int = 4096) -> np.ndarray:
    """(n, d) float32: (values - mean) / scale, zeros where the feature is absent. mean, scale (d,)."""
    made, rows = np.zeros(feature.values.shape, dtype=np.float32), np.flatnonzero(feature.present)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        made[part] = (feature.values[part] - mean) / scale
    return made


def usable(present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The features that at least one item has. present: feature -> (I,) bool."""
    return tuple(name for name, having in present.items() if having.any())
