"""A bounded number of other items per item, for models that count. U users, I items, n neighbours, B users of a batch,
T items of history.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.records import Sequences

PAIRS = 1 << 24
"""Pairs of items that are counted at once, about 12 bytes each."""


class Neighbours(nn.Module):
    """The n items with the highest weights for each item; memory grows with I · n, not with I².

    rows (I, n) int32, PAD where there are fewer; weights (I, n) float32, highest first, 0 there.
    """

    rows: Tensor
    weights: Tensor

    def __init__(self, items: int, count: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.full((items, count), PAD, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(items, count))

    def fill(self, start: int, weights: sparse.csr_matrix) -> None:
        """Keep the best of each row of `weights` (m, I), the weights of the items `start` … `start` + m; equal weights
        in the order of the items' rows."""
        item = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        order = np.lexsort((weights.indices, -weights.data, item))
        rank = np.arange(len(order)) - weights.indptr[item]
        kept = rank < self.rows.shape[1]
        place = torch.from_numpy(start + item[kept]), torch.from_numpy(rank[kept].astype(np.int64))
        best = order[kept]
        self.rows[place] = torch.from_numpy(weights.indices[best].astype(np.int32)).to(self.rows.device)
        self.weights[place] = torch.from_numpy(weights.data[best].astype(np.float32)).to(self.weights.device)

    def scores(self, batch: Batch, decay: float) -> Tensor:
        """Sum over the history of each item's weights, times decay^k for the item k places before the last. (B, I)."""
        scores = torch.zeros(len(batch.items), len(self.rows), device=self.weights.device)
        for items, share in from_the_last(batch, decay):
            # An item has a neighbour once, so that no two sums meet in one place: the order of sums is fixed on a GPU.
            scores.scatter_add_(1, self.rows[items].long().clamp(min=0), self.weights[items] * share.unsqueeze(1))
        return scores


def from_the_last(batch: Batch, decay: float) -> Iterator[tuple[Tensor, Tensor]]:
    """For k = 0 … T - 1: the items (B,) k places before the last of each history, and decay^k (B,), 0 before the first
    item."""
    for back in range(batch.items.shape[1]):
        place = batch.lengths - 1 - back
        items = batch.items.gather(1, place.clamp(min=0).unsqueeze(1)).squeeze(1).clamp(min=0)
        yield items, (place >= 0) * torch.tensor(decay**back, device=items.device)


def users_by_items(train: Sequences, items: int) -> sparse.csr_matrix:
    """1 for each user and item that interacted, however often: (U, I) float32."""
    ones = np.ones(len(train.items), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, train.items.astype(np.int64), train.indptr), shape=(len(train), items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def parts(pairs: np.ndarray, limit: int = PAIRS) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive rows that have at most `limit` of `pairs` (I,) together, one row at least."""
    total, start = np.cumsum(pairs), 0
    while start < len(pairs):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + limit, side="right")))
        yield start, stop
        start = stop
