"""SR-GNN, a gated graph network over each prefix of the history. B users, T items of history, D width."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.session_graph import SessionGraphEncoder


class SRGNN(ItemModel):
    """Wu et al. (AAAI 2019), with a state at every position: its graph holds the items up to it only.

    Args:
        layers: steps of message passing.
        of_base: those of `ItemModel`.
    """

    def __init__(self, *, width: int, layers: int, dropout: float, **of_base: Any) -> None:
        super().__init__(width=width, **of_base)
        self.encoder = SessionGraphEncoder(width, steps=layers, dropout=dropout)

    def states(self, batch: Batch) -> Tensor:
        """See `ItemModel.states`."""
        return self.encoder(self.inputs(batch), batch.items)
