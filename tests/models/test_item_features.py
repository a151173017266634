"""Against the sum written out item by item."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers import Listener, new_model
from torch.nn.functional import cross_entropy

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.item_features import ALL, ItemFeatures
from bbqrec_cli.models.item_model import ItemModel
from bbqrec_cli.models.layers import embedding
from bbqrec_cli.models.registry import MODELS, model_config, model_settings
from bbqrec_cli.stages import evaluate, train

WIDTH = 6


@pytest.fixture
def joined(features) -> ItemFeatures:
    torch.manual_seed(0)
    return ItemFeatures(features.features, ALL, width=WIDTH)


def written_out(joined: ItemFeatures, features, table: torch.Tensor, item: int) -> np.ndarray:
    expected = table[item].detach().double().numpy().copy()
    for name, modality in zip(("text", "image"), joined.modalities, strict=True):
        feature = features.features[name]
        if not feature.present[item]:
            expected += modality.absent.detach().numpy()
            continue
        having = feature.values[feature.present].astype(np.float64)
        standard = (feature.values[item] - having.mean(0)) / having.std(0)
        expected += modality.map.weight.detach().double().numpy() @ (standard / np.sqrt(8))
    return expected


def test_vectors_are_the_sum_of_embedding_and_mapped_features(joined, features):
    table = embedding(12, WIDTH)
    whole = joined(table.weight)
    assert (joined.names, whole.shape) == (("text", "image"), (12, WIDTH))
    for item in range(12):
        np.testing.assert_allclose(
            whole[item].detach().numpy(), written_out(joined, features, table.weight, item), rtol=1e-4, atol=1e-6
        )
    rows = torch.tensor([[5, 0, 5], [10, 11, 3]])
    torch.testing.assert_close(joined(table(rows), rows), whole[rows], rtol=1e-5, atol=1e-7)


def test_rows_that_are_no_items_have_no_features(joined):
    for modality in joined.modalities:
        assert torch.equal(modality(torch.tensor([-1, 12])), modality.absent.expand(2, WIDTH))


def test_mean_and_scale_travel_with_the_weights(joined, features):
    """Weights of the first items read them as before; weights that lack both are those of an older file."""
    first = {
        name: dataclasses.replace(each, values=each.values[:7], present=each.present[:7])
        for name, each in features.features.items()
    }
    fewer, own = ItemFeatures(first, ALL, width=WIDTH), joined.vectors()
    bare = {key: value.clone() for key, value in joined.state_dict().items() if not key.endswith((".mean", ".scale"))}
    assert len(bare) == len(joined.state_dict()) - 4
    joined.load_state_dict(fewer.state_dict())
    for mine, theirs in zip(joined.vectors(), fewer.vectors(), strict=True):
        torch.testing.assert_close(mine[:7], theirs, rtol=1e-5, atol=1e-7)
    again = ItemFeatures(features.features, ALL, width=WIDTH)
    again.load_state_dict(joined.state_dict())
    assert all(map(torch.equal, again.vectors(), joined.vectors()))
    fresh = ItemFeatures(features.features, ALL, width=WIDTH)
    fresh.load_state_dict(bare)
    assert all(map(torch.equal, fresh.vectors(), own))
    joined.load_state_dict(bare)
    for mine, theirs in zip(joined.vectors(), own, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_vectors_start_on_the_scale_of_embeddings(features):
    """Else one drowns the other, and Adam, whose steps have one size, moves one much faster."""
    generator = np.random.default_rng(0)
    for width in (8, 512):
        values = generator.standard_normal((1000, width)).astype(np.float32) * 30 + 5
        wide = dataclasses.replace(features.features["text"], values=values, present=np.ones(1000, dtype=bool))
        (vectors,) = ItemFeatures({"text": wide}, ("text",), width=64).vectors()
        assert vectors.std().item() == pytest.approx(embedding(1000, 64).weight.std().item(), rel=0.2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("txt",), "--features names 'txt'; the input has text \\(did you mean 'text'"),
        (("image",), "--features names 'image'; no item has it"),
    ],
)
def test_unknown_features_are_named(features, names, message):
    image = features.features["image"]
    there = {**features.features, "image": dataclasses.replace(image, present=np.zeros(12, dtype=bool))}
    assert ItemFeatures(there, ALL, width=WIDTH).names == ("text",)
    with pytest.raises(DataError, match=message):
        ItemFeatures(there, names, width=WIDTH)


def test_the_model_file_keeps_the_features_that_are_read(files, tmp_path):
    listener = Listener()
    small = {"epochs": 1, "width": 8, "layers": 1, "features": ["image"]}
    config = train.TrainConfig(
        input=files["features"], output=tmp_path / "m.h5", model="nova-bert", options=small, device="cpu"
    )
    trained = train.run(config, listener)
    assert "nova-bert reads the features image" in listener.logged
    assert set(hdf5.read_model(trained.output).features) == {"image"}
    again = evaluate.run(
        evaluate.EvaluateConfig(model=trained.output, output=tmp_path / "e.h5", split="validation", device="cpu")
    )
    assert again.aggregates["ndcg@10"] == pytest.approx(trained.validation["ndcg@10"])


@pytest.mark.parametrize("name", [name for name in MODELS if issubclass(MODELS.implementation(name), ItemModel)])
def test_an_item_model_reads_and_scores_the_joined_vectors(name, features):
    """The same as the model without features whose table holds the joined vectors."""
    torch.manual_seed(0)
    known = {f.name for f in dataclasses.fields(MODELS.config(name))}
    small = {key: value for key, value in {"width": 8, "heads": 2, "dropout": 0.0}.items() if key in known}
    model = new_model(name, given=features.features, **small, features=["all"]).eval()
    plain = new_model(name, **small).eval()
    with torch.no_grad():
        model.table.weight.normal_()
        plain.load_state_dict({key: model.state_dict()[key] for key in plain.state_dict()})
        plain.table.weight.copy_(ItemModel.items(model))
    batch = Batch(torch.tensor([[3, 10, 1], [5, 2, -1]]), torch.tensor([[10, 1, 9], [2, 8, -1]]))
    torch.testing.assert_close(model.loss(batch), plain.loss(batch))
    for mine, other in zip(model.recommend(batch, Wanted(k=12)), plain.recommend(batch, Wanted(k=12)), strict=True):
        torch.testing.assert_close(mine, other)
    expected = cross_entropy(model.states(batch)[batch.mask] @ model.items().T, batch.targets[batch.mask])
    maps = [modality.map.weight for modality in model.features.modalities]
    ours, theirs = (torch.autograd.grad(loss, maps) for loss in (model.loss(batch), expected))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_features_are_needed_where_they_are_named(files, tmp_path):
    def needed(**options) -> frozenset[str]:
        return MODELS.implementation("sasrec").needed(model_settings(model_config("sasrec", options)))

    assert needed() == frozenset()
    assert needed(features=["text"]) == {"features"}
    config = train.TrainConfig(
        input=files["tokens"], output=tmp_path / "m.h5", model="sasrec", options={"features": ["all"]}, device="cpu"
    )
    with pytest.raises(DataError, match="sasrec needs features") as caught:
        train.run(config)
    assert caught.value.hint == "bbqrec embed"
