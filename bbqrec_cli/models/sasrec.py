"""SASRec with a softmax over all items, which is what makes it strong. B users, T items, P asked positions, I items, D width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import HISTORY, PAD
from bbqrec_cli.models.base import Recommender, Wanted, top_items
from bbqrec_cli.models.layers import CausalEncoder, embedding


class SASRec(Recommender):
    """Kang and McAuley (ICDM 2018), pre-norm, output tied to the item table.

    Args:
        negatives: uniformly drawn items shared by a step's softmax, its targets besides; 0: all items.
    """

    def __init__(
        self,
        *,
        items: int,
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.5,
        negatives: int = 0,
        history: int = HISTORY,
    ) -> None:
        super().__init__()
        self.negatives = negatives
        self.table = embedding(items, width)
        self.encoder = CausalEncoder(width, layers=layers, heads=heads, dropout=dropout, history=history, inner=width)

    def states(self, batch: Batch) -> Tensor:
        """(B, T, D)."""
        return self.encoder(self.table(batch.items.clamp(min=0)) * self.table.embedding_dim**0.5)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of each asked position's target."""
        asked = batch.targets != PAD
        states, targets = self.states(batch)[asked], batch.targets[asked]
        if not self.negatives:
            return cross_entropy((states @ self.table.weight.T.to(states.dtype)).float(), targets)
        drawn = torch.randint(len(self.table.weight), (self.negatives,), device=targets.device)
        candidates, answer = torch.unique(torch.cat([targets, drawn]), return_inverse=True)
        return cross_entropy((states @ self.table(candidates).T.to(states.dtype)).float(), answer[: len(targets)])

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Scores all items; see `Recommender.recommend`."""
        last = self.states(batch)[torch.arange(len(batch.items)), batch.lengths - 1]
        return top_items(last.float() @ self.table.weight.float().T, wanted)
