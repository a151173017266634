"""Similarity-enhanced self-attention, eq. 14–17. B users, T items, L tokens an item, H heads, D width, V width of v."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bbqrec_cli.models.layers import Attention


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
        """weights (B, H, T·L, T·L), value (B, H, T·L, D/H), extra["buckets"] (B, T, T) -> (B, H, T·L, D/H).

        The values are reweighted once for each query *item*, (B, H, T, T·L, D/H), never for each query token. They are
        the largest tensor of a step: the backward pass computes them again, to the same bits, rather than keep them.
        """
        if not torch.is_grad_enabled():
            return self._mixed(weights, value, extra["buckets"])
        return checkpoint(
            self._mixed, weights, value, extra["buckets"], use_reentrant=False, preserve_rng_state=False
        )  # fmt: skip

    def _mixed(self, weights: Tensor, value: Tensor, buckets: Tensor) -> Tensor:
        users, heads, _, width = value.shape
        items = buckets.shape[1]
        # Looked up head by head, so that what follows runs over neighbouring numbers.
        table = self.similarity.unflatten(1, (heads, width)).transpose(0, 1).flatten(0, 1)
        head = torch.arange(heads, device=buckets.device).view(heads, 1, 1) * len(self.similarity)
        factor = nn.functional.embedding(buckets.unsqueeze(1) + head, table).to(value.dtype)
        reweighted = value.view(users, heads, 1, items, self.tokens, width) * factor.unsqueeze(4)
        weights = weights.view(users, heads, items, self.tokens, items * self.tokens)
        return (weights @ reweighted.flatten(3, 4)).flatten(2, 3)
