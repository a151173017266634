"""Against torch's own transformer with the same weights, and against the softmax written out."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model, spread, torchs_layer
from torch.nn.functional import cross_entropy, gelu, layer_norm

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD, pad
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.bert4rec import BERT4Rec
from bbqrec_cli.models.registry import model_config
from bbqrec_cli.records import Sequences

ITEMS, WIDTH, HISTORY = 30, 16, 6


@pytest.fixture
def model() -> BERT4Rec:
    torch.manual_seed(0)
    model = new_model("bert4rec", ITEMS, width=WIDTH, heads=2, layers=2, dropout=0.0, history=HISTORY)
    spread(model, 0.5)
    return model.eval()


@pytest.fixture
def batch() -> Batch:
    """30 is a masked item."""
    items = torch.tensor([[3, 30, 1, 9, 30], [30, 5, 2, -1, -1], [29, 30, -1, -1, -1]])
    targets = torch.tensor([[-1, 7, -1, -1, 12], [5, -1, -1, -1, -1], [-1, 0, -1, -1, -1]])
    return Batch(items, targets)


def torchs_states(model: BERT4Rec, items: torch.Tensor) -> torch.Tensor:
    encoder, rows = model.encoder, torch.cat([model.table.weight, model.masked.unsqueeze(0)])
    x = rows[items.clamp(min=0)] + encoder.positions.weight[: items.shape[1]]
    x = layer_norm(x, (WIDTH,), encoder.norm.weight, encoder.norm.bias)
    for layer in encoder.layers:
        x = torchs_layer(layer).train()(x, src_key_padding_mask=items == PAD)
    return x


def logits(model: BERT4Rec, states: torch.Tensor) -> torch.Tensor:
    linear, _, norm = model.transform
    states = layer_norm(gelu(states @ linear.weight.T + linear.bias), (WIDTH,), norm.weight, norm.bias)
    return states @ model.table.weight.T + model.bias


def test_states_are_those_of_torchs_transformer(model, batch):
    expected = torchs_states(model, batch.items)
    torch.testing.assert_close(model.states(batch)[batch.mask], expected[batch.mask], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_and_what_follows_does(model, batch):
    alone = model.states(Batch(batch.items[1:2, :3], batch.targets[1:2, :3]))
    torch.testing.assert_close(model.states(batch)[1:2, :3], alone, rtol=1e-4, atol=1e-5)
    items = batch.items.clone()
    items[1, 2] = 8
    assert (model.states(Batch(items, batch.targets))[1, 0] - alone[0, 0]).abs().max() > 1e-3


def test_loss_and_gradients_are_those_of_the_whole_softmax(model, batch):
    asked = batch.targets != PAD
    expected = cross_entropy(logits(model, torchs_states(model, batch.items)[asked]), batch.targets[asked])
    torch.testing.assert_close(model.loss(batch), expected, rtol=1e-4, atol=1e-5)
    names, parameters = zip(
        *((n, p) for n, p in model.named_parameters() if not n.startswith("encoder.layers")), strict=True
    )
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (model.loss(batch), expected))
    for name, mine, other in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5, msg=name)


def test_recommending_asks_for_the_item_after_the_history(model):
    batch = Batch(*[torch.from_numpy(pad([[3, 7, 1, 9, 12, 4], [5], [8, 8]]))] * 2)
    found, scores = model.recommend(batch, Wanted(k=ITEMS))
    for user, length in enumerate(batch.lengths.tolist()):
        asked = torch.cat([batch.items[user, :length], torch.tensor([ITEMS])]).unsqueeze(0)
        expected = logits(model, torchs_states(model, asked)[0, -1])
        torch.testing.assert_close(scores[user], expected[found[user]], rtol=1e-4, atol=1e-5)
        assert sorted(found[user].tolist()) == list(range(ITEMS))


@pytest.mark.parametrize(("options", "masked"), [
    ({"mask_share": 1.0, "last_only": 0.0}, [0, 1, 2, 3, 4]), ({"mask_share": 1.0, "last_only": 1.0}, [4]),
    ({"mask_share": 0.0, "last_only": 0.0}, [4]),
])  # fmt: skip
def test_what_is_masked(model, options, masked):
    """All items, or only the last one, also where none would be."""
    train = Sequences.from_lists([[7, 3, 8, 1, 2]] * 40)
    (phase,) = model.phases(train, model_config("bert4rec", options), seed=0)
    for batch in phase.batches.epoch(0):
        for items, targets in zip(batch.items.tolist(), batch.targets.tolist(), strict=True):
            assert [at for at, item in enumerate(items) if item == ITEMS] == masked
            assert [item for item in targets if item != PAD] == [[7, 3, 8, 1, 2][at] for at in masked]


def test_the_whole_history_and_the_mask_have_positions_that_were_trained(model):
    """The history is not cut by an item to make place for the mask."""
    long = list(range(10, 20))
    batches = [Batch(*[torch.from_numpy(pad([row], history=model.history))] * 2) for row in (long, long[-HISTORY:])]
    (_, cut), (_, short) = (model.recommend(batch, Wanted(k=ITEMS)) for batch in batches)
    assert torch.equal(cut, short)
    other = batches[0].items.clone()
    other[0, 0] = 25
    assert not torch.equal(model.recommend(Batch(other, other), Wanted(k=ITEMS))[1], cut)
    (phase,) = model.phases(Sequences.from_lists([long]), model_config("bert4rec", {"last_only": 1.0}), seed=0)
    windows = [batch.items for epoch in range(20) for batch in phase.batches.epoch(epoch)]
    longest = max(windows, key=lambda items: items.shape[1])
    assert longest.shape[1] == HISTORY + 1 == len(model.encoder.positions.weight)
    assert (longest[:, HISTORY] == ITEMS).any()
