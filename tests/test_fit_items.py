"""Codebooks learnt on a sample, codes for all: `bbqrec tokenize --fit-items`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import pytest
from helpers import changed, interrupted_in

from bbqrec_cli import hdf5
from bbqrec_cli.errors import DataError, InterruptedRunError, LackingError
from bbqrec_cli.records import Catalogue, Feature, Features, Sequences, Tokens, TrainedModel
from bbqrec_cli.stages import append
from bbqrec_cli.stages.append import AppendConfig
from bbqrec_cli.stages.tokenize import TokenizeConfig, run
from bbqrec_cli.tokenizers import training
from bbqrec_cli.tokenizers.assignment import blocks
from bbqrec_cli.tokenizers.assignment.blocks import draw_sample
from bbqrec_cli.tokenizers.assignment.config import ON_COLLISION
from bbqrec_cli.tokenizers.methods import letter
from bbqrec_cli.tokenizers.registry import build_tokenizer, tokenizer_config
from bbqrec_cli.training import trainer

KMEANS = {"levels": 2, "codebook_size": 4, "dim": 4}
TRAINED = KMEANS | {"hidden": 16, "epochs": 4, "batch_size": 5}
METHODS: dict[str, dict[str, Any]] = {
    "rqvae": TRAINED, "letter": TRAINED | {"collaborative_weight": 0.0}, "rqkmeans": KMEANS, "pq": KMEANS,
    "opq": KMEANS,
}  # fmt: skip
NO_TEXT = 10
"""The item without content."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Three of them in the tiny catalogue."""
    monkeypatch.setattr(blocks, "BLOCK", 5)


@pytest.fixture(params=METHODS)
def method(request) -> str:
    return request.param


@pytest.fixture
def tokenize(files, tmp_path):
    """`tokenize(method, …)`: what `bbqrec tokenize` of the tiny catalogue writes, by keywords of its configuration."""

    def make(method: str, name: str = "t.h5", **changes: Any) -> Tokens:
        values = {"features": files["features"], "output": tmp_path / name, "device": "cpu", "force": True} | changes
        if "append" in values:
            append.run(AppendConfig(**values))
        else:
            run(TokenizeConfig(method=method, **{"options": METHODS[method], "precision": "fp32"} | values))
        return hdf5.read_tokens(tmp_path / name)

    return make


def assert_same(one: Tokens, other: Tokens) -> None:
    for name in ("codes", "codebooks", "item_vectors", "present"):
        np.testing.assert_array_equal(getattr(one.codes, name), getattr(other.codes, name), err_msg=name)
    assert one.codes.codebook_size == other.codes.codebook_size
    assert one.catalogue.item_ids == other.catalogue.item_ids
    for name, value in one.encoder.weights.items():
        np.testing.assert_array_equal(other.encoder.weights[name], value, err_msg=name)


def learnt(tokens: Tokens) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in tokens.history]


@pytest.mark.parametrize("items", [11, 12, 1000])
def test_as_many_as_there_are_change_nothing(tokenize, method, items):
    """11 of the 12 items have content."""
    plain, sampled = tokenize(method), tokenize(method, fit_items=items)
    assert_same(plain, sampled)
    assert learnt(plain) == learnt(sampled)


@pytest.mark.parametrize("policy", ON_COLLISION)
def test_in_blocks_as_at_once(tokenize, method, policy, monkeypatch):
    """A sample that happens to be everything goes through the encoder in blocks, and gets the codes of `fit`."""
    plain = tokenize(method, on_collision=policy)
    monkeypatch.setattr(blocks, "draw_sample", lambda *_, **__: np.arange(12))
    assert_same(plain, tokenize(method, on_collision=policy, fit_items=6))


def part(features: Features, rows: np.ndarray) -> Features:
    """Some items, and nobody who took them."""
    whole = features.catalogue
    catalogue = Catalogue(
        user_ids=[], item_ids=[whole.item_ids[row] for row in rows], titles=[whole.titles[row] for row in rows],
        sequences=Sequences.from_lists([]),
    )  # fmt: skip
    picked = {
        name: dataclasses.replace(f, values=f.values[rows], present=f.present[rows])
        for name, f in features.features.items()
    }
    return Features(catalogue=catalogue, features=picked)


def sample(method: str, features: Features, items: int, seed: int = 0) -> np.ndarray:
    tokenizer = build_tokenizer(method, tokenizer_config(method, METHODS[method]))
    rows = draw_sample(tokenizer, method, {n: f.present for n, f in features.features.items()}, items, seed=seed)
    assert rows is not None
    return rows


def test_a_sample_is_a_catalogue_that_grows(tokenize, method, features, tmp_path):
    """The same as to tokenize the items that were drawn, and to append the others."""
    sampled = tokenize(method, fit_items=6, on_collision="share")
    rows = sample(method, features, 6)
    hdf5.write_features(tmp_path / "drawn.h5", part(features, rows), config={})
    few = tokenize(method, "few.h5", features=tmp_path / "drawn.h5", on_collision="share")
    np.testing.assert_array_equal(sampled.codes.codebooks, few.codes.codebooks)
    assert learnt(sampled) == learnt(few)
    grown = tokenize(method, "grown.h5", append=tmp_path / "few.h5", on_collision="share")
    place = [grown.catalogue.item_ids.index(item) for item in sampled.catalogue.item_ids]
    for name in ("codes", "item_vectors", "present"):
        np.testing.assert_array_equal(getattr(sampled.codes, name), getattr(grown.codes, name)[place], err_msg=name)


def test_what_is_drawn(features):
    drawn = [sample("rqkmeans", features, 4, seed) for seed in range(40)]
    assert all(len(rows) == 4 and (np.diff(rows) > 0).all() for rows in drawn)
    assert set(np.concatenate(drawn)) == set(range(12)) - {NO_TEXT}, "who has content, and any of them"
    assert len({rows.tobytes() for rows in drawn}) > 20
    np.testing.assert_array_equal(drawn[0], sample("rqkmeans", features, 4, 0))


def test_no_more_is_read_than_a_block(tokenize, method, monkeypatch, catalogue):
    asked, read = [], hdf5.read_feature_blocks

    def spy(path, names, starts, size):
        asked.extend((start, size) for start in starts)
        return read(path, names, starts, size)

    monkeypatch.setattr(hdf5, "read_item_data", lambda _: pytest.fail("all features were read"))
    monkeypatch.setattr(blocks, "read_feature_blocks", spy)
    tokens = tokenize(method, fit_items=6)
    assert asked == [(0, 5), (5, 5), (10, 5)] * 2
    assert len(tokens.codes.codes) == 12
    assert tokens.catalogue.titles == catalogue.titles
    assert np.flatnonzero(~tokens.codes.present[:, 0]).tolist() == [NO_TEXT]


def test_what_is_said_and_stored(bbqrec, files, tmp_path):
    said = bbqrec(
        "tokenize", files["features"], "-o", tmp_path / "t.h5", "--method", "rqkmeans", "--levels", 1,
        "--codebook-size", 4, "--dim", 4, "--fit-items", 6, "--on-collision", "share", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    found, codes = json.loads(said.out), hdf5.read_tokens(tmp_path / "t.h5").codes
    _, counts = np.unique(codes.codes.reshape(12, -1), axis=0, return_counts=True)
    assert found["items"] == 12
    assert found["colliding_items"] == counts[counts > 1].sum() > 6, "figures are of all items, not of the sample"
    assert found["figures"]["usage/content/1"] == len(np.unique(np.delete(codes.codes, NO_TEXT, axis=0)))
    config = hdf5.describe(tmp_path / "t.h5")["config"]
    assert config["fit_items"] == 6
    assert config["colliding_items"] == {"before": found["colliding_items"], "after": found["colliding_items"]}


def test_it_can_grow_later(tokenize, method, features, files, tmp_path):
    hdf5.write_features(tmp_path / "old.h5", part(features, np.arange(9)), config={})
    old = tokenize(method, "old-tokens.h5", features=tmp_path / "old.h5", fit_items=6, on_collision="share")
    grown = tokenize(method, "grown.h5", append=tmp_path / "old-tokens.h5", on_collision="share")
    np.testing.assert_array_equal(grown.codes.codes[:9], old.codes.codes)
    assert len(grown.codes.codes) == 12
    assert hdf5.describe(tmp_path / "grown.h5")["config"]["new_items"] == 3


def interrupted(tokenize, **changes: Any) -> None:
    with interrupted_in(3), pytest.raises(InterruptedRunError):
        tokenize("rqvae", **changes)


def test_resumed_is_uninterrupted(tokenize):
    interrupted(tokenize, fit_items=6)
    with pytest.raises(DataError, match="fit_items was 6 and is 7"):
        tokenize("rqvae", fit_items=7, resume=True)
    resumed, whole = tokenize("rqvae", fit_items=6, resume=True), tokenize("rqvae", "whole.h5", fit_items=6)
    assert_same(resumed, whole)
    assert learnt(resumed) == learnt(whole)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "bbqrec"], "alone; bbqrec does not"),
        (["--method", "random"], "alone; random does not"),
        (["--method", "rqkmeans", "--balanced"], "which would not keep --balanced"),
    ],
)
@pytest.mark.parametrize("items", [6, 1000])
def test_what_needs_all_items(bbqrec, files, tmp_path, options, says, items):
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *options, "--fit-items", items, "--json")
    error = json.loads(said.err.splitlines()[-1])
    assert (said.status, error["error"]) == (2, "usage")
    assert says in error["message"]
    assert "leave" in error["hint"]
    assert not (tmp_path / "t.h5").exists()


def test_append_has_its_tokenizer(bbqrec, files):
    said = bbqrec("tokenize", "--append", files["tokens"], files["features"], "--fit-items", 6)
    assert said.status == 2
    assert "--append keeps the tokenizer of its file: --fit-items has no effect" in said.err


@pytest.mark.parametrize("row", [0, 4, 8, 11])
@pytest.mark.parametrize("name", ["text", "image"])
def test_nan_is_found_before_anything_is_learnt(tokenize, features, tmp_path, monkeypatch, row, name):
    """In an item that was drawn or not, in a feature that is asked for or not: as without the option."""
    monkeypatch.setattr(trainer, "_steps", lambda *_: pytest.fail("it was trained"))
    values = features.features[name].values.copy()
    values[row, 1] = np.nan
    bad = changed(features, tmp_path / "f.h5", name, values=values)
    with pytest.raises(DataError, match=rf"features/{name}/values: NaN or infinity .* 'i{row}' \(row {row}\)"):
        tokenize("rqvae", features=bad, fit_items=1)


def test_a_feature_that_nobody_drawn_has(tokenize, features, tmp_path):
    lonely = np.zeros(12, dtype=bool)
    lonely[(set(range(12)) - set(sample("pq", features, 3)) - {NO_TEXT}).pop()] = True
    options = METHODS["pq"] | {"signals": ("text", "image")}
    rare = changed(features, tmp_path / "f.h5", "image", present=lonely)
    with pytest.raises(DataError, match="none of the 3 drawn items has the feature image"):
        tokenize("pq", features=rare, options=options, fit_items=3)


def test_letter_follows_the_vectors_of_the_sample(tokenize, features, catalogue, tmp_path, monkeypatch):
    table = np.random.default_rng(1).standard_normal((12, 6)).astype(np.float32)
    model = TrainedModel(catalogue=catalogue, name="sasrec", settings={}, weights={"table.weight": table})
    hdf5.write_model(tmp_path / "sasrec.h5", model, config={})
    seen, network = [], letter.LETTERNetwork

    def spy(config, content, followed):
        seen.append((content.values, followed))
        return network(config, content, followed)

    monkeypatch.setattr(letter, "LETTERNetwork", spy)
    options = TRAINED | {"collaborative": str(tmp_path / "sasrec.h5")}
    tokens = tokenize("letter", options=options, fit_items=6)
    rows = sample("letter", features, 6)
    [(values, followed)] = seen
    np.testing.assert_array_equal(followed, table[rows])
    text = Feature(values=features.features["text"].values[rows], present=np.ones(6, dtype=bool))
    np.testing.assert_allclose(values, (text.values - text.values.mean(0)) / text.values.std(0), rtol=1e-4, atol=1e-5)
    assert len(tokens.codes.codes) == 12


@pytest.mark.parametrize(
    ("name", "options", "advised"),
    [
        ("pq", {}, True),
        ("rqvae", {}, True),
        ("rqkmeans", {"balanced": True}, False),
        ("bbqrec", {"levels": 2, "codebook_size": 4}, False),
    ],
)
def test_out_of_memory_advises_a_sample(files, tokenize, tmp_path, monkeypatch, name, options, advised):
    """Where the method and its options have it."""
    made = tokenizer_config(name, options)

    def fails(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(type(build_tokenizer(name, made)), "fit", fails)
    with pytest.raises(LackingError if advised else RuntimeError, match="out of memory") as caught:
        run(
            TokenizeConfig(
                method=name, features=files["features"], output=tmp_path / "t.h5", options=options, device="cpu"
            )
        )
    assert not advised or "--fit-items 50000" in caught.value.hint
    if advised:
        with pytest.raises(LackingError) as caught:
            tokenize(name, fit_items=8)
        assert "--fit-items 4" in caught.value.hint


def test_an_input_that_changes_during_the_run(files, tokenize, tmp_path, monkeypatch):
    """Its items would get codes of what the codebooks never saw: refused, and the run goes on once it is back."""
    features, before = tmp_path / "features.h5", files["features"].read_bytes()
    features.write_bytes(before)
    whole, train = tokenize("rqvae", "whole.h5", features=features, fit_items=6), training.train

    def replaced(*args, **more):
        made = train(*args, **more)
        features.write_bytes(before + b"\0")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", replaced)
        with pytest.raises(DataError, match="has changed since the codebooks were learnt"):
            tokenize("rqvae", features=features, fit_items=6)
    features.write_bytes(before)
    assert_same(tokenize("rqvae", features=features, fit_items=6, resume=True), whole)
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", replaced)
        tokenize("rqvae", "all.h5", features=features)
    recorded = hdf5.describe(tmp_path / "all.h5")["parents"][0]["sha256"]
    assert recorded == hashlib.sha256(before).hexdigest() != hdf5.sha256(features)
