"""PCA whitening. I items, d width of a feature, D of the whitened one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bbqrec_cli.errors import DataError


@dataclass(frozen=True, eq=False)
class Whitening:
    """values -> (values - mean) · matrix. mean (d,) float32, matrix (d, D) float32."""

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, values: np.ndarray, *, block: int = 4096) -> np.ndarray:
        """(I, D) float32 of values (I, d)."""
        # In blocks, since a float64 copy of a large feature would take gigabytes.
        starts = range(0, len(values), block)
        mean, matrix = self.mean.astype(np.float64), self.matrix.astype(np.float64)
        made = np.empty((len(values), matrix.shape[1]), dtype=np.float32)
        for start in starts:
            made[start : start + block] = (values[start : start + block] - mean) @ matrix
        return made

    @property
    def name(self) -> str:
        """Says which map it is."""
        digest = hashlib.sha256(self.mean.tobytes() + self.matrix.tobytes()).hexdigest()
        return f"whitened-{self.matrix.shape[1]}-{digest[:8]}"


def fit_whitening(values: np.ndarray, dims: int, *, what: str, block: int = 4096) -> Whitening:
    """The map to the first `dims` principal components, each with variance 1 over the rows of values (I, d).

    The largest weight of every component is positive, which fixes its sign.

    Raises:
        DataError: the rows vary in fewer directions.
    """
    count, width = values.shape
    mean = values.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((width, width))
    for start in range(0, count, block):
        part = values[start : start + block] - mean
        scatter += part.T @ part
    variance, vectors = np.linalg.eigh(scatter / max(count - 1, 1))
    variance, vectors = variance[::-1], vectors[:, ::-1]
    rank = int((variance > 1e-9 * max(variance[0], 0)).sum()) if variance[0] > 0 else 0
    if dims > min(rank, count - 1):
        raise DataError(
            f"--whiten {dims}: {what}, {width} numbers for each of {count:,} items, "
            f"vary in {min(rank, count - 1):,} directions only",
            "a smaller --whiten, or --modalities without it",
        )
    vectors = vectors[:, :dims]
    sign = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dims)])
    return Whitening(mean.astype(np.float32), (vectors * sign / np.sqrt(variance[:dims])).astype(np.float32))
