"""Whatever is done about items that share an ID: each can be recommended, and is found where it is the target."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.assignment.collisions import warn_of_shared
from bbqrec_cli.tokenizers.assignment.config import ON_COLLISION


@pytest.fixture(scope="module")
def alike(features, tmp_path_factory) -> Path:
    """Items 0 to 4 have one text, 5 and 6 another: two groups that no content tells apart."""
    values = features.features["text"].values.copy()
    values[1:5], values[5], values[10] = values[0], values[6], values[11] * 0.5
    text = Feature(values=values, present=np.ones(12, dtype=bool))
    path = tmp_path_factory.mktemp("alike") / "features.h5"
    hdf5.write_features(path, dataclasses.replace(features, features={"text": text}), config={})
    return path


@pytest.mark.parametrize("policy", ON_COLLISION)
def test_no_item_is_ever_lost(bbqrec, alike, tmp_path, policy):
    tokens, model, metrics = (tmp_path / name for name in ("tokens.h5", "model.h5", "metrics.h5"))
    made = bbqrec(
        "tokenize", alike, "-o", tokens, "--method", "rqvae", "--levels", 2, "--codebook-size", 12, "--dim", 4,
        "--hidden", 8, "--epochs", 2, "--on-collision", policy, "--device", "cpu", "--json",
    )  # fmt: skip
    assert made.status == 0, made.err
    before = hdf5.describe(tokens)["config"]["colliding_items"]
    assert before["before"] >= 7
    if policy == "regroup":
        assert before["after"] == 7, "equal items choose alike"
        assert "7 items still share an ID: --on-collision regroup does not tell all apart" in made.err
    else:
        assert before["after"] == (before["before"] if policy == "share" else 0)
    trained = bbqrec(
        "train", tokens, "-o", model, "--model", "tiger", "--epochs", 1, "--width", 8, "--heads", 2, "--layers", 1,
        "--decoder-layers", 1, "--device", "cpu",
    )  # fmt: skip
    assert trained.status == 0, trained.err
    every = {f"i{item}" for item in range(12)}
    whole = ("--top", 12, "--include-seen", "--beam", 60)
    said = bbqrec("recommend", model, "--users", 3, *whole, "--device", "cpu", "--json")
    for line in said.out.splitlines():
        shown = [item["id"] for item in json.loads(line)["items"]]
        assert len(shown) == 12
        assert set(shown) == every
    judged = bbqrec("evaluate", model, "-o", metrics, "--k", 12, "--beam", 60, "--device", "cpu", "--json")
    assert json.loads(judged.out)["recall@12"] == 1
    assert (hdf5.read_metrics(metrics).ranks > 0).all()


@pytest.mark.parametrize("policy", ["nearest", "sinkhorn"])
def test_what_stays_in_collisions_is_said(bbqrec, alike, tmp_path, policy):
    """Two codes for twelve items."""
    made = bbqrec(
        "tokenize", alike, "-o", tmp_path / "t.h5", "--method", "rqvae", "--levels", 1, "--codebook-size", 2, "--dim",
        4, "--hidden", 8, "--epochs", 2, "--on-collision", policy, "--device", "cpu", "--json",
    )  # fmt: skip
    assert made.status == 0, made.err
    assert json.loads(made.out)["colliding_items"] == 12
    assert f"12 items still share an ID: --on-collision {policy} found no free ID for them" in made.err


def test_items_without_content_are_named(codes):
    """Two fruits that have nothing that could be compared, and two books that share an ID as well."""
    values, warned = codes.codes.copy(), list[str]()
    values[1], values[9] = values[0], values[8]
    present = np.ones((12, values.shape[2]), dtype=bool)
    present[:2] = False
    made, progress = dataclasses.replace(codes, codes=values, present=present), SimpleNamespace(warn=warned.append)
    assert warn_of_shared(made, "nearest", progress) == 4
    assert warned == [
        "4 items still share an ID: --on-collision nearest found no free ID for them; 2 of them have none of id, text, "
        "and no item without content is moved; --on-collision suffix tells them apart"
    ]
    values[9] = codes.codes[9]
    assert warn_of_shared(made, "nearest", progress) == 2
    assert warned.pop() == (
        "2 items still share an ID: --on-collision nearest moves no item without content, and they have none of id, "
        "text; --on-collision suffix tells them apart"
    )
    warn_of_shared(made, "nearest", progress, frozen=1)
    assert warned.pop() == (
        "1 new item still shares an ID: --on-collision nearest moves no item without content, and they have none of "
        "id, text; all items tokenized again with --on-collision suffix have IDs of their own"
    )
    warn_of_shared(made, "share", progress)
    assert len(warned) == 1
