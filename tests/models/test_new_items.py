"""A model for more items than it was trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers import new_model

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.new_items import first_tuples, moved_rows, tuple_places, with_tokens
from bbqrec_cli.models.registry import load_model
from bbqrec_cli.records import Tokens, TrainedModel

CPU = torch.device("cpu")
NEW = np.array([[[1, 0], [0, 0]], [[0, 0], [3, 2]], [[2, 3], [1, 1]]], dtype=np.uint16)
"""A tuple (1, 0) between the old ones of the first level, an old one, one behind them."""


@pytest.fixture(scope="module")
def grown(tokens) -> Tokens:
    catalogue, codes = tokens.catalogue, tokens.codes
    more = dataclasses.replace(
        catalogue, item_ids=[*catalogue.item_ids, "n0", "n1", "n2"], titles=[*catalogue.titles, "", "", ""],
        attributes={},
    )  # fmt: skip
    vectors = np.concatenate([codes.item_vectors, np.ones((3, codes.item_vectors.shape[1]), dtype=np.float32)])
    return Tokens(
        catalogue=more,
        codes=dataclasses.replace(codes, codes=np.concatenate([codes.codes, NEW]), item_vectors=vectors),
    )


def trained(tokens: Tokens, name: str = "bbqrec", *, spread: float = 1.0, **changes) -> TrainedModel:
    settings = {"width": 8, "layers": 1, "decoder_layers": 1, "heads": 2, "similarity_buckets": 10} | changes
    torch.manual_seed(0)
    model = new_model(name, 12, tokens.codes, **settings)
    for parameter in model.parameters():
        parameter.data.normal_(std=spread)
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    return TrainedModel(catalogue=tokens.catalogue, name=name, settings=settings, weights=weights, codes=tokens.codes)


def test_rows_of_tuples(tokens, grown):
    assert first_tuples(tokens.codes).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert first_tuples(grown.codes).tolist() == [[0, 0], [1, 0], [1, 1], [2, 2], [2, 3]]
    weights = {"tuples": np.arange(6.0).reshape(3, 2), "tuple_bias": np.array([1.0, 2, 3]), "start": np.ones(2)}
    made = moved_rows(weights, tuple_places(tokens.codes, grown.codes))
    assert made["tuples"].tolist() == [[0, 1], [0, 0], [2, 3], [4, 5], [0, 0]]
    assert made["tuple_bias"].tolist() == [1, 0, 2, 3, 0]
    assert made["start"] is weights["start"]
    assert weights["tuples"].shape == (3, 2)


def scores(model: TrainedModel, histories: list[list[int]]) -> np.ndarray:
    items = torch.tensor(histories)
    return load_model(model, CPU).score_all(Batch(items, torch.full_like(items, -1))).numpy()


def test_among_old_items_nothing_moves(tokens, grown):
    """By the softmax over all codes an old item's probability does not depend on which others exist."""
    before = trained(tokens, normalisation="codes")
    after = with_tokens(before, grown, where="g.h5")
    histories = [[0, 1, 2], [5, 4, 9]]
    np.testing.assert_allclose(scores(after, histories)[:, :12], scores(before, histories), rtol=1e-5)


@pytest.mark.parametrize("kind", ["free", "interaction"])
def test_new_items_take_their_share(tokens, grown, kind):
    """By that over what exists, all old items below a first tuple without new ones lose alike, and all sum to one."""
    before = trained(tokens, tuple_vectors=kind, spread=0.5)
    after = with_tokens(before, grown, where="g.h5")
    old, new = (scores(model, [[0, 1, 2], [5, 4, 9]]) for model in (before, after))
    lost = old[:, 4:12] - new[:, 4:12]
    np.testing.assert_allclose(lost, np.broadcast_to(lost[:, :1], lost.shape), atol=1e-4)
    assert (lost > 0).all()
    np.testing.assert_allclose(np.exp(new).sum(1), 1, rtol=1e-4)


def test_a_new_tuple_is_what_its_codes_say_together(tokens, grown):
    after = load_model(with_tokens(trained(tokens, tuple_vectors="interaction"), grown, where="g.h5"), CPU)
    free = load_model(with_tokens(trained(tokens), grown, where="g.h5"), CPU)
    for row in (1, 4):
        assert after.of_tuples()[0][row].abs().max() > 0.1
        assert not free.of_tuples()[0][row].any()


@pytest.mark.parametrize("kind", ["free", "interaction"])
def test_new_items_are_recommended(tokens, grown, kind):
    model = load_model(with_tokens(trained(tokens, tuple_vectors=kind), grown, where="g.h5"), CPU)
    items = torch.tensor([[0, 13, 2], [14, 12, 13]])  # the history may hold new ones
    found, points = model.recommend(Batch(items, torch.full_like(items, -1)), Wanted(k=15, beam=50))
    assert [sorted(row) for row in found.tolist()] == [list(range(15))] * 2
    reference = model.score_all(Batch(items, torch.full_like(items, -1))).gather(1, found)
    np.testing.assert_allclose(points, reference, rtol=1e-4)


def test_tokens_that_do_not_fit(tokens, grown):
    model = trained(tokens)
    codes = grown.codes
    other = codes.codes.copy()
    other[4, 1, 0] = 3
    for wrong in (
        dataclasses.replace(codes, codes=other),
        dataclasses.replace(codes, codebook_size=5),
        dataclasses.replace(codes, modalities=("id", "image")),
        dataclasses.replace(codes, codes=codes.codes[:, :1]),
    ):
        with pytest.raises(DataError, match=r"g\.h5: does not extend"):
            with_tokens(model, dataclasses.replace(grown, codes=wrong), where="g.h5")
    fewer = dataclasses.replace(grown.catalogue, item_ids=grown.catalogue.item_ids[1:])
    with pytest.raises(DataError, match="does not extend"):
        with_tokens(model, Tokens(catalogue=fewer, codes=codes), where="g.h5")
    bare = dataclasses.replace(model, name="sasrec", codes=None)
    with pytest.raises(DataError, match="sasrec has no semantic IDs") as error:
        with_tokens(bare, grown, where="g.h5")
    assert "bbqrec train g.h5 --model sasrec" in error.value.hint
