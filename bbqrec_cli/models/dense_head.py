"""A head that scores all items at once, beside a generator, and how the two become one answer. I items, D width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STEPS = 200
"""Of expectation and maximisation; the likelihood has one maximum."""


class DenseHead(nn.Module):
    """P(i) by a softmax over all items, whose vectors are the sums of their codes' vectors and of a learnt part.

    The learnt part starts at zero: an item that nobody has taken yet is the sum of its codes.
    """

    share: Tensor

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(items, width))
        self.register_buffer("share", torch.tensor(0.5))

    def table(self, composed: Tensor) -> Tensor:
        """Vectors of the items (I, D), from the sums of their codes' (I, D)."""
        return composed + self.own

    def mixture(self, generated: Tensor, dense: Tensor) -> Tensor:
        """log of the mixture (1 - share) · P(generator) + share · P(dense head), from their logs."""
        return torch.logaddexp(generated + (1 - self.share).log(), dense + self.share.log())

    def calibrate(self, generated: Tensor, dense: Tensor) -> None:
        """Set the share under which held-out targets are likeliest, from what both heads gave them (n,)."""
        odds, share = (dense - generated).double(), 0.5
        for _ in range(STEPS):
            share = torch.sigmoid(odds + math.log(share / (1 - share))).mean().clamp(1e-6, 1 - 1e-6).item()
        self.share.fill_(share)
