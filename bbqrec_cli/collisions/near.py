"""Near-collisions: items whose quantised vectors lie close together. I items, M signals, D width of a code.

Distances are relative to the root mean square distance between two random items, √(2 Σ σ²) over the columns of the
vectors, so that one bound means the same for every tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bbqrec_cli.errors import import_faiss
from bbqrec_cli.grouping import group_codes
from bbqrec_cli.progress import SILENT, Progress

HITS = 1 << 24
"""Neighbours that one search may find, at most; 12 bytes each."""
BLOCK = (32, 4096)
"""Query items per search, at least and at most."""


@dataclass(frozen=True, kw_only=True)
class NearPair:
    """Rows of two items, and their relative distance."""

    first: int
    second: int
    distance: float


@dataclass(frozen=True, kw_only=True)
class Near:
    """near: the bound, relative to `scale`, the root mean square distance between two random items.

    searched: number of query items; same_id, other_id: how many of them have a neighbour with the same whole ID, and
    with another one; neighbours: mean number of neighbours with another ID; differ: signal -> for each level, how many
    of these neighbours have another code; closest: the closest pairs.
    """

    near: float
    scale: float
    searched: int
    same_id: int
    other_id: int
    neighbours: float
    differ: dict[str, list[int]]
    closest: list[NearPair]


def near_items(
    vectors: np.ndarray, codes: np.ndarray, signals: tuple[str, ...], *,
    near: float, rows: np.ndarray, pairs: int, progress: Progress = SILENT,
) -> Near:  # fmt: skip
    """Near-collisions of the query items `rows`.

    Args:
        vectors: (I, M·D) float32, the quantised vectors.
        codes: (I, L, M).
        near: the bound, relative to the root mean square distance between two items.
        rows: (Q,) the query items.
        pairs: number of closest pairs with different IDs to keep.

    Raises:
        MissingPackageError: faiss is not installed.
    """
    faiss = import_faiss()
    centred = np.ascontiguousarray(vectors - vectors.mean(axis=0), dtype=np.float32)
    scale = float(np.sqrt(2 * centred.var(axis=0, dtype=np.float64).sum()))
    # faiss computes |x|² + |y|² - 2xy in float32, of which little is left where x and y are alike.
    slack = 1e-5 * float((centred**2).sum(axis=1).max(initial=0))
    index = faiss.IndexFlatL2(centred.shape[1])
    index.add(centred)
    found = _Found(group_codes(codes)[0], codes, pairs)
    block = int(np.clip(HITS // max(1, len(vectors)), *BLOCK))
    with progress.task("near items", len(rows)) as task:
        for start in range(0, len(rows), block):
            asked = rows[start : start + block]
            ends, _, items = index.range_search(centred[asked], float((near * scale) ** 2 + slack))
            found.add(*within(centred, np.repeat(asked, np.diff(ends.astype(np.int64))), items, (near * scale) ** 2))
            task.advance(len(asked))
    return Near(
        near=near, scale=scale, searched=len(rows), same_id=found.same_id, other_id=found.other_id,
        neighbours=found.hits / max(1, len(rows)), closest=found.closest(scale),
        differ={name: found.differ[:, number].tolist() for number, name in enumerate(signals)},
    )  # fmt: skip


def within(
    vectors: np.ndarray, one: np.ndarray, other: np.ndarray, bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of rows one, other (n,) of which the squared distance is below `bound`, and these distances."""
    parts = [slice(start, start + _PAIRS) for start in range(0, len(one), _PAIRS)]
    squares = [((vectors[one[part]].astype(np.float64) - vectors[other[part]]) ** 2).sum(axis=1) for part in parts]
    distances = np.concatenate(squares) if squares else np.zeros(0)
    inside = distances < bound
    return one[inside], other[inside], distances[inside]


_PAIRS = 1 << 14
"""Pairs of vectors whose distances are computed at once."""


class _Found:
    """Counts over the neighbours found so far, and the closest pairs."""

    def __init__(self, token: np.ndarray, codes: np.ndarray, pairs: int) -> None:
        self.token, self.codes, self.pairs = token, codes, pairs
        self.same_id = self.other_id = self.hits = 0
        self.differ = np.zeros(codes.shape[1:], dtype=np.int64)
        self._kept: Any = np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def add(self, asked: np.ndarray, items: np.ndarray, distances: np.ndarray) -> None:
        """Add neighbours: items (H,), of the query items asked (H,), at squared distances (H,)."""
        same = self.token[asked] == self.token[items]
        self.same_id += len(np.unique(asked[same & (asked != items)]))
        one, other = asked[~same], items[~same]
        self.other_id += len(np.unique(one))
        self.hits += len(one)
        for start in range(0, len(one), 1 << 20):
            part = slice(start, start + (1 << 20))
            self.differ += (self.codes[one[part]] != self.codes[other[part]]).sum(axis=0)
        self._keep(np.minimum(one, other), np.maximum(one, other), distances[~same])

    def _keep(self, one: np.ndarray, other: np.ndarray, distances: np.ndarray) -> None:
        """Keep the closest of these and the earlier pairs; a pair found from both items counts once."""
        old, first, second = self._kept
        far, first, second = np.append(old, distances), np.append(first, one), np.append(second, other)
        order = np.lexsort((far, second, first))
        fresh = np.ones(len(order), dtype=bool)
        fresh[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
        order = order[fresh]
        order = order[np.lexsort((second[order], first[order], far[order]))][: self.pairs]
        self._kept = far[order], first[order], second[order]

    def closest(self, scale: float) -> list[NearPair]:
        """The closest pairs with different IDs."""
        return [
            NearPair(first=int(first), second=int(second), distance=float(np.sqrt(max(0.0, far))) / (scale or 1.0))
            for far, first, second in zip(*self._kept, strict=True)
        ]
