from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bbqrec_cli.models import softmax


@pytest.mark.parametrize("rows", [1, 7, 20, 1000])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_value_and_gradients_are_torchs_own(monkeypatch, rows, scale):
    monkeypatch.setitem(softmax.CELLS, "cpu", rows * 11)
    draw = torch.Generator().manual_seed(0)
    states, table = (scale * torch.randn(n, 6, generator=draw) for n in (20, 11))
    targets = torch.randint(11, (20,), generator=draw)
    found = []
    for loss in (
        lambda s, t: cross_entropy(s @ t.T, targets),
        lambda s, t: softmax.cross_entropy_over_items(s, t, targets),
    ):
        s, t = states.clone().requires_grad_(), table.clone().requires_grad_()
        value = loss(s, t)
        (3 * value).backward()
        found.append((value.detach(), s.grad, t.grad))
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
