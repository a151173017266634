"""Against the attention of the paper written out, a head and a pair of positions at a time."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from helpers import new_model, spread
from torch.nn.functional import cross_entropy, layer_norm

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.layers import Layer
from bbqrec_cli.models.nova_bert import NovaBERT

ITEMS, WIDTH, HEADS = 12, 16, 2
FUSIONS = ("add", "concat", "gate")


@pytest.fixture
def made(features):
    """`made(fusion)`: a model whose weights are large enough to tell right from wrong."""

    def made(fusion: str, **changed) -> NovaBERT:
        torch.manual_seed(0)
        model = new_model(
            "nova-bert", ITEMS, given=features.features | changed, width=WIDTH, heads=HEADS, layers=2, dropout=0.0,
            history=5, fusion=fusion,
        )  # fmt: skip
        spread(model, 0.4)
        return model.eval()

    return made


@pytest.fixture
def batch() -> Batch:
    """12 is a masked item; 5 has no picture, 10 no text."""
    items = torch.tensor([[3, 12, 1, 5], [10, 12, -1, -1]])
    targets = torch.tensor([[-1, 7, -1, -1], [-1, 0, -1, -1]])
    return Batch(items, targets)


def fused(fuse, sources: list[torch.Tensor]) -> torch.Tensor:
    """One vector of several, (D,) each."""
    if fuse.kind == "add":
        return sum(sources)
    if fuse.kind == "concat":
        return fuse.layer.weight @ torch.cat(sources) + fuse.layer.bias
    gates = [(fuse.layer.weight[0] @ source).exp() for source in sources]
    return sum(gate / sum(gates) * source for gate, source in zip(gates, sources, strict=True))


def attended(attention, x: torch.Tensor, side: list[list[torch.Tensor]]) -> torch.Tensor:
    """x (T, D); side: of each position, its vectors (D,)."""
    mixed = [fused(attention.fuse, [x[t], *side[t]]) for t in range(len(x))]
    part = WIDTH // HEADS
    found = torch.zeros(len(x), WIDTH)
    for head in range(HEADS):
        of_head = slice(head * part, (head + 1) * part)
        for t in range(len(x)):
            query = (attention.query.weight @ mixed[t] + attention.query.bias)[of_head]
            keys = [(attention.key_value.weight[:WIDTH] @ m + attention.key_value.bias[:WIDTH])[of_head] for m in mixed]
            values = [(attention.key_value.weight[WIDTH:] @ v + attention.key_value.bias[WIDTH:])[of_head] for v in x]
            weights = torch.stack([query @ key / math.sqrt(part) for key in keys]).softmax(0)
            found[t, of_head] = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return found @ attention.out.weight.T + attention.out.bias


def normed(norm, x: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, (WIDTH,), norm.weight, norm.bias)


def states(model: NovaBERT, rows: list[int]) -> torch.Tensor:
    """Of one user's items, (T, D)."""
    encoder = model.encoder
    identity, place, *modalities = encoder.norms
    x = torch.stack([normed(identity, model.masked if row == ITEMS else model.table.weight[row]) for row in rows])
    side = []
    for t, row in enumerate(rows):
        vectors = [normed(place, encoder.positions.weight[t])]
        for norm, each in zip(modalities, encoder.features.modalities, strict=True):
            there = row < ITEMS and bool(each.present[row])
            vectors.append(normed(norm, each.map.weight @ each.values[row] if there else each.absent))
        side.append(vectors)
    for layer in encoder.layers:
        assert isinstance(layer, Layer)
        assert layer.post_norm
        x = normed(layer.norms[0], x + attended(layer.attention, x, side))
        x = normed(layer.norms[1], x + layer.feed_forward(x))
    return x


@pytest.mark.parametrize("fusion", FUSIONS)
def test_states_and_loss_are_those_of_the_paper(made, batch, fusion):
    model, expected = made(fusion), []
    found = model.states(batch)
    for user, length in enumerate(batch.lengths.tolist()):
        own = states(model, batch.items[user, :length].tolist())
        torch.testing.assert_close(found[user, :length], own, rtol=1e-3, atol=1e-4)
        for t in range(length):
            if batch.targets[user, t] != PAD:
                logits = model.table.weight @ model.transform(own[t]) + model.bias
                expected.append(cross_entropy(logits, batch.targets[user, t]))
    torch.testing.assert_close(model.loss(batch), torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_features_of_a_masked_item_are_hidden(made, batch, features, fusion):
    text = features.features["text"]
    values = text.values.copy()
    values[[3, 7]] = values[[7, 3]]
    changed = made(fusion, text=dataclasses.replace(text, values=values))
    model = made(fusion)
    without = batch.items.clone()
    without[0, 0] = 2  # 7 is a target of the first user, and 3 in the history of nobody
    for items, same in ((without, True), (batch.items, False)):
        one, other = (each.states(Batch(items, batch.targets))[batch.mask] for each in (model, changed))
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5) == same


def test_features_move_the_attention_and_no_value(made, batch):
    """With one item in view there is nowhere else to look, and features change nothing."""
    model = made("gate")
    layer = model.encoder.layers[0].attention
    x, side = torch.randn(1, 3, WIDTH), torch.randn(2, 3, 1, 3, WIDTH)
    alone, all_of_them = torch.eye(3, dtype=torch.bool).unsqueeze(0), torch.ones(1, 3, 3, dtype=torch.bool)
    one, other = (layer(x, x, alone, side=each) for each in side)
    torch.testing.assert_close(one, other)
    one, other = (layer(x, x, all_of_them, side=each) for each in side)
    assert (one - other).abs().max() > 1e-2


def test_recommend_asks_at_the_place_after_the_history(made):
    model = made("gate")
    items = torch.tensor([[3, 7, 1, 5, 2], [10, -1, -1, -1, -1]])
    found, scores = model.recommend(Batch(items, items), Wanted(k=ITEMS))
    for user, length in enumerate((5, 1)):
        last = states(model, [*items[user, :length].tolist(), ITEMS])[-1]
        expected = model.table.weight @ model.transform(last) + model.bias
        torch.testing.assert_close(scores[user], expected[found[user]], rtol=1e-3, atol=1e-4)
