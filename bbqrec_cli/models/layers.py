"""Transformer parts shared by all models. B batch, Q queries, K keys, H heads, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INIT_STD = 0.02
"""Standard deviation of every embedding at the start; N(0, 1) tables drown the items (the paper uses .01)."""


def embedding(rows: int, width: int, std: float = INIT_STD) -> nn.Embedding:
    """A table that starts small."""
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=std)
    return table


class Dropout(nn.Module):
    """Dropout whose mask costs a random byte an element on the CPU; torch's own draws a float (a fifth of a step)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(p * 256)

    def forward(self, x: Tensor) -> Tensor:
        """Each element is zero with probability p (in steps of 1/256), else divided by what is kept."""
        if not self.training or not self.threshold:
            return x
        kept = 1 - self.threshold / 256
        if x.device.type != "cpu":
            return nn.functional.dropout(x, 1 - kept)
        # Bits 0–62 are random: the eighth byte of each draw holds seven of them, so it is not used.
        draws = torch.empty(-(-x.numel() // 7), dtype=torch.int64).random_()
        mask = draws.view(torch.uint8).view(-1, 8)[:, :7].reshape(-1)[: x.numel()].view(x.shape) >= self.threshold
        return x * mask.to(x.dtype).mul_(1 / kept)


class Attention(nn.Module):
    """Multi-head attention with a boolean mask (True = may look). The product is written out: on CPUs in bfloat16 that
    is faster than `scaled_dot_product_attention` with a mask, and subclasses reweight values.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor, **extra: Tensor) -> Tensor:
        """x (B, Q, D), context (B, K, D), mask broadcastable to (B, Q, K) -> (B, Q, D)."""
        return self.attend(x, self.keys_values(context), mask, **extra)

    def keys_values(self, context: Tensor) -> Tensor:
        """What can be kept of a context that is looked at again. (B, K, D) -> (2, B, H, K, D/H)."""
        return self.key_value(context).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def attend(self, x: Tensor, context: Tensor, mask: Tensor, **extra: Tensor) -> Tensor:
        """As `forward`, from the context's `keys_values`."""
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = context
        logits = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        # A row that may look nowhere (padding) gets even weights instead of NaN; nobody reads it.
        weights = logits.float().masked_fill(~mask.unsqueeze(1), -1e9).softmax(-1).to(value.dtype)
        mixed = self.mix(self.dropout(weights), value, **extra)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def mix(self, weights: Tensor, value: Tensor, **extra: Tensor) -> Tensor:
        """weights (B, H, Q, K), value (B, H, K, D/H) -> (B, H, Q, D/H)."""
        return weights @ value


class Layer(nn.Module):
    """Transformer layer: self-attention and feed-forward, each with a norm before it or after its sum (post)."""

    def __init__(
        self, width: int, *, heads: int, dropout: float, inner: int, attention: Attention | None = None,
        post: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.post = post
        self.attention = attention or Attention(width, heads=heads, dropout=dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, **extra: Tensor) -> Tensor:
        """x (B, Q, D), mask broadcastable to (B, Q, Q); extra goes to the attention."""
        if self.post:
            x = self.norms[0](x + self.dropout(self.attention(x, x, mask, **extra)))
            return self.norms[1](x + self.dropout(self.feed_forward(x)))
        normed = self.norms[0](x)
        x = x + self.dropout(self.attention(normed, normed, mask, **extra))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))


class CausalEncoder(nn.Module):
    """SASRec's backbone (Kang and McAuley 2018): positions, causal layers, a norm after them, or before them (post)."""

    def __init__(
        self, width: int, *, layers: int, heads: int, dropout: float, history: int, inner: int | None = None,
        post: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.post = post
        self.positions = embedding(history, width)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(width, heads=heads, dropout=dropout, inner=inner or 4 * width, post=post) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D), padded on the right -> states (B, T, D); position t sees 0…t only."""
        steps = x.shape[1]
        mask = torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril().unsqueeze(0)
        x = x + self.positions.weight[:steps]
        x = self.dropout(self.norm(x) if self.post else x)
        for layer in self.layers:
            x = layer(x, mask)
        return x if self.post else self.norm(x)


class BidirectionalEncoder(nn.Module):
    """BERT's encoder, as in BERT4Rec (Sun et al. 2019, section 3): positions, a norm, post-norm layers.

    Args:
        length: the longest sequence, with what stands for masked items.
    """

    def __init__(self, width: int, *, layers: int, heads: int, dropout: float, length: int) -> None:
        super().__init__()
        self.positions = embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(width, heads=heads, dropout=dropout, inner=4 * width, post=True) for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D), padded on the right; mask (B, T) bool, True where there is an item -> states (B, T, D)."""
        x = self.dropout(self.norm(x + self.positions.weight[: x.shape[1]]))
        for layer in self.layers:
            x = layer(x, mask.unsqueeze(1))
        return x
