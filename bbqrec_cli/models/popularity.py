"""The baseline that every model must beat: the most popular items, the same for all users."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Phase, Recommender, Wanted, top_items
from bbqrec_cli.records import ItemData, Sequences


class Popularity(Recommender):
    """Scores an item by its number of training interactions."""

    counts: Tensor

    def __init__(self, *, data: ItemData) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(len(data)))

    def phases(self, train: Sequences, fit: Any, *, seed: int) -> tuple[Phase, ...]:
        """(): nothing is trained by gradient."""
        return ()

    def prepare(self, train: Sequences) -> None:
        """Count the training interactions of every item."""
        rows = torch.from_numpy(train.items.astype("int64"))
        self.counts.copy_(torch.bincount(rows, minlength=len(self.counts)))

    def loss(self, batch: Batch) -> Tensor:
        """Zero: nothing is learnt by gradient."""
        return torch.zeros((), device=batch.items.device)

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """The same items for every history; see `Recommender.recommend`."""
        return top_items(self.counts.expand(len(batch.items), -1), wanted)
