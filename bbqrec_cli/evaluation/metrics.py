"""Recall@k, NDCG@k and MRR@k with one target per user, and figures of whole lists (docs/protocol.md).

B users, K recommendations, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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


def mrr_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Reciprocal rank of each user's target, (B,) float32: 1 / rank if it is among the first k, else 0. ranks:
    `rank_of_target`'s."""
    return np.where((ranks > 0) & (ranks <= k), 1 / np.maximum(ranks, 1), 0).astype(np.float32)


METRICS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "recall": recall_at_k, "ndcg": ndcg_at_k, "mrr": mrr_at_k
}  # fmt: skip
"""Name -> function of ranks (B,) and k. With one target per user, Recall@k is the hit rate."""


def per_user(ranks: np.ndarray, name: str) -> np.ndarray:
    """Each user's value of a metric such as 'recall@5', (B,) float32."""
    which, k = name.split("@")
    return METRICS[which](ranks, int(k))


def metric_names(ks: Iterable[int], which: Iterable[str] = ("recall", "ndcg")) -> list[str]:
    """['recall@5', 'ndcg@5', …], k by k."""
    return [f"{each}@{k}" for k in ks for each in which]


def aggregate(ranks: np.ndarray, ks: Iterable[int], which: Sequence[str] = ("recall", "ndcg")) -> dict[str, float]:
    """{'recall@5': mean over targets, 'ndcg@5': …} for each k; 0 if there are none."""
    names = metric_names(ks, which)
    return {name: float(per_user(ranks, name).mean(dtype=np.float64)) if len(ranks) else 0.0 for name in names}


def intervals(
    ranks: np.ndarray, ks: Iterable[int], *, seed: int, which: Sequence[str] = ("recall", "ndcg"),
    users: Sequence[str] | None = None,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """{'recall@5': (low, high), 'ndcg@5': …}: 95% bootstrap intervals of the means of `aggregate`. users: as below."""
    names = metric_names(ks, which)
    return {name: bootstrap_interval(per_user(ranks, name), seed=seed, users=users) for name in names}


def list_figures(shown: Mapping[int, np.ndarray], interactions: np.ndarray) -> dict[str, float]:
    """What is recommended at all: {'coverage@10': …, 'popularity@10': …} for each k.

    Coverage: the share of the catalogue's items that are among somebody's first k. Popularity: the mean number of
    training interactions of what is recommended (ARP, Yin et al., VLDB 2012).

    Args:
        shown: k -> times (I,) that each item is recommended.
        interactions: (I,) of training.
    """
    found = {}
    for k, times in shown.items():
        found[f"coverage@{k}"] = float((times > 0).mean())
        found[f"popularity@{k}"] = float(times @ interactions / max(1, times.sum()))
    return found


def slices(ranks: np.ndarray, by: np.ndarray, edges: Sequence[int], ks: Iterable[int]) -> list[dict[str, Any]]:
    """The metrics of `aggregate` over users in ranges of a number, with all of METRICS; ranges without users left out.

    Args:
        by: (B,) the number.
        edges: the last number of each range but the open one at the end.

    Returns:
        per range 'from', 'to' (None: open), 'users', 'recall@5', ….
    """
    which, found = np.searchsorted(edges, by), []
    for number in np.unique(which):
        own = which == number
        ends = (edges[number - 1] + 1 if number else 0, edges[number] if number < len(edges) else None)
        row: dict[str, Any] = {"from": ends[0], "to": ends[1], "users": int(own.sum())}
        found.append(row | aggregate(ranks[own], ks, tuple(METRICS)))
    return found


def bootstrap_interval(
    values: np.ndarray, *, seed: int, level: float = 0.95, samples: int = 1000, users: Sequence[str] | None = None
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean. values (B,); (0, 0) if there are none.

    Users are drawn, each with all of its values, since those of one user are not independent. They have few distinct
    sums, so a resample is a multinomial draw over these.

    Args:
        users: (B,), whose value each one is; None: one value per user.
    """
    if not len(values):
        return 0.0, 0.0
    _, who = np.unique(np.arange(len(values)) if users is None else np.asarray(users), return_inverse=True)
    of_users = np.stack([np.bincount(who, values), np.bincount(who)], axis=1)
    distinct, counts = np.unique(of_users, axis=0, return_counts=True)
    drawn = numpy_generator(seed, "bootstrap").multinomial(counts.sum(), counts / counts.sum(), size=samples)
    sums, numbers = (drawn @ distinct).T
    means = sums / numbers
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
