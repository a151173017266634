from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError, WrongKindError
from bbqrec_cli.records import Catalogue, Feature, Sequences, TrainedModel
from bbqrec_cli.tokenizers.methods.item_table import read_item_table, resize_vectors

TABLE = np.arange(36, dtype=np.float32).reshape(12, 3)


def model_of(catalogue: Catalogue, path, **weights: np.ndarray):
    made = TrainedModel(catalogue=catalogue, name="sasrec", settings={}, weights=weights, codes=None, history=[])
    hdf5.write_model(path, made, config={})
    return path


def training(catalogue: Catalogue) -> Sequences:
    return split_of(catalogue.sequences).train


def turned(catalogue: Catalogue) -> Catalogue:
    """The same catalogue with its items in the opposite order."""
    last = catalogue.items - 1
    sequences = dataclasses.replace(catalogue.sequences, items=(last - catalogue.sequences.items).astype(np.int32))
    return dataclasses.replace(
        catalogue, item_ids=catalogue.item_ids[::-1], titles=catalogue.titles[::-1], sequences=sequences, attributes={}
    )


def test_items_are_matched_by_their_ids(catalogue, tmp_path):
    path = model_of(turned(catalogue), tmp_path / "m.h5", **{"table.weight": TABLE})
    found = read_item_table(path, catalogue.item_ids, training(catalogue))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, TABLE[::-1])


def test_held_out_items_may_differ(catalogue, tmp_path):
    """Only what the model learnt from counts."""
    walks = [[*walk[:-2].tolist(), 0, 0] for walk in catalogue.sequences]
    other = dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))
    path = model_of(other, tmp_path / "m.h5", **{"table.weight": TABLE})
    np.testing.assert_array_equal(read_item_table(path, catalogue.item_ids, training(catalogue)), TABLE)


def test_what_can_not_serve(catalogue, tmp_path):
    bare = model_of(catalogue, tmp_path / "bare.h5", other=TABLE)
    with pytest.raises(DataError, match="sasrec has no item vectors"):
        read_item_table(bare, catalogue.item_ids, training(catalogue))
    short = model_of(catalogue, tmp_path / "short.h5", **{"table.weight": TABLE[:5]})
    with pytest.raises(DataError, match="has no item vectors"):
        read_item_table(short, catalogue.item_ids, training(catalogue))
    path = model_of(catalogue, tmp_path / "m.h5", **{"table.weight": TABLE})
    text = Feature(values=np.ones((12, 2), np.float32), present=np.ones(12, dtype=bool), encoder="x")
    for name, settings, features in (("sasrec", {"features": ["text"]}, {}), ("missrec", {}, {"text": text})):
        joined = tmp_path / f"{name}-joined.h5"
        made = dataclasses.replace(hdf5.read_model(path), name=name, settings=settings, features=features)
        hdf5.write_model(joined, made)
        with pytest.raises(DataError, match=f"the items of this {name} are made of features too"):
            read_item_table(joined, catalogue.item_ids, training(catalogue))
    with pytest.raises(DataError, match="does not know 1 of the items, 'new' first"):
        read_item_table(path, [*catalogue.item_ids, "new"], training(catalogue))
    with pytest.raises(DataError, match="may have seen held-out interactions"):
        read_item_table(path, catalogue.item_ids, catalogue.sequences)


def test_only_a_model_file_will_do(files, catalogue):
    with pytest.raises(WrongKindError):
        read_item_table(files["features"], catalogue.item_ids, training(catalogue))


def test_narrower_by_principal_directions():
    """What lies in two directions survives in two dimensions: all inner products stay."""
    generator = np.random.default_rng(0)
    table = generator.standard_normal((50, 2)) @ generator.standard_normal((2, 7))
    found = resize_vectors(table, 2, seed=0)
    assert found.shape == (50, 2)
    np.testing.assert_allclose(found @ found.T, table @ table.T, rtol=1e-4, atol=1e-4)
    values = np.linalg.svd(table - table.mean(0), compute_uv=False)
    spread = np.square(found - found.mean(0)).sum(0)
    np.testing.assert_allclose(spread, np.square(values[:2]), rtol=1e-4)


def test_wider_by_a_rotation():
    table = np.random.default_rng(0).standard_normal((50, 3))
    found = resize_vectors(table, 16, seed=0)
    assert found.shape == (50, 16)
    np.testing.assert_allclose(found @ found.T, table @ table.T, rtol=1e-4, atol=1e-4)
    assert (np.abs(found).max(0) > 0.1).all(), "no component is empty"
    np.testing.assert_array_equal(found, resize_vectors(table, 16, seed=0))
    assert not np.array_equal(found, resize_vectors(table, 16, seed=1))
    np.testing.assert_array_equal(resize_vectors(table, 3, seed=0), table.astype(np.float32))


def test_items_in_an_order_whose_inverse_is_another(tmp_path):
    order = np.array([1, 2, 3, 0])
    walks, place = [[0, 1, 2, 3], [2, 0, 1, 3], [3, 3, 0, 1]], np.argsort(order)
    theirs = Catalogue(
        user_ids=["x", "y", "z"], item_ids=["abcd"[item] for item in order], titles=[""] * 4,
        sequences=Sequences.from_lists([[int(place[item]) for item in walk] for walk in walks]),
    )  # fmt: skip
    weights = {"table.weight": np.arange(4, dtype=np.float32)[:, None]}
    model = TrainedModel(catalogue=theirs, name="sasrec", settings={}, weights=weights)
    hdf5.write_model(tmp_path / "m.h5", model, config={})
    mine = split_of(Sequences.from_lists(walks)).train
    np.testing.assert_array_equal(read_item_table(tmp_path / "m.h5", list("abcd"), mine)[:, 0], place)
