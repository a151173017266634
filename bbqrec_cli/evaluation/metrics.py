"""Recall@k and NDCG@k with one target a user (docs/protocol.md). B users, K recommendations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bbqrec_cli.seeds import numpy_generator


def rank_of_target(items: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each target (B,) in items (B, K), from 1; 0 where it is not among them. (B,) int64."""
    hit = items == targets[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k, (B,) float32. ranks as from `rank_of_target`."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float32)


def ndcg_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(1 + rank) where the target is among the first k, else 0 (the ideal gain is 1), (B,) float32."""
    return np.where((ranks > 0) & (ranks <= k), 1 / np.log2(1 + np.maximum(ranks, 1)), 0).astype(np.float32)


def per_user_metrics(ranks: np.ndarray, ks: Iterable[int]) -> dict[str, np.ndarray]:
    """{'recall@5': every user's (B,), 'ndcg@5': …} for each k."""
    found: dict[str, np.ndarray] = {}
    for k in ks:
        found |= {f"recall@{k}": recall_at_k(ranks, k), f"ndcg@{k}": ndcg_at_k(ranks, k)}
    return found


def aggregate(ranks: np.ndarray, ks: Iterable[int]) -> dict[str, float]:
    """{'recall@5': mean over users, 'ndcg@5': …} for each k; 0 without users."""
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in per_user_metrics(ranks, ks).items()}


def intervals(ranks: np.ndarray, ks: Iterable[int], *, seed: int) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of the same means."""
    return {name: bootstrap_interval(values, seed=seed) for name, values in per_user_metrics(ranks, ks).items()}


def bootstrap_interval(
    values: np.ndarray, *, seed: int, level: float = 0.95, samples: int = 1000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over users. values (U,); (0, 0) without users.

    Per-user metrics take few distinct values, so a resample is a multinomial draw over those: exact and small.
    """
    if not len(values):
        return 0.0, 0.0
    distinct, counts = np.unique(values, return_counts=True)
    drawn = numpy_generator(seed, "bootstrap").multinomial(len(values), counts / counts.sum(), size=samples)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
