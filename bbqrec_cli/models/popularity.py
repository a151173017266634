"""The baseline that every model must beat: the most popular items, the same for all users."""

from __future__ import annotations

import torch
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Untrained, Wanted, top_items
from bbqrec_cli.records import ItemData, Sequences


class Popularity(Untrained):
    """Scores an item by its number of training interactions."""

    counts: Tensor

    def __init__(self, *, data: ItemData) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(len(data)))

    def prepare(self, train: Sequences) -> None:
        """Count the training interactions of every item."""
        rows = torch.from_numpy(train.items.astype("int64"))
        self.counts.copy_(torch.bincount(rows, minlength=len(self.counts)))

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """The same items for every history; see `Recommender.recommend`."""
        return top_items(self.counts.expand(len(batch.items), -1), wanted)
