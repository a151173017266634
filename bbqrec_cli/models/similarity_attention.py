"""Similarity-enhanced self-attention, eq. 14–17. B users, T items, L tokens an item, H heads, D width, E width of a
head, V width of v."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.models.layers import Attention

CELLS = 1 << 22
"""Elements of the reweighted values that are held at once on a CPU: small enough for its cache."""


def similarity_buckets(vectors: Tensor, buckets: int) -> Tensor:
    """Eq. 14–15: round((cos + 1) / 2 · K) of every pair. vectors (B, T, V) of unit length -> (B, T, T) in [0, K]."""
    with torch.autocast(vectors.device.type, enabled=False):
        cosine = (vectors @ vectors.transpose(1, 2)).clamp(-1, 1)
    return ((cosine + 1) / 2 * buckets).round().long()


class SimilarityAttention(Attention):
    """Eq. 16–17: each value is multiplied, channel by channel, by the vector e^sim of the two *items*' similarity.

    The K + 1 vectors start at one, so that the layer starts as plain attention.
    """

    def __init__(
        self, width: int, *, heads: int, dropout: float, buckets: int, tokens: int, head_width: int = 0
    ) -> None:
        super().__init__(width, heads=heads, dropout=dropout, head_width=head_width)
        self.tokens = tokens
        self.similarity = nn.Parameter(torch.ones(buckets + 1, self.out.in_features))

    def mix(self, weights: Tensor, value: Tensor, **extra: Tensor) -> Tensor:
        """weights (B, H, T·L, T·L), value (B, H, T·L, E), extra["buckets"] (B, T, T) -> (B, H, T·L, E).

        The values are reweighted once for each query *item*, (B, H, T, T·L, E), never for each query token.
        """
        users, heads, _, width = value.shape
        buckets = extra["buckets"]
        items = buckets.shape[1]
        # Looked up head by head, so that what follows runs over neighbouring numbers.
        table = self.similarity.unflatten(1, (heads, width)).transpose(0, 1).flatten(0, 1)
        head = torch.arange(heads, device=buckets.device).view(heads, 1, 1) * len(self.similarity)
        weights = weights.view(users, heads, items, self.tokens, items * self.tokens)
        value = value.view(users, heads, 1, items, self.tokens, width)
        return _Mixed.apply(weights, value, table, buckets.unsqueeze(1) + head).flatten(2, 3)


def _mixed(weights: Tensor, value: Tensor, factor: Tensor) -> Tensor:
    """weights (B, H, T, L, T·L), value (B, H, 1, T, L, E), factor (B, H, T, T, E) -> (B, H, T, L, E)."""
    return weights @ (value * factor.unsqueeze(4)).flatten(3, 4)


class _Mixed(torch.autograd.Function):
    """`_mixed` with the factors table[rows], rows (B, H, T, T), for a few users at a time. The reweighted values, by
    far the largest tensor of a training step, are never kept: the backward pass computes them again, to the same
    bits."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(weights, value, table, rows)
        made = [_mixed(weights[b], value[b], _factors(table, rows[b], value)) for b in _blocks(weights, value)]
        return torch.cat(made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, value, table, rows = ctx.saved_tensors
        found = []
        for block in _blocks(weights, value):
            with torch.enable_grad():
                parts = weights[block], value[block], _factors(table, rows[block], value)
                inputs = [each.detach().requires_grad_() for each in parts]
                made = _mixed(*inputs)
            found.append(torch.autograd.grad(made, inputs, grads[0][block]))
        of_weights, of_value, of_factors = (torch.cat(each) for each in zip(*found, strict=True))
        of_table = torch.ops.aten.embedding_dense_backward(of_factors.to(table.dtype), rows, len(table), -1, False)
        return of_weights, of_value, of_table, None


def _factors(table: Tensor, rows: Tensor, value: Tensor) -> Tensor:
    return nn.functional.embedding(rows, table).to(value.dtype)


def _blocks(weights: Tensor, value: Tensor) -> list[slice]:
    """Users by the number whose reweighted values are CELLS; all at once on other devices than a CPU."""
    users, one = len(weights), value.shape[1:].numel() * weights.shape[2]
    size = max(1, CELLS // one if value.device.type == "cpu" else users)
    return [slice(start, start + size) for start in range(0, max(1, users), size)]
