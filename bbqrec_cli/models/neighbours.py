"""A bounded number of other items per item, for models that count. U users, I items, n neighbours, B users of a batch,
T items of history.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import HISTORY, PAD
from bbqrec_cli.models.base import Wanted, top_items
from bbqrec_cli.records import Sequences

PAIRS = 1 << 24
"""Pairs of items that are counted at once, about 12 bytes each."""
SPARSE = 16
"""How many times as many items as neighbours of a history there must be, for a sort of these to take less time than a
row of all scores."""
LEAST = 1e-7
"""Share of the last item's weight below which an item of the history no longer counts, behind HISTORY items."""
SPARE = 4
"""Items with the highest shares that are looked at, times K."""


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
        in the order of the items' rows. What these items had before is gone."""
        self.rows[start : start + weights.shape[0]] = PAD
        self.weights[start : start + weights.shape[0]] = 0
        item = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        order = np.lexsort((weights.indices, -weights.data, item))
        rank = np.arange(len(order)) - weights.indptr[item]
        kept = rank < self.rows.shape[1]
        place = torch.from_numpy(start + item[kept]), torch.from_numpy(rank[kept].astype(np.int64))
        best = order[kept]
        self.rows[place] = torch.from_numpy(weights.indices[best].astype(np.int32)).to(self.rows.device)
        self.weights[place] = torch.from_numpy(weights.data[best].astype(np.float32)).to(self.weights.device)

    def top(
        self, batch: Batch, wanted: Wanted, decay: float, more: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The result of `Recommender.recommend` for the scores of `scores`, and rest · shares where there is more.

        In a large catalogue only the neighbours of the history and the items with the highest shares are looked at.
        Other items have at most the score of the last of these; a user whose K-th item is no better than that gets a
        row of all scores.

        Args:
            more: rest (B, 1) and shares (I,), none below 0.
        """

        def plain(users: Tensor) -> tuple[Tensor, Tensor]:
            scores = self.scores(Batch(batch.items[users], batch.targets[users]), decay)
            exclude = None if wanted.exclude is None else wanted.exclude[users]
            if more is not None:
                scores = scores + more[0][users] * more[1]
            return top_items(scores, replace(wanted, exclude=exclude))

        every = torch.arange(len(batch.items), device=batch.items.device)
        if not len(every) or counting(batch, decay) * self.rows.shape[1] * SPARSE > len(self.rows):
            return plain(every)
        leaders, others = every[:0], self.weights.new_zeros(len(every))
        if more is not None:
            count = SPARE * wanted.k + (0 if wanted.exclude is None else wanted.exclude.shape[1])
            first = top_items(more[1].unsqueeze(0), Wanted(k=count, allowed=wanted.allowed))[0][0]
            leaders = first[first != PAD]
            none_left = len(leaders) < count
            others = others - torch.inf if none_left else (more[0] * more[1][leaders[-1]]).squeeze(1)
        rows, scores = self.candidates(batch, decay, leaders)
        known, inside = rows < len(self.rows), rows.clamp(max=len(self.rows) - 1)
        if more is not None:
            scores = scores + more[0] * more[1][inside]
        if wanted.allowed is not None:
            known &= wanted.allowed[inside]
        scores = scores.masked_fill(~known, -torch.inf)
        if wanted.exclude is not None:
            at = torch.searchsorted(rows, wanted.exclude).clamp(max=rows.shape[1] - 1)
            here = (rows.gather(1, at) == wanted.exclude).nonzero(as_tuple=True)
            scores[here[0], at[here]] = -torch.inf
        places, best = top_items(scores, Wanted(k=wanted.k))
        found = rows.gather(1, places.clamp(min=0))
        if len(unsure := (~(best[:, -1] > others)).nonzero().squeeze(1)):
            found[unsure], best[unsure] = plain(unsure)
        return found, best

    def candidates(self, batch: Batch, decay: float, more: Tensor) -> tuple[Tensor, Tensor]:
        """The different neighbours of each history and the rows `more` (m,): their rows (B, J) int64, rising, filled
        with I, and their `scores` (B, J)."""
        shares = list(from_the_last(batch, decay))
        rows = [self.rows[items].masked_fill(share.unsqueeze(1) == 0, PAD).long() for items, share in shares]
        together = torch.cat([*rows, more.expand(len(batch.items), -1)], dim=1)
        ordered, order = together.masked_fill(together == PAD, len(self.rows)).sort(dim=1)
        place = (torch.diff(ordered, dim=1, prepend=ordered[:, :1]) != 0).cumsum(1)
        different = torch.full_like(ordered, len(self.rows)).scatter(1, place, ordered)
        places = torch.empty_like(order).scatter(1, order, place)
        scores = torch.zeros(different.shape, device=self.weights.device)
        count = self.rows.shape[1]
        for number, (items, share) in enumerate(shares):  # in the order of `scores`, for the same sums to the bit
            here = places[:, number * count : (number + 1) * count]
            scores.scatter_add_(1, here, self.weights[items] * share.unsqueeze(1))
        width = int(place[:, -1].max()) + 1
        return different[:, :width].contiguous(), scores[:, :width]

    def scores(self, batch: Batch, decay: float) -> Tensor:
        """Sum over the history of each item's weights, times decay^k for the item k places before the last. (B, I)."""
        scores = torch.zeros(len(batch.items), len(self.rows), device=self.weights.device)
        for items, share in from_the_last(batch, decay):
            # An item has a neighbour once, so that no two sums meet in one place: the order of sums is fixed on a GPU.
            scores.scatter_add_(1, self.rows[items].long().clamp(min=0), self.weights[items] * share.unsqueeze(1))
        return scores


def from_the_last(batch: Batch, decay: float) -> Iterator[tuple[Tensor, Tensor]]:
    """For k = 0 … `counting` - 1: the items (B,) k places before the last of each history, and decay^k (B,), 0 before
    the first item."""
    for back in range(counting(batch, decay)):
        place = batch.lengths - 1 - back
        items = batch.items.gather(1, place.clamp(min=0).unsqueeze(1)).squeeze(1).clamp(min=0)
        yield items, (place >= 0) * torch.tensor(decay**back, device=items.device)


def counting(batch: Batch, decay: float) -> int:
    """Items of the longest history that count."""
    longest = batch.items.shape[1]
    return longest if decay == 1 else min(longest, max(HISTORY, int(math.log(LEAST) / math.log(max(decay, LEAST)))))


def whole_weight(batch: Batch, decay: float) -> Tensor:
    """Σ decay^k over the items of each history, (B, 1); 1 without any."""
    weights = [weight for _, weight in from_the_last(batch, decay)]
    return torch.stack(weights).sum(0).clamp(min=1).unsqueeze(1)


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
