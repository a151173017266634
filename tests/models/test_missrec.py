"""Against torch's own transformer layers with the same weights, one user at a time, and against loops over items."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import spread
from torch import Tensor, nn

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import pad
from bbqrec_cli.errors import DataError
from bbqrec_cli.models import base, missrec
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.density_peaks import density_peaks
from bbqrec_cli.models.missrec import DIVERSITY_WEIGHT, Block, MISSRec, drop_items
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.records import Feature, ItemData, Vocabulary
from bbqrec_cli.stages.train import TrainConfig, run

ITEMS, WIDTH, HEADS, LAYERS = 15, 12, 2, 2
ABSENT = {"text": (4, 9), "image": (2, 9)}
"""Item 9 has neither."""


def items(*modalities: str) -> ItemData:
    rng, found = np.random.default_rng(0), {}
    for name, width in (("text", 6), ("image", 4)):
        present = ~np.isin(np.arange(ITEMS), ABSENT[name])
        values = rng.standard_normal((ITEMS, width)).astype(np.float32) * present[:, None]
        if name in modalities:
            found[name] = Feature(values=values, present=present)
    return ItemData(ids=Vocabulary(f"i{item}" for item in range(ITEMS)), features=found)


def made(*modalities: str, **more: float) -> MISSRec:
    options = {"width": WIDTH, "heads": HEADS, "layers": LAYERS, "dropout": 0.0, "history": 6, **more}
    torch.manual_seed(0)
    model = build_model("missrec", model_settings(model_config("missrec", options)), items(*modalities))
    assert isinstance(model, MISSRec)
    spread(model, 0.5)
    model.discover()
    return model.eval()


@pytest.fixture(params=[("text",), ("text", "image")], ids=["text", "both"])
def model(request) -> MISSRec:
    return made(*request.param)


@pytest.fixture
def batch() -> Batch:
    """Five prefixes, one target each; two have the same target, and the last is of the item without content."""
    rows = torch.from_numpy(pad([[3, 7, 7, 0, 14], [9, 2, 4], [5], [8, 4, 1, 11], [9]]))
    targets = torch.full_like(rows, -1)
    targets[torch.arange(5), (rows >= 0).sum(1) - 1] = torch.tensor([1, 13, 8, 1, 9])
    return Batch(rows, targets)


# The model once more, as the paper has it: one user, one item at a time


def torchs_layer(block: Block) -> nn.Module:
    """torch's encoder or decoder layer with the weights of ours."""
    kind = nn.TransformerEncoderLayer if len(block.attentions) == 1 else nn.TransformerDecoderLayer
    layer = kind(WIDTH, HEADS, dim_feedforward=WIDTH, dropout=0.0, activation="gelu", batch_first=True)
    weights, ours = {}, block.state_dict()
    for end in ("weight", "bias"):
        for number, name in enumerate(["self_attn", "multihead_attn"][: len(block.attentions)]):
            own = f"attentions.{number}"
            weights[f"{name}.in_proj_{end}"] = torch.cat([ours[f"{own}.query.{end}"], ours[f"{own}.key_value.{end}"]])
            weights[f"{name}.out_proj.{end}"] = ours[f"{own}.out.{end}"]
        weights |= {f"linear{n}.{end}": ours[f"feed_forward.{own}.{end}"] for n, own in ((1, 0), (2, 3))}
        weights |= {f"norm{n + 1}.{end}": ours[f"norms.{n}.{end}"] for n in range(len(block.norms))}
    layer.load_state_dict(weights)
    return layer.train()  # eval mode takes another way; there is no dropout


def content(model: MISSRec, item: int) -> list[Tensor]:
    """The adapted features that the item has."""
    found = []
    for name in model.modalities:
        if item not in ABSENT[name]:
            adapter = model.adapters[name]
            found.append(adapter.weight @ model.inputs[name].values[item] + adapter.bias)
    return found


def user(model: MISSRec, history: list[int], ids: bool = True) -> tuple[Tensor, Tensor]:
    """The unit vector of a history, and the square of its interests' sum."""
    touched = {
        int(model.memberships[m, item])
        for item in history for m, name in enumerate(model.modalities) if item not in ABSENT[name]
    }  # fmt: skip
    if touched:
        memory = model.centroids[sorted(touched)].unsqueeze(0)
        for block in model.encoder:
            memory = torchs_layer(block)(memory)
        memory = model.encoder_norm(memory)
        apart = memory.sum(1).square().mean()
    else:
        apart = torch.zeros(())
    x = []
    for position, item in enumerate(history):
        parts = [*content(model, item), model.positions.weight[position], *([model.table.weight[item]] if ids else [])]
        x.append(torch.stack(parts).sum(0))
    state = model.norm(torch.stack(x)).unsqueeze(0)
    for block in model.decoder:
        layer = torchs_layer(block)
        if touched:
            state = layer(state, memory)
        else:  # there is nothing to look at
            state = layer.norm2(layer.norm1(state + layer.self_attn(state, state, state)[0]))
            state = layer.norm3(state + layer.linear2(torch.nn.functional.gelu(layer.linear1(state))))
    last = model.decoder_norm(state)[0, -1]
    return last / last.norm(), apart


def score(model: MISSRec, state: Tensor, item: int, ids: bool = True) -> Tensor:
    parts = content(model, item)
    if not parts and not ids:
        return torch.zeros(())
    if len(model.modalities) == 1:
        fused = torch.stack([*parts, *([model.table.weight[item]] if ids else [])]).sum(0)
        return state @ fused / fused.norm()
    cosines = [state @ part / part.norm() for part in parts]
    weights = [(model.fusion * cosine).exp() for cosine in cosines]
    mixed = torch.zeros(())
    if parts:
        mixed = torch.stack([w * c for w, c in zip(weights, cosines, strict=True)]).sum() / torch.stack(weights).sum()
    if not ids:
        return mixed
    own = state @ model.table.weight[item] / model.table.weight[item].norm()
    return (own + len(parts) * mixed) / (1 + len(parts))


def histories(batch: Batch) -> list[list[int]]:
    return [[item for item in row if item >= 0] for row in batch.items.tolist()]


def loss(model: MISSRec, batch: Batch) -> Tensor:
    losses, terms = [], []
    for number, history in enumerate(histories(batch)):
        state, apart = user(model, history)
        logits = torch.stack([score(model, state, item) for item in range(ITEMS)]) / model.temperature
        losses.append(logits.exp().sum().log() - logits[batch.targets[number, len(history) - 1]])
        terms.append(apart)
    return torch.stack(losses).mean() + DIVERSITY_WEIGHT * torch.stack(terms).mean()


SHARED = ("table.weight", "positions.weight", "norm.weight", "decoder_norm.weight", "adapters.text.weight", "fusion")
"""Parameters that both use; torch's layers have copies of the others."""


def gradients(model: MISSRec, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if n in SHARED and p.grad is not None}


def test_users_are_those_of_torchs_transformer(model, batch):
    found, _ = model.users(batch.items, model.contents())
    expected = torch.stack([user(model, history)[0] for history in histories(batch)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_loss_and_gradients_are_those_of_all_items_one_by_one(model, batch):
    found, expected = model.loss(batch), loss(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    ours, theirs = gradients(model, found), gradients(model, expected)
    assert len(ours) == len(SHARED) - (len(model.modalities) == 1)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_recommend_scores_all_items(model, batch):
    found, scores = model.recommend(batch, Wanted(k=ITEMS))
    for number, history in enumerate(histories(batch)):
        state, _ = user(model, history)
        expected = torch.stack([score(model, state, item) for item in found[number].tolist()])
        torch.testing.assert_close(scores[number], expected.detach(), rtol=1e-4, atol=1e-5)


def test_recommend_by_blocks_of_items(model, batch, monkeypatch):
    """The same items; a product of other shapes may round its last bit otherwise."""
    wanted = Wanted(k=4, exclude=torch.full((len(batch.items), 1), 2))
    items, scores = model.eval().recommend(batch, wanted)
    monkeypatch.setattr(base, "CELLS", {"cpu": 5 * len(batch.items)})
    found, points = model.recommend(batch, wanted)
    assert torch.equal(found, items)
    torch.testing.assert_close(points, scores, rtol=0, atol=1e-6)


def test_pretraining_contrasts_with_the_batch_and_with_shortened_histories(model, batch, monkeypatch):
    dropped = [[3, 7, 0], [9, 2, 4], [5], [8, 11], [9]]
    monkeypatch.setattr(missrec, "SEQUENCE_WEIGHT", 1.0)  # 0.001 would hide what it weighs
    monkeypatch.setattr(missrec, "drop_items", lambda rows, share: shortened(batch, dropped))
    users, terms = zip(*(user(model, history, ids=False) for history in histories(batch)), strict=True)
    again, terms_again = zip(*(user(model, history, ids=False) for history in dropped), strict=True)
    targets, losses = [1, 13, 8, 1, 9], []
    for number, state in enumerate(users):
        others = [item for place, item in enumerate(targets) if place == number or item != targets[number]]
        logits = torch.stack([score(model, state, item, ids=False) for item in others]) / model.temperature
        with_items = logits.exp().sum().log() - logits[others.index(targets[number])]
        logits = torch.stack([state @ other for other in again]) / model.temperature
        losses.append(with_items + missrec.SEQUENCE_WEIGHT * (logits.exp().sum().log() - logits[number]))
    expected = torch.stack(losses).mean() + DIVERSITY_WEIGHT * torch.stack([*terms, *terms_again]).sum() / len(users)
    found = model.pretrain_loss(batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    ours, theirs = gradients(model, found), gradients(model, expected)
    assert "table.weight" not in ours, "pre-training knows no item embeddings"
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)


def shortened(batch: Batch, dropped: list[list[int]]) -> tuple[Tensor, Tensor]:
    """What `drop_items` would return had it left these items."""
    rows, order = torch.full_like(batch.items, -1), torch.zeros_like(batch.items)
    for number, (left, history) in enumerate(zip(dropped, histories(batch), strict=True)):
        rows[number, : len(left)] = torch.tensor(left)
        order[number, : len(left)] = torch.tensor([history.index(item) for item in left])
    return rows, order


def test_dropping_keeps_the_first_item_and_the_order():
    rows = torch.tensor([[3, 7, 9, 0, 14, 2], [9, 2, 4, -1, -1, -1], [5, -1, -1, -1, -1, -1]]).repeat(400, 1)
    torch.manual_seed(0)
    left, order = drop_items(rows, 0.25)
    assert (left[:, 0] == rows[:, 0]).all()
    for before, after, kept in zip(rows.tolist(), left.tolist(), order.tolist(), strict=True):
        count = sum(item >= 0 for item in after)
        assert all(item == -1 for item in after[count:])
        assert after[:count] == [before[place] for place in kept[:count]]
        assert kept[:count] == sorted(kept[:count])
    assert float((left[::3] >= 0).sum()) / 400 == pytest.approx(1 + 5 * 0.75, abs=0.15)
    assert torch.equal(drop_items(rows, 0.0)[0], rows)


# Interests


def peaks(vectors: np.ndarray, clusters: int, neighbours: int) -> tuple[list[int], list[int]]:
    """Centres and memberships, by the definition."""
    n = range(len(vectors))
    distance = [[math.dist(vectors[i], vectors[j]) / math.sqrt(vectors.shape[1]) for j in n] for i in n]
    density = [math.exp(-sum(d * d for d in sorted(distance[i])[:neighbours]) / neighbours) for i in n]
    farthest = max(map(max, distance))
    denser = [[j for j in n if (density[j], -j) > (density[i], -i)] for i in n]
    apart = [min([distance[i][j] for j in denser[i]], default=farthest) for i in n]
    centres = sorted(n, key=lambda i: -apart[i] * density[i])[:clusters]
    member = [min(range(clusters), key=lambda c: distance[i][centres[c]]) for i in n]
    for number, centre in enumerate(centres):
        member[centre] = number
    return centres, member


@pytest.mark.parametrize("cells", [1 << 24, 100])
@pytest.mark.parametrize(("clusters", "neighbours"), [(1, 1), (4, 3), (13, 7), (40, 40)])
def test_density_peaks_are_those_of_the_definition(clusters, neighbours, cells, monkeypatch):
    monkeypatch.setattr("bbqrec_cli.models.density_peaks.CELLS", cells)
    vectors = np.random.default_rng(clusters).standard_normal((40, 5)).astype(np.float32)
    centroids, members = density_peaks(torch.from_numpy(vectors), clusters=clusters, neighbours=neighbours)
    _, expected = peaks(vectors, clusters, neighbours)
    assert members.tolist() == expected
    for cluster in range(clusters):
        own = vectors[np.array(expected) == cluster].mean(0)
        np.testing.assert_allclose(centroids[cluster].numpy(), own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cells", [1 << 24, 1000])
def test_of_equal_vectors_one_is_a_centre(cells, monkeypatch):
    """A tenth of the vectors are copies of one: the others have all the centres but one."""
    monkeypatch.setattr("bbqrec_cli.models.density_peaks.CELLS", cells)
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32))
    vectors[::10] = vectors[0]
    centroids, members = density_peaks(vectors, clusters=20, neighbours=20)
    assert len(centroids.unique(dim=0)) == 20
    assert len(members[::10].unique()) == 1


def test_groups_far_apart_are_the_clusters():
    vectors = torch.cat([torch.randn(10, 3) + 50 * group for group in range(3)])
    _, members = density_peaks(vectors, clusters=3, neighbours=4)
    assert all(len(set(members[10 * group : 10 * group + 10].tolist())) == 1 for group in range(3))
    assert len(set(members.tolist())) == 3


@pytest.mark.parametrize(("ratio", "interests"), [(0.01, 1), (0.2, 6), (1.0, 26)])
def test_interests_are_a_share_of_the_vectors(ratio, interests):
    """13 texts and 13 pictures."""
    model = made("text", "image", interest_ratio=ratio)
    assert model.interests == len(model.centroids.unique(dim=0)) == interests
    assert set(model.memberships[model.present].tolist()) == set(range(interests))


def test_interests_are_those_of_what_is_there(model, batch):
    count = int(model.present.sum())
    assert model.interests == len(model.centroids) == math.ceil(0.5 * count)
    vectors = torch.stack([part for m, name in enumerate(model.modalities) for part in parts_of(model, name)])
    centroids, members = density_peaks(vectors, clusters=model.interests, neighbours=math.ceil(0.1 * count))
    torch.testing.assert_close(model.centroids, centroids)
    assert torch.equal(model.memberships[model.present], members)
    numbers, real = model.interests_of(batch.items)
    for row, history in enumerate(histories(batch)):
        touched = {
            int(model.memberships[m, i]) for i in history for m in range(len(model.present)) if model.present[m, i]
        }
        assert sorted(numbers[row][real[row]].tolist()) == sorted(touched)
    assert not real[4].any(), "the item without content touches none"


def parts_of(model: MISSRec, name: str) -> list[Tensor]:
    adapter = model.adapters[name]
    return [adapter(model.inputs[name].values[item]).detach() for item in range(ITEMS) if item not in ABSENT[name]]


# What a file has


def test_features_are_centred_and_scaled_where_they_are():
    feature = items("text").features["text"]
    found = torch.from_numpy(missrec.scaled(feature, *missrec.mean_and_length(feature)))
    there = found[torch.from_numpy(feature.present)]
    torch.testing.assert_close(there.mean(0), torch.zeros(6), rtol=0, atol=1e-6)
    assert float(there.square().sum(1).mean()) == pytest.approx(1, rel=1e-5)
    ratio = (feature.values[0] - feature.values[1]) / (found[0] - found[1]).numpy()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert not found[list(ABSENT["text"])].any()


def test_modalities_whose_names_no_module_may_have():
    usual = items("text", "image")
    named = dict(zip(("type", "clip.vec"), usual.features.values(), strict=True))
    settings = model_settings(model_config("missrec", {}))
    model = build_model("missrec", settings, dataclasses.replace(usual, features=named))
    assert model.modalities == ("type", "clip.vec")
    assert torch.isfinite(model.contents()).all()
    assert "inputs.text.mean" in build_model("missrec", settings, usual).state_dict(), "as in older files"


def test_modalities_are_those_that_some_item_has():
    assert made("text").modalities == ("text",)
    assert made("text", "image").modalities == ("text", "image")
    bare = items("text")
    bare.features["text"].present[:] = False
    with pytest.raises(DataError, match="no item has one"):
        build_model("missrec", model_settings(model_config("missrec", {})), bare)


@pytest.mark.parametrize("pretrain_epochs", [0, 2])
def test_interests_are_found_before_every_epoch_of_both_phases(files, tmp_path, monkeypatch, pretrain_epochs):
    found, discover = [], MISSRec.discover
    monkeypatch.setattr(MISSRec, "discover", lambda model: found.append(model) or discover(model))
    options = {"epochs": 3, "pretrain_epochs": pretrain_epochs, "width": 8, "heads": 2, "patience": 0}
    output = Path(tmp_path / "m.h5")
    made = run(TrainConfig(input=files["features"], output=output, model="missrec", options=options, device="cpu"))
    assert made.epochs == len(found) == 3 + pretrain_epochs
    rows = [row["epoch"] for row in hdf5.read_model(output).history if "ndcg@10" in row]
    assert rows == [1 + pretrain_epochs, 2 + pretrain_epochs, 3 + pretrain_epochs], "pre-training is not validated"
    assert {"adapters.text.weight", "adapters.image.weight"} <= hdf5.read_model(output).weights.keys()
