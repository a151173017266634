"""BSARec: self-attention beside a filter of frequencies. B users, T items of history, H its greatest length, I items,
D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch, PrefixBatches
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import INIT_STD, Attention, Dropout, embedding
from bbqrec_cli.records import Sequences

EPSILON = 1e-12
"""Of the norms, as in the authors' program."""


class BSARec(ItemModel):
    """Shin et al. (AAAI 2024).

    A filter of frequencies mixes all H positions, those after an item too, so that there is one sample per prefix, and
    only the last position's state is used. Histories are padded on the left up to H, as in the authors' program.

    Args:
        alpha: α, the share of the filter; the rest is that of self-attention (equation 8).
        cutoff: c; the c // 2 + 1 lowest frequencies of H positions are the low ones.
        of_base: those of `ItemModel`.
    """

    def __init__(
        self, *, width: int, layers: int, heads: int, dropout: float, alpha: float, cutoff: int, history: int,
        **of_base: Any,
    ) -> None:  # fmt: skip
        super().__init__(width=width, history=history, **of_base)
        self.positions = embedding(history, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=EPSILON), Dropout(dropout)
        self.layers = nn.ModuleList(
            BSALayer(width, heads=heads, dropout=dropout, alpha=alpha, cutoff=cutoff, history=history)
            for _ in range(layers)
        )
        for part in self.layers.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=INIT_STD)
                nn.init.zeros_(part.bias)

    def batches(self, train: Sequences, *, batch_size: int, seed: int) -> PrefixBatches:
        """One sample per prefix."""
        return PrefixBatches(train, batch_size=batch_size, seed=seed, history=self.history)

    def states(self, batch: Batch) -> Tensor:
        """The state of each whole history, (B, T, D), the same at every position."""
        items = padded_left(batch, self.history)
        real = items != PAD
        vectors = self.inputs(Batch(items, items), scaled=False) * real.unsqueeze(2)
        x = self.dropout(self.norm(vectors + self.positions.weight))
        causal = torch.ones(self.history, self.history, dtype=torch.bool, device=items.device).tril()
        # A padded position looks everywhere, as in the authors' program: the filter mixes it into the others.
        mask = (causal & real.unsqueeze(1)) | ~real.unsqueeze(2)
        for layer in self.layers:
            x = layer(x, mask)
        return x[:, -1:].expand(-1, batch.items.shape[1], -1)


def padded_left(batch: Batch, history: int) -> Tensor:
    """The last `history` items of each history, after PAD: (B, H) int64."""
    place = torch.arange(history, device=batch.items.device) - history + batch.lengths.unsqueeze(1)
    return batch.items.gather(1, place.clamp(min=0)).masked_fill(place < 0, PAD)


class BSALayer(nn.Module):
    """The filter and self-attention side by side, then a feed-forward part; post-norm.

    Args:
        alpha, cutoff: see `BSARec`.
        history: H.
    """

    def __init__(self, width: int, *, heads: int, dropout: float, alpha: float, cutoff: int, history: int) -> None:
        super().__init__()
        self.alpha = alpha
        self.filter = FrequencyFilter(width, cutoff=cutoff, history=history)
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=EPSILON) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, H, D), mask broadcastable to (B, H, H) -> (B, H, D)."""
        filtered = self.norms[0](x + self.dropout(self.filter(x)))
        attended = self.norms[1](x + self.dropout(self.attention(x, x, mask)))
        mixed = self.alpha * filtered + (1 - self.alpha) * attended
        return self.norms[2](mixed + self.dropout(self.feed_forward(mixed)))


class FrequencyFilter(nn.Module):
    """Rescales the high frequencies of a sequence: low + β² · high (equation 7), β learnt per dimension.

    For a fixed length the low-pass of the Fourier transform is one matrix, which has no trouble with bfloat16.
    """

    low_pass: Tensor

    def __init__(self, width: int, *, cutoff: int, history: int) -> None:
        super().__init__()
        frequencies = torch.fft.rfft(torch.eye(history), dim=0)
        frequencies[cutoff // 2 + 1 :] = 0
        self.register_buffer("low_pass", torch.fft.irfft(frequencies, n=history, dim=0), persistent=False)
        self.beta = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, D) -> (B, H, D)."""
        low = self.low_pass @ x
        return low + self.beta**2 * (x - low)
