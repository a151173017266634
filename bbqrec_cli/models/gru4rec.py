"""GRU4Rec, a gated recurrent network over items. B users, T items of history, H hidden width, D width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import Dropout


class GRU4Rec(ItemModel):
    """Hidasi et al. (ICLR 2016), as RecBole has it: dropout of item vectors, GRU layers without biases, a linear layer.

    The paper's network reads one-hot items and trains on session-parallel batches with the batch's negatives. Here
    items have vectors, which states are scored against, and whole histories are trained on.

    Args:
        hidden: H.
        layers: those of the GRU.
        of_base: those of `ItemModel`.
    """

    def __init__(self, *, width: int, hidden: int, layers: int, dropout: float, **of_base: Any) -> None:
        super().__init__(width=width, **of_base)
        self.dropout = Dropout(dropout)
        self.gru = nn.GRU(width, hidden, num_layers=layers, bias=False, batch_first=True)
        self.dense = nn.Linear(hidden, width)

    def states(self, batch: Batch) -> Tensor:
        """See `ItemModel.states`. Padding is on the right, so that no item comes after it."""
        x = self.dropout(self.inputs(batch))
        if x.device.type != "cuda":
            return self.dense(self.gru(x)[0])
        with torch.autocast("cuda", enabled=False):  # which computes GRUs in float16, whatever was asked for
            hidden = self.gru(x.float())[0]
        return self.dense(hidden)
