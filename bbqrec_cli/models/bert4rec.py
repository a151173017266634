"""BERT4Rec: a bidirectional transformer that is trained to fill in masked items.

B users, T items of history, P masked positions, I items, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch, ClozeBatches
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.base import Phase, Recommender, Wanted, top_products
from bbqrec_cli.models.layers import INIT_STD, BidirectionalEncoder, embedding
from bbqrec_cli.models.softmax import catalogue_cross_entropy
from bbqrec_cli.records import ItemData, Sequences


class BERT4Rec(Recommender):
    """Sun et al. (CIKM 2019). In a batch, I stands for a masked item.

    The model sees at most `history` items and one mask: windows have `history` + 1 items in training, and when
    recommending the mask follows a user's last `history` items.
    """

    per_item = ("table.weight", "bias")

    def __init__(
        self, *, data: ItemData, width: int, layers: int, heads: int, dropout: float, history: int,
        encoder: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.history = history
        self.table = embedding(len(data), width)
        self.masked = nn.Parameter(torch.randn(width) * INIT_STD)
        self.encoder = encoder or BidirectionalEncoder(
            width, layers=layers, heads=heads, dropout=dropout, length=history + 1
        )
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(len(data)))

    def phases(self, train: Sequences, fit: Any, *, seed: int) -> tuple[Phase, ...]:
        """One phase, on masked items."""
        batches = ClozeBatches(
            train, batch_size=fit.batch_size, seed=seed, mask=len(self.bias), history=self.history,
            share=fit.mask_share, last=fit.last_only,
        )  # fmt: skip
        return (Phase(name="train", epochs=fit.epochs, batches=batches, loss=self.loss),)

    def states(self, batch: Batch) -> Tensor:
        """States of the items and masks, (B, T, D)."""
        return self.encoder(self.inputs(batch.items), batch.mask)

    def inputs(self, items: Tensor) -> Tensor:
        """Embeddings of items and masks, (B, T) -> (B, T, D)."""
        count = len(self.table.weight)
        return torch.where((items == count).unsqueeze(2), self.masked, self.table(items.clamp(0, count - 1)))

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the masked items, over the whole catalogue (section 3.5)."""
        asked = batch.targets != PAD
        states = self.transform(self.states(batch)[asked])
        return catalogue_cross_entropy(states, self.table.weight, batch.targets[asked], self.bias).mean()

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Scores all items in a mask's place after the history; see `Recommender.recommend`."""
        users = torch.arange(len(batch.items), device=batch.items.device)
        items = nn.functional.pad(batch.items, (0, 1), value=PAD)
        items[users, batch.lengths] = len(self.bias)
        last = self.states(Batch(items, items))[users, batch.lengths]
        with torch.autocast(last.device.type, enabled=False):
            return top_products(self.transform(last.float()), self.table.weight, wanted, bias=self.bias)
