"""EASE: a linear model of every item by all others, in closed form. B users, T items of history, U users, I items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Untrained, Wanted, top_items
from bbqrec_cli.models.neighbours import users_by_items
from bbqrec_cli.records import ItemData, Sequences

MOST_ITEMS = 25_000
"""Beyond it, the table, in memory and in the model file, takes more than 2.5 GB, twice that while it is computed, and
the time grows with the third power."""


class EASE(Untrained):
    """Steck (WWW 2019). The history counts as a set: neither order nor repetition matters.

    Args:
        l2: λ of equation 1.

    Raises:
        DataError: there are more than MOST_ITEMS items.
    """

    table: Tensor

    def __init__(self, *, data: ItemData, l2: float) -> None:
        super().__init__()
        if len(data) > MOST_ITEMS:
            raise DataError(
                f"the model ease needs a table of {len(data):,} × {len(data):,} items, "
                f"{4e-9 * len(data) ** 2:.0f} GB; it takes at most {MOST_ITEMS:,} items",
                "item-knn keeps a bounded number of neighbours per item",
            )
        self.l2 = l2
        self.register_buffer("table", torch.zeros(len(data), len(data)))

    def prepare(self, train: Sequences) -> None:
        """Equation 8: with P = (XᵀX + λI)⁻¹, B_ij = -P_ij / P_jj for i ≠ j, and 0 for i = j."""
        users = users_by_items(train, len(self.table))
        # In place, to hold two tables at most.
        gram = torch.from_numpy((users.T @ users).toarray()).to(self.table.device)
        gram.diagonal().add_(self.l2)
        try:
            torch.linalg.cholesky(gram, out=gram)
        except torch.linalg.LinAlgError:
            raise DataError(f"ease: --l2 {self.l2:g} is too small for these data", "a larger --l2") from None
        inverse = torch.cholesky_inverse(gram, out=self.table)
        inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0)

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """See `Recommender.recommend`."""
        items, _ = batch.items.sort(dim=1)
        repeated = torch.diff(items, dim=1, prepend=items[:, :1] - 1) == 0
        first = ((items != PAD) & ~repeated).to(self.table.dtype)
        scores = embedding_bag(items.clamp(min=0), self.table, mode="sum", per_sample_weights=first)
        return top_items(scores, wanted)
