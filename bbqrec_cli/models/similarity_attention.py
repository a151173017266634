"""Similarity-enhanced self-attention, eq. 14–17. B users, T items, L tokens an item, H heads, D width, E width of a
head, V width of v."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.models.layers import Attention

AT_ONCE = {"cpu": 1}
"""Query items whose reweighted values are made at once: on a CPU so few that they fit its cache; elsewhere all."""


def similarity_buckets(vectors: Tensor, buckets: int) -> Tensor:
    """Eq. 14–15: round((cos + 1) / 2 · K) of every pair. vectors (B, T, V) of unit length -> (B, T, T) in [0, K]."""
    with torch.autocast(vectors.device.type, enabled=False):
        cosine = (vectors @ vectors.transpose(1, 2)).clamp(-1, 1)
    return ((cosine + 1) / 2 * buckets).round().long()


class SimilarityAttention(Attention):
    """Eq. 16–17: each value is multiplied, channel by channel, by the vector e^sim of the two *items*' similarity.

    The K + 1 vectors start at one, so that the layer starts as plain attention.

    Args:
        causal: no token looks at a later item, so that what these would add is not computed.
    """

    def __init__(
        self, width: int, *, heads: int, dropout: float, buckets: int, tokens: int, head_width: int = 0,
        causal: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(width, heads=heads, dropout=dropout, head_width=head_width)
        self.tokens, self.causal = tokens, causal
        self.similarity = nn.Parameter(torch.ones(buckets + 1, self.out.in_features))

    def mix(self, weights: Tensor, value: Tensor, **extra: Tensor) -> Tensor:
        """weights (B, H, T·L, T·L), value (B, H, T·L, E), extra["buckets"] (B, T, T) -> (B, H, T·L, E).

        The values are reweighted once for each query *item*, (B, H, T, T·L, E), never for each query token.
        """
        heads, width = value.shape[1], value.shape[3]
        buckets = extra["buckets"]
        # Looked up head by head, so that what follows runs over neighbouring numbers.
        table = self.similarity.unflatten(1, (heads, width)).transpose(0, 1).flatten(0, 1)
        head = torch.arange(heads, device=buckets.device).view(heads, 1, 1) * len(self.similarity)
        items = (buckets.shape[1], self.tokens)
        made = _Mixed.apply(
            weights.unflatten(2, items), value.unflatten(2, items), table, buckets.unsqueeze(1) + head, self.causal
        )
        return made.flatten(2, 3)


class _Mixed(torch.autograd.Function):
    """weights (B, H, T, L, T·L), value (B, H, T, L, E), table[rows] of rows (B, H, T, T) -> (B, H, T, L, E).

    The reweighted values, by far the largest tensor of a training step, are made for a few query items at a time and
    never kept: the backward pass makes them again.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, table: Tensor, rows: Tensor, causal: bool) -> Tensor:
        ctx.save_for_backward(weights, value, table, rows)
        ctx.causal, made = causal, torch.empty_like(value, memory_format=torch.contiguous_format)
        with torch.autocast(value.device.type, enabled=False):
            weights, value = _wide(weights), _wide(value)
            for some, seen, keys in _parts(value, causal):
                made[:, :, some] = weights[:, :, some, :, :keys] @ _reweighted(value, _factors(table, rows, some, seen))
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, value, table, rows = ctx.saved_tensors
        kinds = weights.dtype, value.dtype
        weights, value, grad = (_wide(each) for each in (weights, value, grads[0]))
        of_weights, of_value = torch.zeros_like(weights), torch.zeros_like(value, dtype=table.dtype)
        of_factors = table.new_zeros(*rows.shape, value.shape[4])
        for some, seen, keys in _parts(value, ctx.causal):
            factors, here = _factors(table, rows, some, seen), grad[:, :, some]
            of_weights[:, :, some, :, :keys] = here @ _reweighted(value, factors).transpose(3, 4)
            of_products = (weights[:, :, some, :, :keys].transpose(3, 4) @ here).unflatten(3, (seen, -1))
            for number in range(of_products.shape[2]):
                of_value[:, :, :seen].addcmul_(of_products[:, :, number], factors[:, :, number])
            of_factors[:, :, some, :seen] = (of_products * value[:, :, None, :seen]).sum(4)
        of_table = torch.ops.aten.embedding_dense_backward(of_factors, rows, len(table), -1, False)
        return of_weights.to(kinds[0]), of_value.to(kinds[1]), of_table, None, None


def _wide(x: Tensor) -> Tensor:
    """In float32 on a CPU, which is slower with small products in bfloat16."""
    x = x.contiguous()
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


def _parts(value: Tensor, causal: bool) -> Iterator[tuple[slice, int, int]]:
    """Query items, how many items they see, and these items' tokens."""
    items, tokens = value.shape[2:4]
    size = AT_ONCE.get(value.device.type, items)
    for start in range(0, items, size):
        seen = min(start + size, items) if causal else items
        yield slice(start, start + size), seen, seen * tokens


def _factors(table: Tensor, rows: Tensor, some: slice, seen: int) -> Tensor:
    """Of the query items `some` (t) and the first `seen` items, (B, H, t, seen, 1, E)."""
    return nn.functional.embedding(rows[:, :, some, :seen], table).unsqueeze(4)


def _reweighted(value: Tensor, factors: Tensor) -> Tensor:
    """(B, H, t, seen · L, E)."""
    return (value[:, :, None, : factors.shape[3]] * factors.to(value.dtype)).flatten(3, 4)
