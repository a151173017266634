"""The decoder of semantic IDs: it attends to the history, then to the levels before.

B users, Q queries, P queries of all users, K keys, D width, W beams, l levels so far, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from bbqrec_cli.models.layers import Attention, Dropout, Layer
from bbqrec_cli.models.packing import Grid


class DecoderLayer(nn.Module):
    """Pre-norm: cross-attention into the history, causal self-attention over the levels, feed-forward.

    Args:
        own: self-attention and feed-forward.
        cross, norm: the cross-attention and the norm before it.
        own_first: the self-attention comes before the cross-attention.
    """

    def __init__(self, own: Layer, cross: Attention, norm: nn.Module, *, dropout: float, own_first: bool) -> None:
        super().__init__()
        self.own, self.cross, self.norm, self.dropout = own, cross, norm, Dropout(dropout)
        self.own_first = own_first

    def forward(
        self, x: Tensor, memory: Tensor, visible: Tensor, own: Tensor, bias: Tensor | None, grid: Grid
    ) -> Tensor:
        """x (P, D); memory: the history's keys and values; visible (B, Q, K); own (B, Q, Q); bias: of the
        self-attention -> (P, D)."""
        extra: dict[str, Any] = {"grid": grid} if bias is None else {"grid": grid, "bias": bias}
        if self.own_first:
            return self.own.feed(self._look(self.own.look(x, own, **extra), memory, visible, grid))
        return self.own(self._look(x, memory, visible, grid), own, **extra)

    def _look(self, x: Tensor, memory: Tensor, visible: Tensor, grid: Grid | None = None) -> Tensor:
        return x + self.dropout(self.cross.attend(self.norm(x), memory, visible, grid=grid))

    def step(
        self, x: Tensor, memory: Tensor, visible: Tensor, past: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The newest token x (B, W, D) of each beam; past: see `CodeDecoder.step`."""
        if self.own_first:
            x, tokens = self._own_step(x, past, bias)
            return self.own.feed(self._look(x, memory, visible)), tokens
        x, tokens = self._own_step(self._look(x, memory, visible), past, bias)
        return self.own.feed(x), tokens

    def _own_step(self, x: Tensor, past: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The self-attention of `step`."""
        normed = self.own.norms[0](x).flatten(0, 1).unsqueeze(1)
        newest = self.own.attention.keys_values(normed).unflatten(1, x.shape[:2])
        tokens = newest if past is None else torch.cat([past, newest], dim=4)
        everything = torch.ones(1, 1, 1, dtype=torch.bool, device=x.device)
        return x + self.own.attention.attend(normed, tokens.flatten(1, 2), everything, bias=bias).view_as(x), tokens


class CodeDecoder(nn.Module):
    """A stack of layers, run over many queries at once (training) or over the newest token of each beam (search).

    Args:
        relative: biases (…, H, Q, K) of the self-attention for distances (…, Q, K) between levels, the same for all
            layers; None: no biases.
    """

    def __init__(self, layers: Iterable[DecoderLayer], norm: nn.Module, relative: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.norm, self.relative = nn.ModuleList(layers), norm, relative

    def history_keys_values(self, memory: Tensor) -> list[Tensor]:
        """Keys and values of the history (B, K, D), per layer: computed once per user, for all queries and beams."""
        return [layer.cross.keys_values(memory) for layer in self._layers()]

    def forward(
        self, x: Tensor, memory: list[Tensor], visible: Tensor, own: Tensor, level: Tensor, grid: Grid
    ) -> Tensor:
        """x (P, D); visible (B, Q, K), own (B, Q, Q): the keys and queries that each query sees; level (B, Q): each
        query's; grid: where the P queries stand -> (P, D)."""
        bias = None if self.relative is None else self.relative(level.unsqueeze(1) - level.unsqueeze(2))
        for layer, context in zip(self._layers(), memory, strict=True):
            x = layer(x, context, visible, own, bias, grid)
        return self.norm(x)

    def step(self, x: Tensor, memory: list[Tensor], visible: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode one more token of each beam.

        Args:
            x: (B, W, D) the newest token.
            visible: (B, 1, K).
            past: per layer, keys and values (2, B, W, H, l, E) of the beam's earlier tokens; [] at first.

        Returns:
            states (B, W, D), and `past` with the newest token.
        """
        kept, bias = [], None
        if self.relative is not None:
            before = past[0].shape[4] if past else 0
            bias = self.relative(torch.arange(-before, 1, device=x.device).unsqueeze(0))
        for number, (layer, context) in enumerate(zip(self._layers(), memory, strict=True)):
            x, tokens = layer.step(x, context, visible, past[number] if past else None, bias)
            kept.append(tokens)
        return self.norm(x), kept

    def _layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))


def code_decoder(
    width: int, *, layers: int, heads: int, dropout: float, inner: int, head_width: int = 0
) -> CodeDecoder:
    """The decoder of layers that look at the history first."""

    def attention() -> Attention:
        return Attention(width, heads=heads, dropout=dropout, head_width=head_width)

    def layer() -> DecoderLayer:
        own = Layer(width, dropout=dropout, inner=inner, attention=attention())
        return DecoderLayer(own, attention(), nn.LayerNorm(width), dropout=dropout, own_first=False)

    return CodeDecoder((layer() for _ in range(layers)), nn.LayerNorm(width))


def select_beams(past: list[Tensor], parent: Tensor) -> list[Tensor]:
    """`past` reordered for new beams, which extend the beams `parent` (B, W)."""
    user = torch.arange(len(parent), device=parent.device).unsqueeze(1)
    return [tokens[:, user, parent] for tokens in past]


class Prefixes:
    """`past` of the prefixes that a best-first search has expanded, per level in the order in which they were."""

    def __init__(self, levels: int) -> None:
        # Per level, an entry per call: per layer, keys and values (2, P · R, H, l, E).
        self.kept: list[list[list[Tensor]]] = [[] for _ in range(levels)]

    def add(self, level: int, past: list[Tensor]) -> None:
        """`past` of prefixes (P, R)."""
        self.kept[level].append([tokens.flatten(1, 2) for tokens in past])

    def select(self, level: int, parent: Tensor) -> list[Tensor]:
        """`past` for the prefixes of a level, which extend those with the numbers `parent` (P, R) of the one before."""
        if not level:
            return []
        self.kept[level - 1] = [[torch.cat(calls, dim=1) for calls in zip(*self.kept[level - 1], strict=True)]]
        return [tokens[:, parent] for tokens in self.kept[level - 1][0]]
