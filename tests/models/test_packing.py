"""Packed queries against torch's indexing."""

from __future__ import annotations

import pytest
import torch

from bbqrec_cli.models.code_decoder import code_decoder
from bbqrec_cli.models.packing import Grid

REAL = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])


@pytest.mark.parametrize("real", [REAL, REAL & False, REAL | True])
def test_values_and_gradients_are_those_of_indexing(real):
    draw = torch.Generator().manual_seed(0)
    grid = Grid(real)
    packed = torch.randn(int(real.sum()), 4, generator=draw, requires_grad=True)
    spread = torch.zeros(3, 3, 4).masked_scatter(real.unsqueeze(2), packed)
    torch.testing.assert_close(grid.spread(packed), spread)
    weights = torch.randn(3, 3, 4, generator=draw)
    gradients = [torch.autograd.grad((made * weights).sum(), packed)[0] for made in (grid.spread(packed), spread)]
    torch.testing.assert_close(*gradients)
    whole = torch.randn(3, 3, 4, generator=draw, requires_grad=True)
    torch.testing.assert_close(grid.pack(whole), whole[real])
    gradients = [
        torch.autograd.grad((made * packed.detach()).sum(), whole)[0] for made in (grid.pack(whole), whole[real])
    ]
    torch.testing.assert_close(*gradients)


def test_a_decoder_of_packed_queries_is_one_of_padded_ones():
    torch.manual_seed(0)
    decoder = code_decoder(8, layers=2, heads=2, dropout=0.0, inner=16)
    x, memory = torch.randn(3, 3, 8), torch.randn(3, 5, 8)
    visible, own = torch.rand(3, 3, 5) < 0.7, torch.ones(3, 3, 3, dtype=torch.bool).tril()
    level, kept, found = torch.arange(3).expand(3, 3), decoder.history_keys_values(memory), {}
    for real in (REAL, REAL | True):
        decoder.zero_grad()
        made = decoder(x[real], kept, visible, own, level, Grid(real))
        padded = made if real is REAL else made.view(3, 3, 8)[REAL]
        padded.square().sum().backward(retain_graph=True)
        found[real is REAL] = padded, [parameter.grad.clone() for parameter in decoder.parameters()]
    torch.testing.assert_close(found[True], found[False])
