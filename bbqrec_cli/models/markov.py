"""What follows the last items: a Markov chain. B users, T items of history, I items, n successors."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Untrained, Wanted
from bbqrec_cli.models.neighbours import Neighbours, from_the_last, parts, whole_weight
from bbqrec_cli.records import ItemData, Sequences


class Markov(Untrained):
    """A first-order Markov chain over items, smoothed by their popularity (a Dirichlet prior).

    P(j | i) = (c_ij + μ p_j) / (c_i + μ): c_ij counts how often j follows i, c_i is its sum over j, p_j the share of j
    among all interactions. The score of j is the sum over the history of P(j | i) · decay^k, for the item i k places
    before the last.

    Args:
        successors: n, the items j for which c_ij is kept, per item i; for all others it counts as 0.
        smoothing: μ.
        decay: of the weight of an item with its distance from the last; 0: the last item only, a plain Markov chain.
    """

    per_item = ("successors.rows", "successors.weights", "popularity", "remainder")
    popularity: Tensor
    remainder: Tensor

    def __init__(self, *, data: ItemData, successors: int, smoothing: float, decay: float) -> None:
        super().__init__()
        self.smoothing, self.decay = smoothing, decay
        self.successors = Neighbours(len(data), successors)
        self.register_buffer("popularity", torch.zeros(len(data)))
        self.register_buffer("remainder", torch.zeros(len(data)))

    def prepare(self, train: Sequences) -> None:
        """Count which item follows which."""
        items = len(self.popularity)
        at = np.flatnonzero(train.positions > 0)
        pairs = train.items[at - 1].astype(np.int64), train.items[at].astype(np.int64)
        counts = sparse.csr_matrix((np.ones(len(at)), pairs), shape=(items, items))
        counts.sum_duplicates()
        total = np.asarray(counts.sum(1)).ravel() + self.smoothing
        share = np.bincount(train.items, minlength=items) / max(1, len(train.items))
        self.popularity.copy_(torch.from_numpy(share))
        # Without smoothing, what nothing follows says as much as with the least of it.
        rest = np.divide(self.smoothing, total, out=np.ones(items), where=total > 0)
        self.remainder.copy_(torch.from_numpy(rest))
        counts.data /= np.repeat(total, np.diff(counts.indptr))
        for start, stop in parts(np.diff(counts.indptr)):
            self.successors.fill(start, counts[start:stop])

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """See `Recommender.recommend`."""
        return self.successors.top(batch, wanted, self.decay, (self._rest(batch), self.popularity))

    def probabilities(self, batch: Batch) -> Tensor:
        """P of all items, (B, I): the scores, divided by the sum of the weights; 0 without a history."""
        scores = self.successors.scores(batch, self.decay) + self._rest(batch) * self.popularity
        return scores / whole_weight(batch, self.decay)

    def _rest(self, batch: Batch) -> Tensor:
        """What is left for popularity, (B, 1)."""
        rest = torch.zeros(len(batch.items), 1, device=batch.items.device)
        for items, share in from_the_last(batch, self.decay):
            rest += (self.remainder[items] * share).unsqueeze(1)
        return rest
