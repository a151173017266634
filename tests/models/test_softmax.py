"""The chunked cross-entropy against torch's own over explicit logits."""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn.functional import cross_entropy

from bbqrec_cli.models import softmax
from bbqrec_cli.models.softmax import catalogue_cross_entropy

DEVICE = torch.device(os.environ.get("BBQREC_TEST_DEVICE", "cpu"))


def problem(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((20, 6), (11, 6), (11,))
    values = (scale * torch.randn(*shape, generator=draw, dtype=dtype) for shape in shapes)
    return [value.to(DEVICE).requires_grad_() for value in values]


TARGETS = torch.arange(20, device=DEVICE) * 7 % 11
CLOSE = 1 if DEVICE.type == "cpu" else 500
"""A GPU sums products of other shapes in another order, and logits of 900 have few digits behind the point."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 20, 1000])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_and_gradients_are_torchs_own(monkeypatch, rows, scale, with_bias, dtype):
    monkeypatch.setitem(softmax.CELLS, DEVICE.type, rows * 11)
    states, table, bias = problem(scale, dtype)
    given = [states, table, bias] if with_bias else [states, table]
    logits = states @ table.T + (bias if with_bias else 0)
    expected, found = cross_entropy(logits, TARGETS, reduction="none"), catalogue_cross_entropy(
        states, table, TARGETS, bias if with_bias else None
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=CLOSE * 1e-5, atol=CLOSE * 1e-5)
    gradients = (torch.autograd.grad(3 * losses.mean(), given) for losses in (found, expected))
    torch.testing.assert_close(*gradients, rtol=CLOSE * 1e-5, atol=CLOSE * 2e-6 * scale)
    with torch.no_grad():
        assert torch.equal(catalogue_cross_entropy(states, table, TARGETS, bias if with_bias else None), found)


def test_losses_that_weigh_differently_are_refused():
    states, table, bias = problem()
    losses = catalogue_cross_entropy(states, table, TARGETS, bias)
    with pytest.raises(ValueError, match="weigh the same"):
        (losses * torch.arange(20, device=DEVICE)).sum().backward()


def test_no_states_at_all():
    states, table, bias = problem()
    losses = catalogue_cross_entropy(states[:0], table, TARGETS[:0], bias)
    losses.sum().backward()
    assert losses.shape == (0,)
    assert table.grad is not None
    assert not table.grad.any()


def test_it_follows_autocast():
    given = problem(dtype=torch.float32)
    states, table, bias = given
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        losses = catalogue_cross_entropy(states, table, TARGETS, bias)
    found = torch.autograd.grad(losses.sum(), given)
    exact = catalogue_cross_entropy(states, table, TARGETS, bias)
    torch.testing.assert_close(losses, exact, atol=0.05, rtol=0.02)
    assert not torch.equal(losses, exact)
    torch.testing.assert_close(found, torch.autograd.grad(exact.sum(), given), atol=0.05, rtol=0.05)
    assert [losses.dtype, *(x.dtype for x in found)] == [torch.float32] * 4
