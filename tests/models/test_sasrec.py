"""Against torch's own transformer with the same weights, and against the softmax written out."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model, torchs_layer
from torch import nn

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.layers import CausalEncoder
from bbqrec_cli.models.sasrec import SASRec

ITEMS, WIDTH, HEADS = 30, 16, 2


@pytest.fixture(params=["pre", "post"])
def model(request) -> SASRec:
    torch.manual_seed(0)
    inner = 0 if request.param == "pre" else 24
    options = {"width": WIDTH, "heads": HEADS, "layers": 2, "dropout": 0.0, "inner": inner, "norm": request.param}
    model = new_model("sasrec", ITEMS, history=8, **options)
    with torch.no_grad():
        for parameter in model.parameters():  # the start is too small to tell right from wrong
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


@pytest.fixture
def batch() -> Batch:
    items = torch.tensor([[3, 7, 1, 9, 12], [5, 5, 2, -1, -1], [29, -1, -1, -1, -1]])
    targets = torch.tensor([[7, 1, 9, 12, 0], [5, 2, 8, -1, -1], [4, -1, -1, -1, -1]])
    return Batch(items, targets)


def torchs_states(encoder: CausalEncoder, x: torch.Tensor) -> torch.Tensor:
    x = x + encoder.positions.weight[: x.shape[1]]
    x = encoder.norm(x) if encoder.post else x
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
    for layer in encoder.layers:
        x = torchs_layer(layer)(x, src_mask=mask, is_causal=True)
    return x if encoder.post else encoder.norm(x)


def test_states_are_those_of_torchs_transformer(model, batch):
    x = model.table(batch.items.clamp(min=0)) * (1 if model.post else WIDTH**0.5)
    torch.testing.assert_close(
        model.states(batch)[batch.mask], torchs_states(model.encoder, x)[batch.mask], rtol=1e-4, atol=1e-5
    )


def test_padding_and_the_future_change_nothing(model, batch):
    alone = model.states(Batch(batch.items[1:2, :2], batch.targets[1:2, :2]))
    torch.testing.assert_close(model.states(batch)[1:2, :2], alone, rtol=1e-4, atol=1e-5)


def test_loss_is_the_mean_over_all_asked_positions(model, batch):
    states, expected = model.states(batch), []
    for user, position in (batch.targets >= 0).nonzero().tolist():
        logits = model.table.weight @ states[user, position]
        expected.append(logits.exp().sum().log() - logits[batch.targets[user, position]])
    assert len(expected) == 9
    torch.testing.assert_close(model.loss(batch), torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_recommend_scores_all_items_after_the_last_one(model, batch):
    found, scores = model.recommend(batch, Wanted(k=ITEMS))
    for user, length in enumerate(batch.lengths):
        expected = (model.table.weight @ model.states(batch)[user, length - 1]).detach()
        torch.testing.assert_close(scores[user], expected[found[user]], rtol=1e-4, atol=1e-5)
        assert sorted(found[user].tolist()) == list(range(ITEMS))


def test_scores_stay_exact_under_autocast(model, batch):
    """bfloat16 has 8 bits: neighbours in the ranking would tie, and rank by their row."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, scores = model.recommend(batch, Wanted(k=ITEMS))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
