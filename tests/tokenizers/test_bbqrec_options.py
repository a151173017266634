"""The options beside the paper's: popularity, the warm start, the sequence encoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bbqrec_cli import hdf5
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.records import Catalogue, Sequences, TrainedModel
from bbqrec_cli.tokenizers.methods.bbqrec import method as bbqrec
from bbqrec_cli.tokenizers.methods.bbqrec.network import EncodedBatch
from bbqrec_cli.training.trainer import RunSettings

OPTIONS = [
    {"popularity": "loss"},
    {"popularity": "ranking"},
    {"sequence_encoder": "srgnn"},
]


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_each_learns_what_comes_next(inputs, small, fit, changes):
    made = fit(inputs, small(**changes))
    assert made.history[-1]["quantised"]
    assert made.history[-1]["ndcg@10"] > 0.95
    assert made.history[-1]["colliding_items"] == 0


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_every_parameter_gets_a_gradient(inputs, small, network, one_batch, changes):
    model = network(inputs, small(**changes), shares=np.full(12, 1 / 12))
    bbqrec.initialise(model, RunSettings())
    model.train().loss(one_batch(inputs))["loss"].backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in unused if not name.startswith("clubs.")}


def test_the_items_of_a_step_are_encoded_once(inputs, small, network, one_batch, monkeypatch):
    """One batch norm sees histories and candidates: no item has two vectors in a step."""
    model = network(inputs, small()).train()
    asked = []
    encode = type(model).encode

    def spy(self, rows):
        asked.append(rows)
        return encode(self, rows)

    monkeypatch.setattr(type(model), "encode", spy)
    encoded = model.encoded(one_batch(inputs))
    assert len(asked) == 1
    assert len(set(asked[0].tolist())) == len(asked[0])
    compared = encoded.rows[: encoded.targets].tolist()
    assert set(encoded.rows[encoded.target].tolist()) == set(compared)


def test_the_chance_to_be_drawn(inputs, small, network):
    """By counting draws: P targets by popularity."""
    shares, rng = np.array([0.3, 0.2, 0.1, *[0.4 / 9] * 9]), np.random.default_rng(0)
    model = network(inputs, small(popularity="loss"), shares=shares).eval()
    times, seen = 20000, np.zeros(12)
    for _ in range(times):
        seen[np.unique(rng.choice(12, 6, p=shares))] += 1
    every, nothing = torch.arange(12), torch.zeros(12, 0)
    batch = EncodedBatch(
        rows=every, target=torch.zeros(6, dtype=torch.int64), targets=12, position=nothing, present=nothing, z=nothing,
        specific={},
    )  # fmt: skip
    np.testing.assert_allclose(torch.exp(-model.candidate_rarity(batch)), seen / times, atol=0.015)


def test_ranking_by_popularity_changes_no_id(inputs, small, fit):
    """It is about what is measured, not about what is learnt."""
    plain, ranked = (fit(inputs, small(epochs=6, popularity=each)) for each in ("none", "ranking"))
    np.testing.assert_array_equal(plain.codes.codes, ranked.codes.codes)
    np.testing.assert_array_equal(plain.codes.item_vectors, ranked.codes.item_vectors)


def test_what_ranking_adds(inputs, small, network):
    """τ times the log of the chance to be a negative: nothing but a constant where all items are alike."""
    shares = np.array([0.3, 0.2, 0.1, *[0.4 / 9] * 9])
    model = network(inputs, small(popularity="ranking"), shares=shares, targets=6)
    expected = 0.1 * np.log(1 - (1 - shares) ** 6)
    np.testing.assert_allclose(model.prior(), expected, rtol=1e-4)
    assert network(inputs, small(), shares=shares).prior() is None


def test_a_seed_gives_one_result(inputs, small, fit):
    one, same = (fit(inputs, small(epochs=6, popularity="loss"), seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.codes.codes, same.codes.codes)
    np.testing.assert_array_equal(one.codes.codebooks, same.codes.codebooks)


@pytest.mark.parametrize(
    ("encoder", "levels", "dim", "size"),
    [("sasrec", 1, 32, 64), ("sasrec", 4, 256, 512), ("srgnn", 1, 32, 64), ("srgnn", 2, 64, 512)],
)
def test_the_paper_s_sizes(inputs, small, fit, encoder, levels, dim, size):
    """Figure 3: D from 32 to 256, N from 64 to 512, L from 1 to 4, with the default heads."""
    sizes = {"levels": levels, "dim": dim, "codebook_size": size, "sequence_heads": 4}
    made = fit(inputs, small(epochs=2, sequence_encoder=encoder, **sizes))
    assert made.codes.codebooks.shape == (1, levels, size, dim)
    assert np.isfinite(made.history[-1]["loss"])


def test_sr_gnn_has_no_heads(inputs, small, fit):
    assert fit(inputs, small(epochs=2, sequence_encoder="srgnn", sequence_heads=5)).codes.codes.shape == (12, 2, 3)


@pytest.fixture
def trained(inputs, tmp_path):
    """A model file whose item vectors are 3 wide."""
    walks = [[*walk, 0, 0] for walk in inputs.train]
    catalogue = Catalogue(
        user_ids=[str(user) for user in range(len(walks))], item_ids=inputs.item_ids, titles=[""] * 12,
        sequences=Sequences.from_lists(walks),
    )  # fmt: skip
    table = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    model = TrainedModel(catalogue=catalogue, name="sasrec", settings={}, weights={"table.weight": table})
    hdf5.write_model(tmp_path / "model.h5", model, config={})
    return tmp_path / "model.h5", table


def test_warm_start(inputs, small, fit, trained, monkeypatch):
    """The ID signal begins where the model ended, in direction; all else begins as it would."""
    path, table = trained
    started = []

    def stop(make, *_, **__):
        started.append(make())
        raise KeyboardInterrupt

    monkeypatch.setattr(bbqrec, "fit_tokenizer", stop)
    for changes in ({}, {"warm_start": str(path)}):
        torch.manual_seed(0)
        with pytest.raises(KeyboardInterrupt):
            fit(inputs, small(**changes))
    cold, warm = (dict(model.named_parameters()) for model in started)
    assert {name for name in cold if not torch.equal(cold[name], warm[name])} == {"ids.weight"}
    length = table / np.linalg.norm(table, axis=1, keepdims=True)
    found = warm["ids.weight"].detach().numpy()
    np.testing.assert_allclose(found @ found.T, length @ length.T, atol=1e-5)


def test_warm_start_of_what_can_not_be(inputs, small, fit, trained):
    path, _ = trained
    with pytest.raises(UsageError, match="--warm-start needs the signal id"):
        fit(inputs, small(warm_start=str(path), signals=("text",)))
    fewer = dataclasses.replace(inputs, train=inputs.train.without_last(1))
    with pytest.raises(DataError, match="may have seen held-out interactions"):
        fit(fewer, small(warm_start=str(path)))
