"""HSTU: attention without a softmax, and gates. B users, T items of history, H heads, I items, D width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize, silu

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import INIT_STD, Dropout, embedding

EPSILON = 1e-6
"""Of the norms, as in the authors' program."""


class HSTU(ItemModel):
    """Zhai et al. (ICML 2024), as in their experiments on public data, without the bias of time: batches have no
    timestamps. States and item vectors have length 1; scores are cosines over a temperature.

    Args:
        temperature: of the scores.
        of_base: those of `ItemModel`.
    """

    def __init__(
        self, *, width: int, layers: int, heads: int, dropout: float, temperature: float, history: int, **of_base: Any
    ) -> None:
        super().__init__(width=width, history=history, **of_base)
        self.temperature = temperature
        self.positions = embedding(history, width, std=width**-0.5)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            TransductionUnit(width, heads=heads, dropout=dropout, history=history) for _ in range(layers)
        )

    def items(self) -> Tensor:
        """Item vectors of length 1 / temperature, (I, D)."""
        return normalize(super().items(), dim=1, eps=EPSILON) / self.temperature

    def states(self, batch: Batch) -> Tensor:
        """States of the histories, of length 1, (B, T, D); position t sees 0…t only."""
        x = self.dropout(self.inputs(batch) + self.positions.weight[: batch.items.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return normalize(x, dim=2, eps=EPSILON)


class TransductionUnit(nn.Module):
    """A layer: U, V, Q, K = φ(W₁ LN(x)), A = φ(Q Kᵀ + bias) / T, x + W₂ (LN(A V) ⊙ U), φ = SiLU (equations 1 to 3).

    The bias is one number per distance between two positions. The norms have no parameters. T is the greatest length of
    a history, so that a weight does not depend on what stands beside in a batch.
    """

    def __init__(self, width: int, *, heads: int, dropout: float, history: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.width, self.heads, self.history = width, heads, history
        self.into, self.out = nn.Linear(width, 4 * width, bias=False), nn.Linear(width, width)
        nn.init.normal_(self.into.weight, std=INIT_STD)
        nn.init.xavier_uniform_(self.out.weight)
        self.distances = nn.Parameter(torch.randn(history) * INIT_STD)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D), padded on the right -> (B, T, D); position t sees 0…t only."""
        gate, *parts = silu(self.into(self.normed(x))).chunk(4, dim=2)
        value, query, key = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        place = torch.arange(x.shape[1], device=x.device)
        distance = place.unsqueeze(1) - place
        logits = query @ key.transpose(2, 3) + self.distances[distance.clamp(min=0)]
        weights = (silu(logits) / self.history).masked_fill(distance < 0, 0.0).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        return x + self.out(self.dropout(gate * self.normed(mixed)))

    def normed(self, x: Tensor) -> Tensor:
        """Mean 0 and variance 1 over the width."""
        return layer_norm(x, (self.width,), eps=EPSILON)
