"""SASRec with a softmax over all items, which makes it a strong baseline.

B users, T items of history, P positions with a target, I items, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.base import Recommender, Wanted, top_items
from bbqrec_cli.models.layers import CausalEncoder, embedding
from bbqrec_cli.models.softmax import catalogue_cross_entropy
from bbqrec_cli.records import ItemData


class SASRec(Recommender):
    """Kang and McAuley (ICDM 2018), pre-norm, output tied to the item table.

    Args:
        negatives: items drawn uniformly for each softmax, weighted so that its denominator is unbiased
            (Bengio and Senécal 2008); 0: all items.
    """

    def __init__(
        self,
        *,
        data: ItemData,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        negatives: int,
        history: int,
    ) -> None:
        super().__init__()
        self.negatives, self.history = negatives, history
        self.table = embedding(len(data), width)
        self.encoder = CausalEncoder(width, layers=layers, heads=heads, dropout=dropout, history=history, inner=width)

    def states(self, batch: Batch) -> Tensor:
        """States of the histories, (B, T, D)."""
        return self.encoder(self.table(batch.items.clamp(min=0)) * self.table.embedding_dim**0.5)

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the targets."""
        asked = batch.targets != PAD
        states, targets = self.states(batch)[asked], batch.targets[asked]
        if self.negatives:
            drawn = torch.randint(len(self.table.weight), (self.negatives,), device=targets.device)
            return self.sampled_losses(states, targets, drawn).mean()
        return catalogue_cross_entropy(states, self.table.weight, targets).mean()

    def sampled_losses(self, states: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """-log softmax, with the other items' share of the denominator estimated from the items `drawn` (n,).

        states (P, D), targets (P,) -> (P,).
        """
        own = (states * self.table(targets).to(states.dtype)).sum(1, keepdim=True).float()
        others = (states @ self.table(drawn).T).float() + math.log(len(self.table.weight) / len(drawn))
        others = others.masked_fill(drawn == targets.unsqueeze(1), -torch.inf)
        return torch.cat([own, others], dim=1).logsumexp(1) - own.squeeze(1)

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Scores all items, in float32 (bfloat16 would tie neighbours); see `Recommender.recommend`."""
        users = torch.arange(len(batch.items), device=batch.items.device)
        last = self.states(batch)[users, batch.lengths - 1]
        with torch.autocast(last.device.type, enabled=False):
            return top_items(last.float() @ self.table.weight.T, wanted)
