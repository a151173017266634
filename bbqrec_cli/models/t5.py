"""T5's transformer (Raffel et al., JMLR 2020), which TIGER and LETTER train from scratch.

What differs from `layers.py` and `code_decoder.py`: norms without a mean, no biases, unscaled attention, ReLU, relative
positions instead of learnt ones, and a decoder layer that looks at its own tokens before it looks at the history.

B users, Q queries, K keys, H heads, D width, E width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bbqrec_cli.models.code_decoder import CodeDecoder, DecoderLayer
from bbqrec_cli.models.layers import Attention, Dropout, Layer, embedding

BUCKETS, FARTHEST = 32, 128
"""Buckets of relative positions, and the distance in tokens from which all are in the last one."""


class RelativePositions(nn.Module):
    """A bias per head and bucket of the distance between two tokens, which all layers of a stack share.

    Half of a direction's buckets are for one distance each; the others grow with its logarithm.

    Args:
        both_ways: half of the buckets are for keys after the query; otherwise these count as distance 0.
    """

    def __init__(self, width: int, *, heads: int, both_ways: bool) -> None:
        super().__init__()
        self.both_ways, self.table = both_ways, embedding(BUCKETS, heads, width**-0.5)

    def forward(self, distance: Tensor) -> Tensor:
        """distance (…, Q, K) int64, the key's place minus the query's -> biases (…, H, Q, K)."""
        return self.table(self.buckets(distance)).movedim(-1, -3)

    def buckets(self, distance: Tensor) -> Tensor:
        """The bucket of each distance, int64 of the same shape."""
        size = BUCKETS // 2 if self.both_ways else BUCKETS
        far = distance.abs() if self.both_ways else (-distance).clamp(min=0)
        exact = size // 2
        rise = (far.clamp(min=1).float() / exact).log() / math.log(FARTHEST / exact) * (size - exact)
        place = torch.where(far < exact, far, (exact + rise.long()).clamp(max=size - 1))
        return place + size * (distance > 0) if self.both_ways else place


class T5Norm(nn.RMSNorm):
    """Divides by the root mean square."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)


class FinalNorm(T5Norm):
    """A stack's last norm, with dropout and a factor (tied output layers need D^-½)."""

    def __init__(self, width: int, *, dropout: float, factor: float = 1.0) -> None:
        super().__init__(width)
        self.dropout, self.factor = Dropout(dropout), factor

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) -> (…, D)."""
        return self.dropout(super().forward(x)) * self.factor


class T5Attention(Attention):
    """Attention without biases and without the factor E^-½; the queries' weights start smaller instead."""

    def __init__(self, width: int, *, heads: int, dropout: float, head_width: int) -> None:
        super().__init__(width, heads=heads, dropout=dropout, head_width=head_width, bias=False)
        inner = self.out.in_features
        nn.init.normal_(self.query.weight, std=self.scale * width**-0.5)
        nn.init.normal_(self.key_value.weight, std=width**-0.5)
        nn.init.normal_(self.out.weight, std=inner**-0.5)
        self.scale = 1.0


class T5Layer(Layer):
    """Self-attention and a feed-forward with ReLU and a dropout inside."""

    def __init__(self, width: int, *, heads: int, dropout: float, inner: int, head_width: int) -> None:
        attention = T5Attention(width, heads=heads, dropout=dropout, head_width=head_width)
        super().__init__(width, dropout=dropout, inner=inner, attention=attention)
        self.norms = nn.ModuleList(T5Norm(width) for _ in range(2))
        first, second = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
        nn.init.normal_(first.weight, std=width**-0.5)
        nn.init.normal_(second.weight, std=inner**-0.5)
        self.feed_forward = nn.Sequential(first, nn.ReLU(inplace=True), Dropout(dropout), second)


def t5_decoder(width: int, *, layers: int, heads: int, dropout: float, inner: int, head_width: int = 0) -> CodeDecoder:
    """The decoder, whose layers look at the levels first. Its states suit output vectors that are also the inputs."""

    def layer() -> DecoderLayer:
        own = T5Layer(width, heads=heads, dropout=dropout, inner=inner, head_width=head_width)
        cross = T5Attention(width, heads=heads, dropout=dropout, head_width=head_width)
        return DecoderLayer(own, cross, T5Norm(width), dropout=dropout, own_first=True)

    norm = FinalNorm(width, dropout=dropout, factor=width**-0.5)
    return CodeDecoder((layer() for _ in range(layers)), norm, RelativePositions(width, heads=heads, both_ways=False))
