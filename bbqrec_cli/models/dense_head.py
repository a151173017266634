"""A head that scores all items at once, beside a generator, and the mixture of both. I items, D width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STEPS = 200
"""Steps of expectation maximisation; the likelihood has one maximum."""


class DenseHead(nn.Module):
    """P(i) by a softmax over all items; an item's vector is the sum of its codes' vectors plus a learnt vector.

    The learnt vector starts at zero: an item without interactions is the sum of its codes.
    """

    share: Tensor

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(items, width))
        self.register_buffer("share", torch.tensor(0.5))

    def table(self, composed: Tensor) -> Tensor:
        """Item vectors (I, D); composed (I, D): the sums of their codes' vectors."""
        return composed + self.own

    def mixture(self, generated: Tensor, dense: Tensor) -> Tensor:
        """log((1 - share) · P(generator) + share · P(dense head)), from log-probabilities of one shape."""
        return torch.logaddexp(generated + (1 - self.share).log(), dense + self.share.log())

    def calibrate(self, generated: Tensor, dense: Tensor) -> None:
        """Set the share that maximises the likelihood of held-out targets. generated, dense: their log P, (n,) each."""
        odds, share = (dense - generated).cpu().double(), 0.5
        for _ in range(STEPS):
            share = torch.sigmoid(odds + math.log(share / (1 - share))).mean().clamp(1e-6, 1 - 1e-6).item()
        self.share.fill_(share)
