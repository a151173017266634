"""CLUB, the upper bound of mutual information that eq. 3 pushes down (Cheng et al., ICML 2020). n items, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOG_VARIANCE = 3.0
"""Bound of |log σ²|: without it q_θ grows ever more certain and the estimate has no floor."""


class CLUB(nn.Module):
    """q_θ(z̄ | z): a diagonal Gaussian whose mean and variance are a small network of z.

    Args:
        bounded: keep the log variance inside ±LOG_VARIANCE.
    """

    def __init__(self, dim: int, *, hidden: int, bounded: bool = True) -> None:
        super().__init__()
        self.bounded = bounded
        self.body = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.mean, self.spread = nn.Linear(hidden, dim), nn.Linear(hidden, dim)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (n, D) -> mean (n, D), log variance (n, D)."""
        hidden = self.body(z)
        spread = self.spread(hidden).float()
        return self.mean(hidden).float(), LOG_VARIANCE * torch.tanh(spread) if self.bounded else spread

    def likelihood(self, specific: Tensor, z: Tensor) -> Tensor:
        """Mean log q_θ(z̄_i | z_i) up to a constant: what θ's own optimiser maximises. Both (n, D)."""
        mean, log_variance = self(z)
        return -0.5 * ((specific.float() - mean).square() / log_variance.exp() + log_variance).sum(1).mean()

    def bound(self, specific: Tensor, z: Tensor) -> Tensor:
        """Eq. 3 for one modality: mean_i [log q(z̄_i | z_i) - mean_j log q(z̄_j | z_i)], a scalar.

        The variance terms cancel and mean_j (z̄_j - μ_i)² follows from the first two moments, so this is O(n·D).
        """
        specific = specific.float()
        mean, log_variance = self(z)
        first, second = specific.mean(0), specific.square().mean(0)
        matched = (specific - mean).square()
        unmatched = second - 2 * first * mean + mean.square()
        return (0.5 * (unmatched - matched) / log_variance.exp()).sum(1).mean()
