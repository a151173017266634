"""What two representations of the same items share, measured by estimators that no tokenizer trains on.

n items, p and q widths of the representations, k neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bbqrec_cli.data.splits import HeldOut
from bbqrec_cli.records import Sequences
from bbqrec_cli.seeds import numpy_generator, seed_torch, torch_generator

PATIENCE = 15
"""Epochs without improvement before a critic's fit stops."""
BLOCK = 2048
"""Items whose similarities to all others are held in memory at once."""


@dataclass(frozen=True, kw_only=True)
class SharedInformation:
    """What two representations, such as z̄ and z, share, on items that the estimators were not fitted on.

    information: a lower bound of the mutual information in nats (Donsker–Varadhan, the bound of MINE); shuffled: the
    same with shuffled pairs, which should be about 0; explained: the share of the first one's variance that a ridge
    regression predicts from the second (R², at most 1, negative if it does worse than the mean).
    """

    information: float
    shuffled: float
    explained: float


def shared_information(first: np.ndarray, second: np.ndarray, *, seed: int) -> SharedInformation:
    """What two representations share. first (n, p), second (n, q): rows of the same items.

    60% of the items fit the estimators, 20% stop the fit, 20% are measured.
    """
    order = numpy_generator(seed, "alignment").permutation(len(first))
    parts = np.split(order, [int(0.6 * len(first)), int(0.8 * len(first))])
    broken = second[numpy_generator(seed, "alignment", "broken").permutation(len(second))]
    return SharedInformation(
        information=mine(first, second, parts, seed=seed), shuffled=mine(first, broken, parts, seed=seed),
        explained=ridge_explained(first, second, parts),
    )  # fmt: skip


class Critic(nn.Module):
    """T(x, y) = f(x) · g(y) with two networks: scores of all pairs at the cost of the rows."""

    def __init__(self, first: int, second: int, *, hidden: int = 256, width: int = 64) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(first, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, width))
        self.g = nn.Sequential(nn.Linear(second, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, width))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores (n, n): row x, column y. first (n, p), second (n, q)."""
        return self.f(first) @ self.g(second).T


def mine(
    first: np.ndarray, second: np.ndarray, parts: list[np.ndarray], *, seed: int, epochs: int = 60, batch: int = 256
) -> float:
    """Donsker–Varadhan's lower bound of the mutual information in nats (Belghazi et al. 2018), on parts[2].

    A critic is fitted on parts[0]; parts[1] chooses the epoch, against overfitting. With n items the bound cannot
    exceed about log n nats.
    """
    seed_torch(seed, "mine")
    x, y = _whitened(first, parts[0]), _whitened(second, parts[0])
    fit, stop, measured = (torch.from_numpy(part) for part in parts)
    critic = Critic(x.shape[1], y.shape[1])
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=1e-3)
    best, found, waited = 0.0, 0.0, 0
    for epoch in range(epochs):
        critic.train()
        order = fit[torch.randperm(len(fit), generator=torch_generator(seed, "mine", epoch))]
        for rows in order.split(batch):
            if len(rows) < 2:
                continue
            optimiser.zero_grad(set_to_none=True)
            (-_donsker_varadhan(critic(x[rows], y[rows]))).backward()
            optimiser.step()
        with torch.no_grad():
            critic.eval()
            chosen = float(_donsker_varadhan(critic(x[stop], y[stop])))
            if chosen > best:
                best, found, waited = chosen, float(_donsker_varadhan(critic(x[measured], y[measured]))), 0
        waited += 1
        if waited > PATIENCE:
            break
    return found


def _donsker_varadhan(scores: Tensor) -> Tensor:
    """E over pairs of T − log E over all others of e^T. scores (n, n)."""
    n = len(scores)
    others = scores.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    return scores.diagonal().mean() - (others.flatten().logsumexp(0) - math.log(n * (n - 1)))


def _whitened(values: np.ndarray, rows: np.ndarray) -> Tensor:
    """(n, p) float32, standardised per column by the mean and variance of `rows`; constant columns become 0."""
    mean, deviation = values[rows].mean(0), values[rows].std(0)
    scale = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-12), deviation, np.inf)
    return torch.from_numpy(((values - mean) / scale).astype(np.float32))


def ridge_explained(target: np.ndarray, given: np.ndarray, parts: list[np.ndarray]) -> float:
    """R² of predicting `target` (n, q) from `given` (n, p) by ridge regression, on parts[2].

    Parts[1] chooses the penalty.
    """
    x, y = _whitened(given, parts[0]).double().numpy(), _whitened(target, parts[0]).double().numpy()
    fit, stop, measured = parts
    gram, cross = x[fit].T @ x[fit], x[fit].T @ y[fit]

    def explained(weights: np.ndarray, rows: np.ndarray) -> float:
        error, total = np.square(y[rows] - x[rows] @ weights).sum(), np.square(y[rows] - y[rows].mean(0)).sum()
        return float(1 - error / total) if total > 0 else 0.0

    tried = [
        np.linalg.solve(gram + penalty * len(fit) * np.eye(x.shape[1]), cross) for penalty in 10.0 ** np.arange(-4, 2)
    ]
    return explained(max(tried, key=lambda weights: explained(weights, stop)), measured)


def nearest_items(vectors: np.ndarray, k: int) -> np.ndarray:
    """The k nearest other items of each item by cosine, nearest first. vectors (n, p) -> (n, k) int64."""
    table = normalize(torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)), dim=1)
    found = []
    for start in range(0, len(table), BLOCK):
        scores = table[start : start + BLOCK] @ table.T
        rows = torch.arange(len(scores))
        scores[rows, start + rows] = -torch.inf
        found.append(scores.topk(k, dim=1).indices)
    return torch.cat(found).numpy() if found else np.empty((0, k), dtype=np.int64)


def neighbour_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Mean share of an item's k neighbours in `first` (n, k) that are among its k in `second` (n, k)."""
    same = (first[:, :, None] == second[:, None, :]).any(axis=2)
    return float(same.mean()) if same.size else 0.0


def co_interaction_share(found: np.ndarray, sequences: Sequences) -> float:
    """Mean share of an item's neighbours (n, k) that some user interacted with as well, over items that share a user
    with another item."""
    from scipy.sparse import csr_array

    items = len(found)
    pairs = sequences.users, sequences.items
    interacted = csr_array((np.ones(len(sequences.items), np.float32), pairs), shape=(len(sequences), items))
    both = (interacted.T @ interacted).tocsr()
    both.setdiag(0)
    both.eliminate_zeros()
    rows = np.repeat(np.arange(items), found.shape[1])
    hit = np.asarray(both[rows, found.ravel()]).reshape(found.shape) > 0
    having = np.diff(both.indptr) > 0
    return float(hit[having].mean()) if having.any() else 0.0


def next_item_recall(found: np.ndarray, held: HeldOut) -> float:
    """Share of users whose held-out item is among the neighbours (n, k) of the last item of their history."""
    last = held.seen_items[held.seen_stop - 1]
    return float((found[last] == held.targets[:, None]).any(axis=1).mean()) if len(held.users) else 0.0
