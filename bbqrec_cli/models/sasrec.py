"""SASRec; with a softmax over all items it is a strong baseline. B users, T items of history, I items, D width."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import CausalEncoder, Dropout


class SASRec(ItemModel):
    """Kang and McAuley (ICDM 2018), output tied to the item table.

    Args:
        inner: inner width of the feed-forward layers; 0: D.
        norm: 'pre' or 'query' (`QueryNormLayer`), with item vectors times √D; or 'post', as in RecBole: layer norms
            after the sums, the first of item vectors and positions as they are.
        item_dropout: of the item vectors, drawn once a step for histories, targets and negatives alike, as in RecTools.
        of_base: those of `ItemModel`.
    """

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        history: int,
        inner: int,
        norm: str,
        item_dropout: float = 0.0,
        **of_base: Any,
    ) -> None:
        super().__init__(width=width, history=history, **of_base)
        self.post = norm == "post"
        self.item_dropout = Dropout(item_dropout)
        self.encoder = CausalEncoder(
            width,
            layers=layers,
            heads=heads,
            dropout=dropout,
            history=history,
            inner=inner or width,
            post_norm=self.post,
            query_norm=norm == "query",
        )

    def states(self, batch: Batch, table: Tensor | None = None) -> Tensor:
        """See `ItemModel.states`. table: as for `inputs`."""
        return self.encoder(self.inputs(batch, scaled=not self.post, table=table))

    def loss(self, batch: Batch) -> Tensor:
        """See `Recommender.loss`."""
        if not self.item_dropout.threshold:
            return super().loss(batch)
        table = self.item_dropout(self.items())
        return self.loss_of(self.states(batch, table), table, batch.targets)
