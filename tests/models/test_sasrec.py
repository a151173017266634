"""Against torch's own transformer with the same weights, and against the softmax written out."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model, spread, torchs_states

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.layers import CausalEncoder, QueryNormLayer
from bbqrec_cli.models.sasrec import SASRec

ITEMS, WIDTH, HEADS = 30, 16, 2


@pytest.fixture(params=["pre", "post", "query"])
def model(request) -> SASRec:
    torch.manual_seed(0)
    inner = 24 if request.param == "post" else 0
    options = {"width": WIDTH, "heads": HEADS, "layers": 2, "dropout": 0.0, "inner": inner, "norm": request.param}
    model = new_model("sasrec", ITEMS, history=8, **options)
    spread(model, 0.5)
    return model.eval()


@pytest.fixture
def batch() -> Batch:
    items = torch.tensor([[3, 7, 1, 9, 12], [5, 5, 2, -1, -1], [29, -1, -1, -1, -1]])
    targets = torch.tensor([[7, 1, 9, 12, 0], [5, 2, 8, -1, -1], [4, -1, -1, -1, -1]])
    return Batch(items, targets)


def test_states_are_those_of_torchs_transformer(model, batch):
    x = model.table(batch.items.clamp(min=0)) * (1 if model.post else WIDTH**0.5)
    own = isinstance(model.encoder.layers[0], QueryNormLayer)
    expected = rectools_states(model.encoder, x) if own else torchs_states(model.encoder, x)
    torch.testing.assert_close(model.states(batch)[batch.mask], expected[batch.mask], rtol=1e-4, atol=1e-5)


def rectools_states(encoder: CausalEncoder, x: torch.Tensor) -> torch.Tensor:
    """By torch's attention, the sums as in RecTools 0.13 and SASRec's own program. x (B, T, D) -> (B, T, D)."""
    x, later = x + encoder.positions.weight[: x.shape[1]], torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    for layer in encoder.layers:
        attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        query, both, out = layer.attention.query, layer.attention.key_value, layer.attention.out
        attention.load_state_dict(
            {
                "in_proj_weight": torch.cat([query.weight, both.weight]),
                "in_proj_bias": torch.cat([query.bias, both.bias]),
            }
            | {f"out_proj.{name}": value for name, value in out.state_dict().items()}
        )
        normed = layer.norms[0](x)
        normed = layer.norms[1](normed + attention(normed, x, x, attn_mask=later)[0])
        first, _, _, second = layer.feed_forward
        x = normed + second(first(normed).relu())
    return encoder.norm(x)


def test_item_dropout_draws_one_table_a_step(batch):
    """With no other dropout, the loss is that of a model with the dropped table; answers are of the whole one."""
    options = {"width": WIDTH, "heads": HEADS, "dropout": 0.0, "norm": "query"}
    model = new_model("sasrec", ITEMS, history=8, item_dropout=0.5, **options).train()
    plain = new_model("sasrec", ITEMS, history=8, **options)
    plain.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    found = model.loss(batch)
    torch.manual_seed(3)
    dropped = model.item_dropout(model.table.weight)
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    plain.table.weight.data = dropped.detach()
    torch.testing.assert_close(found, plain.loss(batch))
    (slope,) = torch.autograd.grad(found, model.table.weight)
    assert not slope[dropped == 0].any(), "nothing else of the table is seen"
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval().loss(batch), plain.eval().loss(batch))


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
