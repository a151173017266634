"""The sequence-to-item contrastive task, eq. 10–12.

B users, T items of history, P asked positions, I items, V width of v.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.layers import INIT_STD, CausalEncoder
from bbqrec_cli.models.session_graph import SessionGraphEncoder


class SequenceAlignment(nn.Module):
    """f of eq. 11 over item vectors (SASRec or SR-GNN) and the InfoNCE loss on cosines of eq. 12.

    Args:
        width: V = M·D, the width of v_i.
        temperature: τ.
        graph: SR-GNN, of `layers` steps, instead of SASRec.
        init_std: standard deviation of the positions' vectors at the start.
    """

    def __init__(
        self, width: int, *, layers: int, heads: int, dropout: float, history: int, temperature: float,
        graph: bool = False, init_std: float = INIT_STD,
    ) -> None:  # fmt: skip
        super().__init__()
        # By way of the logarithm in float32, which is a bit off: codes stay those of the first release.
        self.temperature = torch.tensor(math.log(temperature)).exp().item()
        self.encoder: SessionGraphEncoder | CausalEncoder = (
            SessionGraphEncoder(width, steps=layers, dropout=dropout)
            if graph
            else CausalEncoder(
                width, layers=layers, heads=heads, dropout=dropout, history=history, inner=width, init_std=init_std
            )
        )

    def states(self, vectors: Tensor, batch: Batch) -> Tensor:
        """h_t at every asked position, (P, V). vectors (B, T, V) of the batch's items."""
        graph = isinstance(self.encoder, SessionGraphEncoder)
        states = self.encoder(vectors, batch.items) if graph else self.encoder(vectors)
        return states[batch.targets != PAD]

    def loss(self, states: Tensor, candidates: Tensor, target: Tensor, rarity: Tensor | None = None) -> Tensor:
        """Eq. 12. states (P, V); candidates (n, V), distinct items; target (P,), each state's row among the candidates.

        The candidates being distinct, no negative equals the positive. rarity (n,): -log of the chance with which each
        candidate is drawn as a negative; with it the denominator is, in expectation, the sum over all items.
        """
        logits = self.scores(states, candidates).float() / self.temperature
        if rarity is not None:
            own = logits.gather(1, target.unsqueeze(1))
            logits = (logits + rarity).scatter(1, target.unsqueeze(1), own)
        return cross_entropy(logits, target)

    @staticmethod
    def scores(states: Tensor, candidates: Tensor) -> Tensor:
        """Cosines (P, n)."""
        return normalize(states.float(), dim=1) @ normalize(candidates.float(), dim=1).T


def rarity(shares: Tensor, *, targets: int) -> Tensor:
    """-log of the chance that an item is among a step's targets, (n,).

    Args:
        shares: (n,) the items' shares of all targets.
        targets: of a step, drawn by those shares.
    """
    return -torch.log(-torch.expm1(targets * torch.log1p(-shares)))


def distinct_rows(batch: Batch) -> tuple[Tensor, Tensor, Tensor, int]:
    """The distinct items of a batch, targets first.

    Returns:
        rows (n,) of items; position (B, T) of each history item in rows (0 where padded); target (P,) of each asked
        position in rows; count of the leading rows that are targets.
    """
    asked = batch.targets[batch.targets != PAD]
    distinct_targets, target = torch.unique(asked, return_inverse=True)
    others = torch.unique(batch.items[batch.items != PAD])
    others = others[~torch.isin(others, distinct_targets)]
    rows = torch.cat([distinct_targets, others])
    order = rows.argsort()
    position = order[torch.searchsorted(rows[order], batch.items.clamp(min=rows.min()))]
    return rows, torch.where(batch.mask, position, 0), target, len(distinct_targets)
