"""k-means with clusters of equal size. n vectors, N codes, D width.

Lloyd's assignment is constrained: every code gets ⌊n/N⌋ or ⌈n/N⌉ of the vectors (constrained k-means, Bradley, Bennett
and Demiriz 2000). That paper solves a minimum-cost flow; here the assignment takes two steps, each of which needs only
a block of distances at a time:

1. Sinkhorn's iterations (Cuturi 2013) at a falling temperature, in a fixed number of passes, find prices of the codes
   at which all are in about equal demand.
2. Rounding: every vector chooses its cheapest code, price included. A code with more vectors than room keeps those with
   the largest regret, that is the cost of their second choice; the others choose again among the codes with room. In
   every round that leaves vectors over, a code becomes full, so there are at most N rounds.

The sizes are exact; the cost is near the minimum.
"""

from __future__ import annotations

import numpy as np

from bbqrec_cli.seeds import numpy_generator
from bbqrec_cli.tokenizers.quantization.kmeans import SAMPLE_PER_CODE, kmeans
from bbqrec_cli.tokenizers.quantization.sinkhorn import received

WARMEST, COLDEST = 0.1, 0.002
"""Temperatures of Sinkhorn's first and last pass, as shares of the mean squared distance of a vector to a code."""
PASSES = 24
"""Passes of Sinkhorn; with known prices of similar centroids, only the coldest quarter of them."""


def balanced_kmeans(
    vectors: np.ndarray, *, codes: int, seed: int, sample: int = SAMPLE_PER_CODE, iterations: int = 10
) -> np.ndarray:
    """Centroids (N, D) of vectors (n, D), starting from plain k-means.

    Args:
        codes: N.
        sample: vectors per code; if there are more, so many are drawn.
        iterations: steps of Lloyd's algorithm, at most.

    Raises:
        MissingPackageError: faiss is not installed.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(vectors) > sample * codes:
        drawn = numpy_generator(seed, "balanced").choice(len(vectors), sample * codes, replace=False)
        vectors = vectors[np.sort(drawn)]
    centroids, before, prices = kmeans(vectors, codes=codes, seed=seed, sample=sample), None, None
    for _ in range(iterations):
        label, prices = _assign(vectors, centroids, prices)
        if before is not None and np.array_equal(label, before):
            break
        sums = np.zeros(centroids.shape, dtype=np.float64)
        np.add.at(sums, label, vectors)
        sizes = np.bincount(label, minlength=codes)[:, None]
        centroids = np.where(sizes > 0, sums / np.maximum(sizes, 1), centroids).astype(np.float32)
        before = label
    return centroids


def balanced_assignment(vectors: np.ndarray, centroids: np.ndarray, *, block: int = 1 << 14) -> np.ndarray:
    """The code of each vector, (n,) int64: every code has ⌊n/N⌋ or ⌈n/N⌉ of them.

    vectors (n, D), centroids (N, D); block: vectors whose distances are held in memory at once.
    """
    return _assign(vectors, centroids, None, block=block)[0]


def _assign(
    vectors: np.ndarray, centroids: np.ndarray, prices: np.ndarray | None, *, block: int = 1 << 14
) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n,) and prices (N,). prices: those of similar centroids, to start from."""
    costs = _Costs(vectors, centroids, block, prices)
    costs.balance(PASSES if prices is None else PASSES // 4)
    found = np.full(len(vectors), -1)
    each, more = divmod(len(vectors), len(centroids))
    _fill(found, costs, np.full(len(centroids), each))
    if more:
        _fill(found, costs, np.ones(len(centroids), dtype=np.int64))
    return found, costs.prices


class _Costs:
    """Cost of each code for each vector: squared distance minus |x|², plus the code's price."""

    def __init__(self, vectors: np.ndarray, centroids: np.ndarray, block: int, prices: np.ndarray | None) -> None:
        self.vectors, self.block = np.asarray(vectors, dtype=np.float32), block
        self.turned = -2 * np.ascontiguousarray(centroids.T, dtype=np.float32)
        self.squares = np.square(centroids, dtype=np.float64).sum(1)
        self.prices = np.zeros(len(centroids)) if prices is None else prices.copy()

    def of(self, rows: slice | np.ndarray) -> np.ndarray:
        """Costs of some vectors, (rows, N) float32."""
        made = self.vectors[rows] @ self.turned
        made += (self.squares + self.prices).astype(np.float32)
        return made

    def balance(self, passes: int) -> None:
        """Set prices with equal demand for all codes: the last `passes` of Sinkhorn's, from warm to cold."""
        n, codes = max(1, len(self.vectors)), len(self.prices)
        blocks = [slice(start, start + self.block) for start in range(0, n, self.block)]
        # The mean squared distance, from the means of |x|² and |c|² and the product of the means.
        spread = float(np.square(self.vectors, dtype=np.float64).sum()) / n + float(self.squares.mean())
        spread += float(self.vectors.sum(0, dtype=np.float64) / n @ self.turned.mean(1))
        for temperature in np.geomspace(WARMEST, COLDEST, PASSES)[-passes:] * max(spread, 1e-12):
            asked = np.zeros(codes)
            for part in blocks:
                cost = self.of(part)
                cost -= cost.min(1, keepdims=True)
                cost *= np.float32(-1 / temperature)
                kernel = np.exp(cost, out=cost)
                asked += received(kernel, kernel.T, np.float32(1), None)[1]
            self.prices += temperature * np.log(np.maximum(asked, 1e-9) * codes / n)


def _fill(found: np.ndarray, costs: _Costs, room: np.ndarray) -> None:
    """Assign a code to the vectors whose entry in `found` (n,) is -1, up to each code's room (N,)."""
    left = np.flatnonzero(found < 0)
    while len(left) and room.any():
        wanted, regret = np.empty(len(left), dtype=np.int64), np.empty(len(left))
        for start in range(0, len(left), costs.block):
            part = slice(start, start + costs.block)
            cost = np.where(room > 0, costs.of(left[part]), np.inf)
            wanted[part] = cost.argmin(1)
            lowest = np.partition(cost, min(1, cost.shape[1] - 1), axis=1)
            with np.errstate(invalid="ignore"):
                regret[part] = lowest[:, min(1, cost.shape[1] - 1)] - lowest[:, 0]
        # By code, then by falling regret; lexsort is stable, so ties stay in order.
        order = np.lexsort((-regret, wanted))
        asked = np.bincount(wanted, minlength=len(room))
        place = np.arange(len(left)) - np.repeat(np.cumsum(asked) - asked, asked)
        accepted = order[place < room[wanted[order]]]
        found[left[accepted]] = wanted[accepted]
        room = room - np.bincount(wanted[accepted], minlength=len(room))
        left = np.delete(left, accepted)
