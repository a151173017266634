from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from bbqrec_cli.tokenizers.methods.bbqrec.club import CLUB, LOG_VARIANCE


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def club() -> CLUB:
    torch.manual_seed(0)
    return CLUB(5, hidden=12)


def gaussian(club: CLUB, z: torch.Tensor) -> Independent:
    """q_θ(· | z_i), one an item."""
    mean, log_variance = club(z)
    return Independent(Normal(mean, (log_variance / 2).exp()), 1)


def all_pairs(club: CLUB, specific: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Eq. 3 as it stands: every z̄_j under every q(· | z_i)."""
    total = torch.zeros(())
    for i in range(len(z)):
        q = gaussian(club, z[i : i + 1])
        own = q.log_prob(specific[i : i + 1])[0]
        others = torch.stack([q.log_prob(specific[j : j + 1])[0] for j in range(len(z))])
        total = total + own - others.mean()
    return total / len(z)


def test_the_bound_is_the_all_pairs_formula_and_so_is_its_gradient(club):
    values = []
    for bound in (club.bound, lambda *pair: all_pairs(club, *pair)):
        specific, z = 2 * random(9, 5).requires_grad_(), random(9, 5, seed=1).requires_grad_()
        specific.retain_grad()
        club.zero_grad()
        value = bound(specific, z)
        value.backward()
        values.append([value.detach(), specific.grad, z.grad, *[p.grad.clone() for p in club.parameters()]])
    assert values[0][0].abs() > 0.01
    for mine, theirs in zip(*values, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_likelihood_is_the_gaussians_up_to_its_constant(club):
    specific, z = random(7, 5), random(7, 5, seed=1)
    expected = gaussian(club, z).log_prob(specific).mean() + 5 / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(club.likelihood(specific, z), expected)


def test_the_variance_is_bounded(club):
    _, log_variance = club(1e4 * random(50, 5))
    assert log_variance.abs().max() <= LOG_VARIANCE


def test_one_item_tells_nothing(club):
    assert club.bound(random(1, 5), random(1, 5, seed=1)).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_gaussians_of_known_mutual_information(correlation):
    """With the true q the bound is D·ρ²/(1-ρ²), which is above the mutual information -D/2·log(1-ρ²), and near it."""
    torch.manual_seed(0)
    dim, items = 2, 12_000
    club = CLUB(dim, hidden=32)
    z, noise = random(items, dim), random(items, dim, seed=1)
    specific = correlation * z + math.sqrt(1 - correlation**2) * noise
    optimiser = torch.optim.Adam(club.parameters(), lr=0.01)
    for step in range(300):
        rows = slice(2000 * (step % 4), 2000 * (step % 4) + 2000)
        optimiser.zero_grad()
        (-club.likelihood(specific[rows], z[rows])).backward()
        optimiser.step()
    # Judged on items that θ was not fitted on.
    estimate = club.bound(specific[8000:], z[8000:]).item()
    information = -dim / 2 * math.log(1 - correlation**2)
    bound = dim * correlation**2 / (1 - correlation**2)
    assert estimate == pytest.approx(bound, rel=0.05, abs=0.02)
    assert estimate >= information - 0.02
