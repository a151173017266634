"""The cross-entropy among siblings against torch's own over explicit logits."""

from __future__ import annotations

import os

import torch
from torch.nn.functional import cross_entropy

from bbqrec_cli.models.children_softmax import children_cross_entropy

DEVICE = torch.device(os.environ.get("BBQREC_TEST_DEVICE", "cpu"))


def test_children_cross_entropy_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    codes = torch.tensor([[0, 1], [2, 0], [2, 2], [1, 1], [0, 0], [2, 1]], device=DEVICE)
    first, count, chosen = torch.tensor([[0, 3, 4, 0], [3, 1, 2, 3], [1, 3, 5, 0]], device=DEVICE)
    logits = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64).to(DEVICE).requires_grad_()
    expected = []
    for sample in range(4):
        own = codes[first[sample] : first[sample] + count[sample]]
        scores = logits[sample, 0, own[:, 0]] + logits[sample, 1, own[:, 1]]
        expected.append(cross_entropy(scores, chosen[sample] - first[sample]))
    losses = children_cross_entropy(logits, codes, first, count, chosen)
    torch.testing.assert_close(losses, torch.stack(expected))
    assert losses[1] == 0
    found = torch.autograd.grad(losses.sum(), logits)
    torch.testing.assert_close(found, torch.autograd.grad(torch.stack(expected).sum(), logits))
    assert found[0][1].eq(0).all()
