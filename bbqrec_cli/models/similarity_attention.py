"""Similarity-enhanced self-attention, eq. 14–17. B users, T items, L tokens an item, H heads, D width, E width of a
head, V width of v."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.models.layers import Attention

AT_ONCE = {"cpu": 240_000}
"""Reweighted values that are made at once: on a CPU so few that they fit its cache."""
ELSEWHERE = 1 << 26


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
        (users, heads), width = value.shape[:2], value.shape[3]
        buckets = extra["buckets"]
        # Looked up head by head, so that what follows runs over neighbouring numbers.
        table = self.similarity.unflatten(1, (heads, width)).transpose(0, 1).flatten(0, 1)
        head = torch.arange(heads, device=buckets.device).view(heads, 1, 1) * len(self.similarity)
        items = (buckets.shape[1], self.tokens)
        parts = (each.flatten(0, 1).unflatten(1, items) for each in (weights, value))
        made = _Mixed.apply(*parts, table, (buckets.unsqueeze(1) + head).flatten(0, 1), self.causal)
        return made.flatten(1, 2).unflatten(0, (users, heads))


class _Mixed(torch.autograd.Function):
    """For each of N = B·H users and heads: weights (N, T, L, T·L), value (N, T, L, E), table[rows] of rows (N, T, T)
    -> (N, T, L, E).

    The reweighted values, by far the largest tensor of a training step, are made in parts and never kept: the backward
    pass makes them again.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, table: Tensor, rows: Tensor, causal: bool) -> Tensor:
        ctx.save_for_backward(weights, value, table, rows)
        ctx.causal, made = causal, torch.empty_like(value, memory_format=torch.contiguous_format)
        with torch.autocast(value.device.type, enabled=False):
            weights, value = _wide(weights), _wide(value)
            for some, queries, seen in _parts(value, causal):
                factors = nn.functional.embedding(rows[some, queries, :seen], table)
                reweighted = _reweighted(value[some, None, :seen], factors)
                made[some, queries] = weights[some, queries, :, : reweighted.shape[2]] @ reweighted
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, value, table, rows = ctx.saved_tensors
        kinds = weights.dtype, value.dtype
        weights, value, grad = (_wide(each) for each in (weights, value, grads[0]))
        of_weights, of_value = torch.zeros_like(weights), torch.zeros_like(value, dtype=table.dtype)
        of_table = torch.zeros_like(table)
        for some, queries, seen in _parts(value, ctx.causal):
            which, here = rows[some, queries, :seen].contiguous(), grad[some, queries]
            factors, values = nn.functional.embedding(which, table), value[some, None, :seen]
            reweighted = _reweighted(values, factors)
            keys = reweighted.shape[2]
            of_weights[some, queries, :, :keys] = here @ reweighted.transpose(2, 3)
            of_products = (weights[some, queries, :, :keys].transpose(2, 3) @ here).unflatten(2, (seen, -1))
            of_values = of_value[some, :seen]
            for query in range(of_products.shape[1]):
                of_values.addcmul_(of_products[:, query], factors[:, query].unsqueeze(2))
            of_factors = torch.zeros_like(factors)
            for token in range(value.shape[2]):
                of_factors.addcmul_(of_products[:, :, :, token], values[:, :, :, token])
            of_table += torch.ops.aten.embedding_dense_backward(of_factors, which, len(table), -1, False)
        return of_weights.to(kinds[0]), of_value.to(kinds[1]), of_table, None, None


def _wide(x: Tensor) -> Tensor:
    """In float32 on a CPU, which is slower with small products in bfloat16."""
    x = x.contiguous()
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


def _parts(value: Tensor, causal: bool) -> Iterator[tuple[slice, slice, int]]:
    """Users and heads, query items, and how many items these see; of AT_ONCE reweighted values at most, but never less
    than one query item of one user and head."""
    size, items, tokens, width = value.shape
    limit, start = AT_ONCE.get(value.device.type, ELSEWHERE), 0
    while start < items:
        end = start + 1
        while end < items and size * (end + 1 - start) * (end + 1 if causal else items) * tokens * width <= limit:
            end += 1
        seen = end if causal else items
        each = max(1, min(size, limit // ((end - start) * seen * tokens * width)))
        yield from ((slice(some, some + each), slice(start, end), seen) for some in range(0, size, each))
        start = end


def _reweighted(values: Tensor, factors: Tensor) -> Tensor:
    """values (n, 1, seen, L, E), factors (n, t, seen, E) -> (n, t, seen · L, E)."""
    return (values * factors.unsqueeze(3).to(values.dtype)).flatten(2, 3)
