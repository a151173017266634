"""Recall@k and NDCG@k with one target per user (docs/protocol.md). B users, K recommendations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bbqrec_cli.seeds import numpy_generator


def rank_of_target(items: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each target (B,) in items (B, K), from 1; 0 where it is not among them. (B,) int64."""
    hit = items == targets[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Recall@k of each user, (B,) float32: 1 if the target is among the first k, else 0. ranks: `rank_of_target`'s."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float32)


def ndcg_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each user, (B,) float32: 1 / log2(1 + rank) if the target is among the first k, else 0 (the ideal DCG
    is 1). ranks: `rank_of_target`'s."""
    return np.where((ranks > 0) & (ranks <= k), 1 / np.log2(1 + np.maximum(ranks, 1)), 0).astype(np.float32)


def per_user_metrics(ranks: np.ndarray, ks: Iterable[int]) -> dict[str, np.ndarray]:
    """{'recall@5': values (B,), 'ndcg@5': …} for each k."""
    found: dict[str, np.ndarray] = {}
    for k in ks:
        found |= {f"recall@{k}": recall_at_k(ranks, k), f"ndcg@{k}": ndcg_at_k(ranks, k)}
    return found


def aggregate(ranks: np.ndarray, ks: Iterable[int]) -> dict[str, float]:
    """{'recall@5': mean over users, 'ndcg@5': …} for each k; 0 if there are no users."""
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in per_user_metrics(ranks, ks).items()}


def intervals(ranks: np.ndarray, ks: Iterable[int], *, seed: int) -> dict[str, tuple[float, float]]:
    """{'recall@5': (low, high), 'ndcg@5': …}: 95% bootstrap intervals of the means of `aggregate`."""
    return {name: bootstrap_interval(values, seed=seed) for name, values in per_user_metrics(ranks, ks).items()}


def bootstrap_interval(
    values: np.ndarray, *, seed: int, level: float = 0.95, samples: int = 1000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over users. values (B,); (0, 0) if there are no users.

    Per-user metrics have few distinct values, so a resample is a multinomial draw over these.
    """
    if not len(values):
        return 0.0, 0.0
    distinct, counts = np.unique(values, return_counts=True)
    drawn = numpy_generator(seed, "bootstrap").multinomial(len(values), counts / counts.sum(), size=samples)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
