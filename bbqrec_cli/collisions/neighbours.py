"""What the IDs keep of a feature: its nearest neighbours among the quantised vectors, and the similarity of items with
the same prefix. I items, d width of a feature, L levels, M signals, D width of a code, k neighbours, Q query items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bbqrec_cli.grouping import group_codes
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Feature

CELLS = 1 << 24
"""Similarities held in memory at once."""
TIE = 1e-6
"""Cosines that differ by no more than this count as equal."""


@dataclass(frozen=True, kw_only=True)
class NeighbourRecall:
    """recall: the share of an item's k nearest neighbours by a feature (cosine) that are among its k nearest by
    `vectors`: 'all', the whole quantised vector, or the part of one signal; chance: the recall of a random order;
    asked: number of query items."""

    feature: str
    vectors: str
    k: int
    asked: int
    recall: float
    chance: float


def neighbour_recall(
    features: Mapping[str, Feature], vectors: np.ndarray, signals: tuple[str, ...], *,
    k: int, rows: np.ndarray, progress: Progress = SILENT,
) -> list[NeighbourRecall]:  # fmt: skip
    """For every feature, the recall by the whole vectors and, if a signal has the feature's name, by its part.

    Args:
        features: name -> (I, d); only the items that have it are compared.
        vectors: (I, M·D).
        signals: M names.
        k: neighbours; rows: (Q,) the query items.
    """
    found = []
    for name, feature in features.items():
        here = np.flatnonzero(feature.present)
        asked = np.flatnonzero(np.isin(here, rows))
        k_here = min(k, len(here) - 1)
        if k_here < 1 or not len(asked):
            continue
        parts = {"all": vectors[here]}
        if name in signals and len(signals) > 1:
            width = vectors.shape[1] // len(signals)
            parts[name] = vectors[here, signals.index(name) * width :][:, :width]
        for part, values in parts.items():
            recall = _recall(unit(feature.values[here]), unit(values), k=k_here, rows=asked, progress=progress)
            found.append(
                NeighbourRecall(
                    feature=name, vectors=part, k=k_here, asked=len(asked), recall=recall,
                    chance=k_here / (len(here) - 1),
                )
            )  # fmt: skip
    return found


def unit(values: np.ndarray) -> np.ndarray:
    """Rows (I, d) scaled to unit length; zero rows stay."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1), dtype=np.float32)


def _recall(one: np.ndarray, other: np.ndarray, *, k: int, rows: np.ndarray, progress: Progress) -> float:
    """Mean over `rows` of the share of the k nearest rows of `one` that are among the k nearest of `other`."""
    block, total = max(1, CELLS // len(one)), 0.0
    with progress.task("neighbours", len(rows)) as task:
        for start in range(0, len(rows), block):
            asked = rows[start : start + block]
            total += float((nearest_mask(one, asked, k) * nearest_mask(other, asked, k)).sum(dtype=np.float64)) / k
            task.advance(len(asked))
    return total / len(rows)


def nearest_mask(values: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """(Q, I) float32: 1 for the k nearest neighbours of each of `rows`, itself excluded. values (I, d) of unit length.

    Neighbours that tie for the last places share them, so that weights sum to k per row and the items' order does not
    matter.
    """
    similar = values[rows] @ values.T
    similar[np.arange(len(rows)), rows] = -np.inf
    last = np.partition(similar, -k, axis=1)[:, [-k]]
    above, tied = similar > last + TIE, np.abs(similar - last) <= TIE
    share = (k - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    return (above + tied * share).astype(np.float32)


def cosine_by_depth(codes: np.ndarray, feature: Feature) -> list[float | None]:
    """Mean cosine of a feature over pairs of items that share the first 0, 1, …, L levels; None without such pairs.

    The cosines of all pairs of n unit vectors sum to (|Σ x|² - n) / 2.

    Args:
        codes: (I, L, M).
        feature: (I, d); items without it are left out.
    """
    values, codes = unit(feature.values[feature.present]), codes[feature.present]
    found: list[float | None] = []
    for depth in range(codes.shape[1] + 1):
        token, sharing = group_codes(codes[:, :depth])
        rows = np.flatnonzero(sharing[token] > 1)
        if not len(rows):
            found.append(None)
            continue
        rows = rows[np.argsort(token[rows], kind="stable")]
        sizes = sharing[sharing > 1]
        sums = np.add.reduceat(values[rows], np.cumsum(sizes) - sizes, axis=0, dtype=np.float64)
        lengths = np.bincount(token[rows], np.square(values[rows]).sum(axis=1))[np.flatnonzero(sharing > 1)]
        found.append(float((np.square(sums).sum() - lengths.sum()) / (sizes * (sizes - 1)).sum()))
    return found
