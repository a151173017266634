"""Nearest items by the users whom they share. B users, T items of history, U users, I items, n neighbours."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Untrained, Wanted
from bbqrec_cli.models.neighbours import Neighbours, parts, users_by_items
from bbqrec_cli.records import ItemData, Sequences


class ItemKNN(Untrained):
    """Item-based nearest neighbours (Sarwar et al., WWW 2001), with the cosine of the items' sets of users.

    The score of an item j is the sum over the history of s(i, j) · decay^k, for the item i k places before the last.

    Args:
        neighbours: n, the items j for which s(i, j) is kept, per item i.
        shrinkage: added to the cosine's denominator, so that pairs with few users count less.
        decay: of the weight of an item with its distance from the last; 1: all the same, 0: the last item only.
    """

    def __init__(self, *, data: ItemData, neighbours: int, shrinkage: float, decay: float) -> None:
        super().__init__()
        self.shrinkage, self.decay = shrinkage, decay
        self.neighbours = Neighbours(len(data), neighbours)

    def prepare(self, train: Sequences) -> None:
        """Compute s(i, j) = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrinkage), i ≠ j, for a part of the items at a time."""
        of_users = users_by_items(train, len(self.neighbours.rows))
        of_items = of_users.T.tocsr()
        norms = np.sqrt(np.diff(of_items.indptr))
        # At most so many items share a user with each.
        pairs = of_items @ np.diff(of_users.indptr)
        for start, stop in parts(pairs):
            shared = (of_items[start:stop] @ of_users).tocoo()
            item = shared.row + start
            shared.data /= norms[item] * norms[shared.col] + self.shrinkage
            other = item != shared.col
            kept = (shared.data[other], (shared.row[other], shared.col[other]))
            self.neighbours.fill(start, sparse.csr_matrix(kept, shape=shared.shape))

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """See `Recommender.recommend`."""
        return self.neighbours.top(batch, wanted, self.decay)
