"""The two cross-entropies against torch's own over explicit logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bbqrec_cli.models import trie_softmax
from bbqrec_cli.models.trie_softmax import children_cross_entropy, linear_cross_entropy


@pytest.fixture
def problem() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((11, 4), (7, 4), (7,))
    values = [torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return [*values, torch.randint(7, (11,), generator=generator)]


@pytest.mark.parametrize("cells", [1, 21, 1000])
def test_linear_cross_entropy_and_its_gradients(problem, cells, monkeypatch):
    monkeypatch.setitem(trie_softmax.CELLS, "cpu", cells)
    states, table, bias, targets = problem
    weight = torch.arange(11.0, dtype=torch.float64)
    losses = linear_cross_entropy(*problem)
    expected = cross_entropy(states @ table.T + bias, targets, reduction="none")
    torch.testing.assert_close(losses, expected)
    found = torch.autograd.grad((losses * weight).sum(), [states, table, bias])
    torch.testing.assert_close(found, torch.autograd.grad((expected * weight).sum(), [states, table, bias]))


def test_linear_cross_entropy_follows_autocast(problem):
    values = [x.detach().float().requires_grad_() for x in problem[:3]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = linear_cross_entropy(*values, problem[3])
    losses.sum().backward()
    assert losses.dtype == torch.float32
    exact = linear_cross_entropy(*values, problem[3])
    torch.testing.assert_close(losses, exact, atol=0.05, rtol=0.02)
    assert not torch.equal(losses, exact)
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in values)


def test_children_cross_entropy_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    codes = torch.tensor([[0, 1], [2, 0], [2, 2], [1, 1], [0, 0], [2, 1]])
    first, count, chosen = torch.tensor([0, 3, 4, 0]), torch.tensor([3, 1, 2, 3]), torch.tensor([1, 3, 5, 0])
    logits = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
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
