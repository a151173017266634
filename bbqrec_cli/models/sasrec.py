"""SASRec; with a softmax over all items it is a strong baseline. B users, T items of history, D width."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import CausalEncoder


class SASRec(ItemModel):
    """Kang and McAuley (ICDM 2018), pre-norm, output tied to the item table.

    Args:
        of_base: those of `ItemModel`.
    """

    def __init__(self, *, width: int, layers: int, heads: int, dropout: float, history: int, **of_base: Any) -> None:
        super().__init__(width=width, history=history, **of_base)
        self.encoder = CausalEncoder(width, layers=layers, heads=heads, dropout=dropout, history=history, inner=width)

    def states(self, batch: Batch) -> Tensor:
        """See `ItemModel.states`."""
        return self.encoder(self.inputs(batch))
