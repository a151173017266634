"""Diagnosis against probabilities written by hand, and against the enumeration of all items."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import new_generator

from bbqrec_cli import hdf5
from bbqrec_cli.data.splits import HeldOut
from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.evaluation import diagnosis
from bbqrec_cli.evaluation.diagnosis import Diagnosis, diagnose
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.records import Codes, TrainedModel


def by_hand(codes: list, probabilities: list[dict], *, size: int, over_children: bool = True) -> SimpleNamespace:
    """A generator whose level l gives each code of each signal a factor: probabilities[l][prefix][signal][code]."""
    array = np.array(codes)

    def stepper(encoded, mask):
        past: list = [[()] for _ in encoded]

        def step(level, parent, chosen):
            nonlocal past
            if level:
                grown = zip(past, parent.tolist(), chosen.tolist(), strict=True)
                past = [[(*old[p], *row) for p, row in zip(places, rows, strict=True)] for old, places, rows in grown]
            logits = torch.tensor([[probabilities[level][prefix] for prefix in user] for user in past]).log()
            return logits, None

        return step

    return SimpleNamespace(
        levels=array.shape[1], signals=array.shape[2], size=size, trie=Trie(array), codes=torch.from_numpy(array),
        over_children=over_children, heads={}, encode=lambda batch: batch.items, stepper=stepper,
    )  # fmt: skip


def held(*targets: int) -> HeldOut:
    count = len(targets)
    histories = np.zeros((count, 2), dtype=np.int64)
    return HeldOut(
        users=np.arange(count), targets=np.array(targets), seen_items=histories.ravel(),
        seen_start=2 * np.arange(count), seen_stop=2 * np.arange(count) + 2,
    )  # fmt: skip


def run(model, held_out: HeldOut, *, signals=("id",), ks=(1,)) -> Diagnosis:
    return diagnose(model, held_out, signals=signals, ks=ks, device=torch.device("cpu"))


@pytest.fixture
def garden_path() -> SimpleNamespace:
    """P(items) = .3, .3, .36, .04: the best item lies below the second-best code."""
    levels = [{(): [[0.6, 0.4]]}, {(0,): [[0.5, 0.5]], (1,): [[0.9, 0.1]]}]
    return by_hand([[[0], [0]], [[0], [1]], [[1], [0]], [[1], [1]]], levels, size=2)


def test_a_narrow_beam_misses_what_an_unlimited_one_finds(garden_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "BEAMS", (1, 2))
    found = run(garden_path, held(2))
    narrow, wide, unlimited = found.searches
    assert narrow == {"beam": 1, "recall@1": 0.0, "ndcg@1": 0.0, "lost": [1.0, 0.0]}
    assert wide == {"beam": 2, "recall@1": 1.0, "ndcg@1": 1.0, "lost": [0.0, 0.0]}
    assert unlimited == {"beam": None, "recall@1": 1.0, "ndcg@1": 1.0, "lost": None}
    # A beam of one must have been widened for that.
    monkeypatch.setattr(diagnosis, "BEAMS", (1,))
    assert [row["recall@1"] for row in run(garden_path, held(2)).searches] == [0.0, 1.0]


def test_where_the_target_is_lost_is_a_share_of_the_users(garden_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "BEAMS", (1,))
    found = run(garden_path, held(2, 0, 1, 3))
    assert found.searches[0]["lost"] == [0.5, 0.25], "of the two below the first code, the beam keeps the first"
    assert found.searches[0]["recall@1"] == 0.25


def test_codes_by_hand(garden_path):
    first, own, second, _ = run(garden_path, held(2)).codes
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    assert (first.pop("signal"), own.pop("signal")) == ("all", "id")
    expected = {"level": 1, "nll": -math.log(0.4), "accuracy": 0.0, "entropy": entropy}
    assert first == pytest.approx({**expected, "choices": 2.0}, rel=1e-6)
    assert own == pytest.approx(expected, rel=1e-6), "with one signal a tuple is a code"
    assert (second["level"], second["accuracy"]) == (2, 1.0)
    assert second["nll"] == pytest.approx(-math.log(0.9), rel=1e-6)


@pytest.mark.parametrize(("over_children", "id_code", "text_code"), [(True, 0.2, 0.7), (False, 0.4 / 1.4, 0.5 / 0.8)])
def test_a_signal_on_its_own(over_children, id_code, text_code):
    """Tuples (0, 0), (0, 1), (1, 0) have .5, .3 and .2; the target is the last one."""
    factors = [{(): [[1.0, 0.4], [0.5, 0.3]]}]
    model = by_hand([[[0, 0]], [[0, 1]], [[1, 0]]], factors, size=2, over_children=over_children)
    both, of_id, of_text = run(model, held(2), signals=("id", "text")).codes
    assert both["nll"] == pytest.approx(-math.log(0.2 if over_children else id_code * text_code), rel=1e-5)
    assert (both["accuracy"], both["choices"]) == (0.0, 3.0)
    assert (of_id["signal"], of_id["accuracy"]) == ("id", 0.0)
    assert (of_text["signal"], of_text["accuracy"]) == ("text", 1.0)
    assert of_id["nll"] == pytest.approx(-math.log(id_code), rel=1e-5)
    assert of_text["nll"] == pytest.approx(-math.log(text_code), rel=1e-5)
    p = np.array([text_code, 1 - text_code])
    assert of_text["entropy"] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)


def test_independent_signals_together():
    """Normalised over codes, the tuple has the product's distribution, also where no item has its best codes."""
    factors = [{(): [[0.6, 0.4], [0.7, 0.3]]}]
    model = by_hand([[[0, 1]], [[1, 0]]], factors, size=2, over_children=False)
    both, of_id, of_text = run(model, held(0, 1), signals=("id", "text")).codes
    p = np.outer([0.6, 0.4], [0.7, 0.3])
    assert both["entropy"] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)
    assert both["entropy"] == pytest.approx(of_id["entropy"] + of_text["entropy"], rel=1e-6)
    assert both["nll"] == pytest.approx(-np.log([p[0, 1], p[1, 0]]).mean(), rel=1e-5)
    assert (of_id["accuracy"], of_text["accuracy"]) == (0.5, 0.5)
    assert (both["accuracy"], both["choices"]) == (0.0, 2.0), "the best tuple is (0, 0)"


def test_one_signal_normalised_over_codes():
    """Below code 0 there is only code 1, the less probable of two."""
    levels = [{(): [[0.6, 0.4]]}, {(0,): [[0.7, 0.3]], (1,): [[0.9, 0.1]]}]
    found = run(by_hand([[[0], [1]], [[1], [0]]], levels, size=2, over_children=False), held(0)).codes
    for both, of_id in (found[:2], found[2:]):
        assert {key: both[key] for key in ("nll", "accuracy", "entropy")} == pytest.approx(
            {key: of_id[key] for key in ("nll", "accuracy", "entropy")}
        )
    assert found[2]["entropy"] == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.3)), rel=1e-5)
    assert (found[2]["accuracy"], found[2]["choices"]) == (0.0, 1.0)


ITEMS = 15


def generator(**settings) -> SemanticIDGenerator:
    rng = np.random.default_rng(0)
    codes = Codes(
        codes=rng.integers(0, 3, (ITEMS, 3, 2)).astype(np.uint16), modalities=("id", "text"), method="t",
        codebook_size=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = new_generator(codes, width=8, heads=2, variant="no-similarity", **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("normalisation", ["catalogue", "codes"])
def test_the_unlimited_search_ranks_as_scoring_every_item(normalisation, monkeypatch):
    monkeypatch.setattr(diagnosis, "BEAMS", (3,))
    monkeypatch.setattr(diagnosis, "WIDER", 2)
    model = generator(normalisation=normalisation)
    everyone = held(*range(ITEMS))
    everyone.seen_items[:] = np.random.default_rng(1).integers(0, ITEMS, len(everyone.seen_items))
    found = run(model, everyone, signals=("id", "text"), ks=(1, 3))
    batch = SimpleNamespace(items=torch.from_numpy(everyone.read()), mask=torch.ones(ITEMS, 2, dtype=torch.bool))
    scores = model.score_all(batch)
    own = scores.gather(1, torch.arange(ITEMS).unsqueeze(1))
    ahead = (scores > own + 1e-4).sum(1)
    for k in (1, 3):
        assert found.searches[-1][f"recall@{k}"] == pytest.approx((ahead < k).float().mean().item())
    total = sum(row["nll"] for row in found.codes if row["signal"] == "all")
    assert total == pytest.approx(-own.mean().item(), rel=1e-4), "the levels' losses add up to the item's"


def test_heads_alone_and_together(monkeypatch):
    monkeypatch.setattr(diagnosis, "BEAMS", (ITEMS,))
    model = generator(dense_head=True)
    everyone = held(*range(ITEMS))
    everyone.seen_items[:] = np.random.default_rng(2).integers(0, ITEMS, len(everyone.seen_items))
    batch = SimpleNamespace(items=torch.from_numpy(everyone.read()), mask=torch.ones(ITEMS, 2, dtype=torch.bool))
    found = run(model, everyone, signals=("id", "text"), ks=(3,))
    united = model.score_all(batch)
    model.dense.weight.fill_(1.0)
    dense = model.score_all(batch)
    model.dense.weight.fill_(0.0)
    generated = model.score_all(batch)
    for scores, row in ((generated, found.searches[0]), (dense, found.heads[0]), (united, found.heads[1])):
        ahead = (scores > scores.gather(1, torch.arange(ITEMS).unsqueeze(1)) + 1e-5).sum(1)
        assert row["recall@3"] == pytest.approx((ahead < 3).float().mean().item())
    assert [row["head"] for row in found.heads] == ["dense", "united"]
    assert len({row["recall@3"] for row in (found.searches[0], *found.heads)}) > 1


@pytest.fixture
def model_file(catalogue, codes, tmp_path):
    settings = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1}
    torch.manual_seed(0)
    weights = {k: v.numpy() for k, v in new_generator(codes, **settings).state_dict().items()}
    trained = TrainedModel(catalogue=catalogue, name="bbqrec", settings=settings, weights=weights, codes=codes)
    hdf5.write_model(tmp_path / "generator.h5", trained, config={})
    return tmp_path / "generator.h5"


def test_the_command(bbqrec, model_file, codes, files, tmp_path):
    arguments = ("evaluate", model_file, "-o", tmp_path / "m.h5", "--force", "--diagnose", "--diagnose-users", 10)
    said = bbqrec(*arguments, "--json", "--split", "validation")
    assert said.status == 0
    found = json.loads(said.out)["diagnosis"]
    assert set(found) == {f.name for f in dataclasses.fields(Diagnosis)}
    assert found["users"] == 10
    assert [row["beam"] for row in found["searches"]] == [10, 20, 50, 100, None]
    assert {row["signal"] for row in found["codes"]} == {"all", *codes.modalities}
    shown = bbqrec(*arguments)
    assert shown.status == 0
    assert "no limit" in shown.out
    assert "lost at 1" in shown.out
    refused = bbqrec("evaluate", files["model"], "-o", tmp_path / "n.h5", "--diagnose")
    assert refused.status == 2
    assert "does not generate semantic IDs" in refused.err
    plain = bbqrec("evaluate", model_file, "-o", tmp_path / "m.h5", "--force", "--json")
    assert json.loads(plain.out)["diagnosis"] is None
