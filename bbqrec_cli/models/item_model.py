"""The base of models that score items by a product of a state with an item table.

B users, T items of history, P positions with a target, I items, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.base import Recommender, Wanted, top_products
from bbqrec_cli.models.item_features import ItemFeatures
from bbqrec_cli.models.layers import embedding
from bbqrec_cli.models.losses import item_losses
from bbqrec_cli.records import ItemData


class ItemModel(Recommender):
    """Owns the item table, the loss and `recommend`; a subclass gives `states`.

    Args:
        width: D, of the table and of the states.
        loss: 'ce', 'sampled', 'gbce', 'bce' or 'bpr' (`losses.py`).
        negatives: uniform negatives per position, for all losses but 'ce'.
        gbce_t: the calibration t of 'gbce'.
        history: T, at most.
        features: modalities that are joined to the table, or 'all'; () none.
    """

    per_item = ("table.weight",)

    def __init__(
        self, *, data: ItemData, width: int, loss: str, negatives: int, gbce_t: float, history: int,
        features: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.loss_name, self.negatives, self.gbce_t, self.history = loss, negatives, gbce_t, history
        self.table = embedding(len(data), width)
        self.features = ItemFeatures(data.features, features, width=width) if features else None
        self.reads = self.features.names if self.features else ()

    @abstractmethod
    def states(self, batch: Batch) -> Tensor:
        """States of the histories, (B, T, D). A position with a target must not see it."""

    def inputs(self, batch: Batch, *, scaled: bool = True, table: Tensor | None = None) -> Tensor:
        """Vectors of the histories' items, (B, T, D), or the rows of `table` (I, D) in their place.

        scaled: times √D, since as the table starts they are small.
        """
        rows = batch.items.clamp(min=0)
        vectors = self.table(rows) if table is None else table[rows]
        if self.features and table is None:
            vectors = self.features(vectors, batch.items)
        return vectors * self.table.embedding_dim**0.5 if scaled else vectors

    def items(self) -> Tensor:
        """The vectors (I, D) that states are multiplied with: those of `inputs`, unless a subclass makes others."""
        return self.features(self.table.weight) if self.features else self.table.weight

    def loss(self, batch: Batch) -> Tensor:
        """See `Recommender.loss`."""
        return self.loss_of(self.states(batch), self.items(), batch.targets)

    def loss_of(self, states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of the positions with a target: states (B, T, D), table (I, D), targets (B, T) -> ()."""
        asked = targets != PAD
        return item_losses(
            states[asked], table, targets[asked], loss=self.loss_name, negatives=self.negatives, gbce_t=self.gbce_t
        ).mean()

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Scores all items, in float32 (bfloat16 would tie neighbours); see `Recommender.recommend`."""
        last = batch.last(self.states(batch))
        with torch.autocast(last.device.type, enabled=False):
            return top_products(last.float(), self.items().float(), wanted)
