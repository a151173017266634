"""The decoder of semantic IDs: it attends to the history, then to the levels before.

B users, Q queries, K keys, D width, W beams, l levels so far, H heads.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bbqrec_cli.models.layers import Attention, Dropout, Layer


class DecoderLayer(nn.Module):
    """Pre-norm: cross-attention into the history, causal self-attention over the levels, feed-forward."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Layer(width, heads=heads, dropout=dropout, inner=4 * width)
        self.cross, self.norm = Attention(width, heads=heads, dropout=dropout), nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor, own: Tensor) -> Tensor:
        """x (B, Q, D); memory: the history's keys and values; visible (B, Q, K); own (B, Q, Q) -> (B, Q, D)."""
        return self.own(self._look(x, memory, visible), own)

    def _look(self, x: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        return x + self.dropout(self.cross.attend(self.norm(x), memory, visible))

    def step(self, x: Tensor, memory: Tensor, visible: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """The newest token x (B, W, D) of each beam; past: see `CodeDecoder.step`."""
        x = self._look(x, memory, visible)
        normed = self.own.norms[0](x).flatten(0, 1).unsqueeze(1)
        newest = self.own.attention.keys_values(normed).unflatten(1, x.shape[:2])
        tokens = newest if past is None else torch.cat([past, newest], dim=4)
        everything = torch.ones(1, 1, 1, dtype=torch.bool, device=x.device)
        x = x + self.own.attention.attend(normed, tokens.flatten(1, 2), everything).view_as(x)
        return x + self.own.feed_forward(self.own.norms[1](x)), tokens


class CodeDecoder(nn.Module):
    """A stack of layers, run over many queries at once (training) or over the newest token of each beam (search)."""

    def __init__(self, width: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def history_keys_values(self, memory: Tensor) -> list[Tensor]:
        """Keys and values of the history (B, K, D), per layer: computed once per user, for all queries and beams."""
        return [layer.cross.keys_values(memory) for layer in self._layers()]

    def forward(self, x: Tensor, memory: list[Tensor], visible: Tensor, own: Tensor) -> Tensor:
        """x (B, Q, D); visible (B, Q, K), own (B, Q, Q): the keys and queries that each query sees -> (B, Q, D)."""
        for layer, context in zip(self._layers(), memory, strict=True):
            x = layer(x, context, visible, own)
        return self.norm(x)

    def step(self, x: Tensor, memory: list[Tensor], visible: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode one more token of each beam.

        Args:
            x: (B, W, D) the newest token.
            visible: (B, 1, K).
            past: per layer, keys and values (2, B, W, H, l, D/H) of the beam's earlier tokens; [] at first.

        Returns:
            states (B, W, D), and `past` with the newest token.
        """
        kept = []
        for number, (layer, context) in enumerate(zip(self._layers(), memory, strict=True)):
            x, tokens = layer.step(x, context, visible, past[number] if past else None)
            kept.append(tokens)
        return self.norm(x), kept

    def _layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))


def select_beams(past: list[Tensor], parent: Tensor) -> list[Tensor]:
    """`past` reordered for new beams, which extend the beams `parent` (B, W)."""
    user = torch.arange(len(parent), device=parent.device).unsqueeze(1)
    return [tokens[:, user, parent] for tokens in past]
