"""The model around the encoder; test_session_graph.py compares the encoder with the paper's equations."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model, one_session

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.srgnn import SRGNN

ITEMS, WIDTH = 15, 6
BATCH = Batch(
    torch.tensor([[3, 7, 3, 9], [5, 5, -1, -1], [14, -1, -1, -1]]),
    torch.tensor([[7, 3, 9, 12], [5, 2, -1, -1], [4, -1, -1, -1]]),
)


@pytest.fixture
def model() -> SRGNN:
    torch.manual_seed(0)
    made = new_model("srgnn", ITEMS, width=WIDTH, layers=2, dropout=0.5)
    with torch.no_grad():
        made.table.weight.normal_()  # the start is too small to tell right from wrong
    return made.eval()


def scores(model: SRGNN, prefix: list[int]) -> torch.Tensor:
    """Of all items after a session, by the paper's equations: (I,)."""
    return model.table.weight @ one_session(model.encoder, model.table.weight * WIDTH**0.5, prefix)


def test_the_loss_asks_every_prefix_by_itself(model):
    logs = []
    for user, position in (BATCH.targets >= 0).nonzero().tolist():
        after = scores(model, BATCH.items[user, : position + 1].tolist())
        logs.append(torch.log_softmax(after, dim=0)[BATCH.targets[user, position]])
    expected, found = -torch.stack(logs).mean(), model.loss(BATCH)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    for mine, by_hand in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, by_hand, rtol=1e-3, atol=1e-4)


def test_recommend_scores_all_items_after_the_whole_history(model):
    items, found = model.recommend(BATCH, Wanted(k=ITEMS))
    for user, row in enumerate(BATCH.items.tolist()):
        expected = scores(model, [item for item in row if item >= 0]).detach()
        torch.testing.assert_close(found[user], expected[items[user]], rtol=1e-4, atol=1e-5)
