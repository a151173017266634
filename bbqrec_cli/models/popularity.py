"""The floor under every number: what was taken most, for everybody."""

from __future__ import annotations

import torch
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Recommender, Wanted, top_items
from bbqrec_cli.records import Codes, Sequences


class Popularity(Recommender):
    """Scores an item by its interactions in the training part."""

    trained_on = "nothing"
    counts: Tensor

    def __init__(self, *, items: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(items))

    def prepare(self, train: Sequences, codes: Codes | None) -> None:
        """Count."""
        rows = torch.from_numpy(train.items.astype("int64"))
        self.counts.copy_(torch.bincount(rows, minlength=len(self.counts)))

    def loss(self, batch: Batch) -> Tensor:
        """Nothing to learn."""
        return torch.zeros((), device=batch.items.device)

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """The same for every history."""
        return top_items(self.counts.expand(len(batch.items), -1), wanted)
