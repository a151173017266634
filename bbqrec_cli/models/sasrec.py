"""SASRec; with a softmax over all items it is a strong baseline. B users, T items of history, D width."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import CausalEncoder


class SASRec(ItemModel):
    """Kang and McAuley (ICDM 2018), output tied to the item table.

    Args:
        inner: inner width of the feed-forward layers; 0: D.
        norm: 'pre', with item vectors times √D; or 'post', as in RecBole: layer norms after the sums, the first of item
            vectors and positions as they are.
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
        **of_base: Any,
    ) -> None:
        super().__init__(width=width, history=history, **of_base)
        self.post = norm == "post"
        self.encoder = CausalEncoder(
            width, layers=layers, heads=heads, dropout=dropout, history=history, inner=inner or width, post=self.post
        )

    def states(self, batch: Batch) -> Tensor:
        """See `ItemModel.states`."""
        return self.encoder(self.vectors(batch) if self.post else self.inputs(batch))
