"""Against the equations in loops: one pair of positions and one head at a time."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import new_model, spread
from torch import Tensor

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.hstu import HSTU

ITEMS, WIDTH, HEADS, HISTORY, TEMPERATURE = 15, 16, 2, 7, 0.2


@pytest.fixture
def model() -> HSTU:
    torch.manual_seed(0)
    model = new_model(
        "hstu", ITEMS, width=WIDTH, heads=HEADS, layers=2, dropout=0.0, history=HISTORY, temperature=TEMPERATURE
    )
    spread(model, 0.5)
    return model.double().eval()


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def norm(x: Tensor) -> Tensor:
    """x (D,)."""
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-6).sqrt()


def states(model: HSTU, history: list[int]) -> list[Tensor]:
    x = [model.table.weight[item] * math.sqrt(WIDTH) + model.positions.weight[at] for at, item in enumerate(history)]
    size = WIDTH // HEADS
    for layer in model.layers:
        parts = [swish(layer.into.weight @ norm(each)).split(WIDTH) for each in x]
        made = []
        for here, (gate, _, query, _) in enumerate(parts):
            mixed = torch.zeros(WIDTH, dtype=torch.float64)
            for head in range(HEADS):
                of_head = slice(head * size, (head + 1) * size)
                for there in range(here + 1):
                    _, value, _, key = parts[there]
                    logit = query[of_head] @ key[of_head] + layer.distances[here - there]
                    mixed[of_head] = mixed[of_head] + swish(logit) / HISTORY * value[of_head]
            made.append(x[here] + layer.out(gate * norm(mixed)))
        x = made
    return [each / each.norm() for each in x]


def test_states_are_those_of_the_equations(model, batch):
    found = model.states(batch)
    for user, length in enumerate(batch.lengths):
        expected = torch.stack(states(model, batch.items[user, :length].tolist()))
        torch.testing.assert_close(found[user, :length], expected, rtol=1e-6, atol=1e-6)


def test_loss_is_a_softmax_of_cosines(model, batch):
    expected = []
    table = model.table.weight / model.table.weight.norm(dim=1, keepdim=True)
    for user, length in enumerate(batch.lengths):
        for position, each in enumerate(states(model, batch.items[user, :length].tolist())):
            logits = table @ each / TEMPERATURE
            expected.append(logits.logsumexp(0) - logits[batch.targets[user, position]])
    torch.testing.assert_close(model.loss(batch), torch.stack(expected).mean(), rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_the_equations(model, batch):
    weights = torch.randn(WIDTH, dtype=torch.float64)
    (model.states(batch)[batch.mask] @ weights).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    histories = [batch.items[user, :length].tolist() for user, length in enumerate(batch.lengths)]
    sum(each @ weights for history in histories for each in states(model, history)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)


def test_padding_and_the_future_change_nothing(model, batch):
    alone = model.states(Batch(batch.items[1:2, :2], batch.targets[1:2, :2]))
    torch.testing.assert_close(model.states(batch)[1:2, :2], alone)


def test_recommend_ranks_by_cosine(model, batch):
    found, scores = model.float().recommend(batch, Wanted(k=ITEMS))
    model.double()
    table = model.table.weight / model.table.weight.norm(dim=1, keepdim=True)
    for user, length in enumerate(batch.lengths):
        expected = (table @ states(model, batch.items[user, :length].tolist())[-1] / TEMPERATURE).float()
        torch.testing.assert_close(scores[user], expected[found[user]], rtol=1e-4, atol=1e-4)
