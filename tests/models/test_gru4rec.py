"""Against the equations of a gated recurrent unit, written out step by step."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.gru4rec import GRU4Rec

ITEMS, WIDTH, HIDDEN = 20, 6, 5
BATCH = Batch(
    torch.tensor([[3, 7, 1, 9], [5, 5, -1, -1], [19, -1, -1, -1]]),
    torch.tensor([[7, 1, 9, 12], [5, 2, -1, -1], [4, -1, -1, -1]]),
)


@pytest.fixture(params=[1, 2])
def model(request) -> GRU4Rec:
    torch.manual_seed(0)
    made = new_model("gru4rec", ITEMS, width=WIDTH, hidden=HIDDEN, layers=request.param, dropout=0.5)
    with torch.no_grad():
        made.table.weight.normal_()  # the start is too small to tell right from wrong
    return made.eval()


def states_of(model: GRU4Rec, items: list[int]) -> list[torch.Tensor]:
    """The state after each item, with the gates of Cho et al. (2014) as torch orders them: reset, update, new."""
    rows = [model.table.weight[item] * WIDTH**0.5 for item in items]
    for layer in range(model.gru.num_layers):
        of_input, of_state = (getattr(model.gru, f"weight_{kind}_l{layer}").split(HIDDEN) for kind in ("ih", "hh"))
        state, found = torch.zeros(HIDDEN), []
        for row in rows:
            reset, update = (torch.sigmoid(of_input[gate] @ row + of_state[gate] @ state) for gate in (0, 1))
            new = torch.tanh(of_input[2] @ row + reset * (of_state[2] @ state))
            state = (1 - update) * new + update * state
            found.append(state)
        rows = found
    return [model.dense.weight @ row + model.dense.bias for row in rows]


def test_states_are_those_of_the_equations(model):
    found = model.states(BATCH)
    for user, row in enumerate(BATCH.items.tolist()):
        real = [item for item in row if item >= 0]
        expected = torch.stack(states_of(model, real))
        torch.testing.assert_close(found[user, : len(real)], expected, rtol=1e-4, atol=1e-5)


def test_loss_and_gradient_are_those_of_the_equations(model):
    logs = [
        torch.log_softmax(model.table.weight @ state, dim=0)[target]
        for items, targets in zip(BATCH.items.tolist(), BATCH.targets.tolist(), strict=True)
        for state, target in zip(states_of(model, [i for i in items if i >= 0]), targets, strict=False)
    ]
    assert len(logs) == 7
    expected, found = -torch.stack(logs).mean(), model.loss(BATCH)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    for mine, by_hand in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, by_hand, rtol=1e-3, atol=1e-5)


def test_a_later_item_changes_no_earlier_state(model):
    before = model.states(BATCH)[0]
    changed = BATCH.items.clone()
    changed[0, 2] = 15
    after = model.states(Batch(changed, BATCH.targets))[0]
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2:], after[2:], atol=1e-3)


def test_dropout_falls_on_the_item_vectors(model):
    model.train()
    torch.manual_seed(0)
    assert not torch.allclose(model.states(BATCH)[:, 0], model.states(BATCH)[:, 0], atol=1e-3)
