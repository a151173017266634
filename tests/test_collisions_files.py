"""Several files side by side, features, near items and pages, through the command line."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.records import Features


@pytest.fixture
def other(tokens, tmp_path):
    """The items in another order; first codes with other names, second ones as they were; date shares apple's ID."""
    order = np.random.default_rng(3).permutation(12)
    codes = tokens.codes.codes.copy()
    codes[3] = codes[0]
    codes[:, 0] = (codes[:, 0] + 1) % 3
    catalogue = dataclasses.replace(
        tokens.catalogue, item_ids=[f"i{i}" for i in order], titles=[tokens.catalogue.titles[i] for i in order]
    )
    made = dataclasses.replace(tokens.codes, codes=codes[order], item_vectors=None)
    hdf5.write_tokens(tmp_path / "other.h5", dataclasses.replace(tokens, catalogue=catalogue, codes=made), config={})
    return tmp_path / "other.h5"


def said(bbqrec, *arguments) -> dict:
    done = bbqrec("collisions", *arguments, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_several_files(files, other, bbqrec):
    found = said(bbqrec, files["tokens"], other)
    assert (found["input"], found["colliding_items"]) == (str(files["tokens"]), 0)
    (second,) = found["others"]
    assert second.keys() == found.keys() - {"others", "agreement", "report"}
    assert (second["colliding_items"], second["groups"][0]["size"]) == (2, 2)
    assert {item["title"] for item in second["groups"][0]["items"]} == {"apple", "date"}
    (pair,) = found["agreement"]
    assert (pair["first"], pair["second"], pair["items"]) == (str(files["tokens"]), str(other), 12)
    assert pair["codes"]["id"][0] == pair["prefixes"][0] == pytest.approx(1), "matched by id, whatever the order"
    assert pair["codes"]["text"][1] < 1
    plain = bbqrec("collisions", files["tokens"], other)
    assert "side by side" in plain.out
    assert "agreement" not in plain.out
    assert "agreement" in bbqrec("collisions", files["tokens"], other, "--details").out
    limited = bbqrec("collisions", files["tokens"], other, "--max-collisions", 0)
    assert limited.status == 3
    assert "other.h5: 2 items collide" in limited.err.replace("\n", " ")


def test_files_of_other_items_do_not_agree(files, tmp_path, bbqrec):
    (tmp_path / "index.json").write_text(json.dumps({"i0": ["<a_0>"], "i99": ["<a_0>"]}))
    found = said(bbqrec, files["tokens"], tmp_path / "index.json")
    assert found["agreement"] == []
    assert found["others"][0]["duplicates"]["unknown"] == 2


def test_features_and_near_items(files, other, features, bbqrec):
    found = said(bbqrec, other, files["tokens"], "--features", files["features"], "--neighbours", 3, "--near", 0.01)
    assert found["near"] is None
    assert found["neighbours"] == []
    group = found["groups"][0]
    values = features.features["text"].values
    assert group["cosine"]["text"] == pytest.approx(float(values[0] @ values[3]), abs=1e-5), "rows matched by id"
    assert found["duplicates"]["victims"] == 2
    (second,) = found["others"]
    assert {(kept["feature"], kept["vectors"], kept["k"]) for kept in second["neighbours"]} == {
        ("text", "all", 3), ("text", "text", 3), ("image", "all", 3),
    }  # fmt: skip
    assert all(kept["asked"] == 11 for kept in second["neighbours"]), "one item lacks each feature"
    assert second["alike"]["text"][0] < second["alike"]["text"][1]
    assert second["near"]["searched"] == 12
    warned = bbqrec("collisions", other, files["tokens"], "--near", 0.01)
    assert "other.h5: --near needs quantised vectors" in warned.err.replace("\n", " ")
    alone = bbqrec("collisions", other, "--near", 0.01)
    assert alone.status == 3


def test_titles_come_with_the_features(features, tmp_path, bbqrec):
    catalogue = dataclasses.replace(features.catalogue, item_ids=[str(i + 1) for i in range(12)])
    hdf5.write_features(tmp_path / "f.h5", Features(catalogue=catalogue, features=features.features), config={})
    index = {str(i): [f"<a_{i // 4}>", f"<b_{i % 3}>"] for i in range(12)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    found = said(bbqrec, tmp_path / "index.json", "--features", tmp_path / "f.h5")
    assert [item["title"] for item in found["groups"][0]["items"]] == ["apple", "date"], "ids less one, as LETTER's"
    assert found["groups"][0]["items"][0]["id"] == "1", "the catalogue's"


def test_an_index_of_some_of_the_items(files, tmp_path, bbqrec):
    """Matched by id, as a tokens file is."""
    (tmp_path / "index.json").write_text(json.dumps({"i3": ["<a_0>"], "i0": ["<a_0>"]}))
    found = said(bbqrec, tmp_path / "index.json", "--features", files["features"])
    assert [item["title"] for item in found["groups"][0]["items"]] == ["date", "apple"]


def test_what_is_assumed_of_an_index_is_said(tmp_path, bbqrec):
    (tmp_path / "index.json").write_text(json.dumps({"a": ["<a_0>", "<b_1>"], "b": ["<a_0>", "<b_2>"], "c": ["<a_1>"]}))
    assert "2 items have one more token" in bbqrec("collisions", tmp_path / "index.json").err.replace("\n", " ")


def test_features_of_other_items(files, features, tmp_path, bbqrec):
    for ids, status in (([f"i{i + 6}" for i in range(12)], 0), ([f"x{i}" for i in range(12)], 3)):
        catalogue = dataclasses.replace(features.catalogue, item_ids=ids, titles=[""] * 12)
        path = tmp_path / f"{ids[0]}.h5"
        hdf5.write_features(path, Features(catalogue=catalogue, features=features.features), config={})
        done = bbqrec("collisions", files["tokens"], "--features", path)
        assert done.status == status
        assert ("lacks 6 of the 12 items" in done.err.replace("\n", " ")) == (status == 0)
    done = bbqrec("collisions", files["tokens"], *(["--features", files["features"]] * 2))
    assert (done.status, "2 --features for 1 inputs" in done.err) == (2, True)


def test_items_that_lack_a_signal(tokens, tmp_path, bbqrec):
    present = np.ones((12, 2), dtype=bool)
    present[[0, 1], 1] = False
    codes = tokens.codes.codes.copy()
    codes[1] = codes[0]
    made = dataclasses.replace(tokens.codes, codes=codes, present=present)
    hdf5.write_tokens(tmp_path / "tokens.h5", dataclasses.replace(tokens, codes=made), config={})
    found = said(bbqrec, tmp_path / "tokens.h5")
    assert [book["items"] for book in found["codebooks"]] == [12, 12, 10, 10]
    assert found["groups"][0]["lacking"] == {"text": 2}
    assert found["causes"]["only_items"] == {"id": 12, "text": 10}
    assert found["causes"]["only_signal"] == {"id": 2, "text": 0}
    assert "(2 without text)" in re.sub(r"\s+", " ", bbqrec("collisions", tmp_path / "tokens.h5", "--details").out)


@pytest.mark.drawn
def test_pages(files, other, tmp_path, bbqrec):
    html, markdown = tmp_path / "page.html", tmp_path / "page.md"
    for path in (html, markdown):
        done = bbqrec("collisions", files["tokens"], other, "--features", files["features"], "--report", path)
        assert done.status == 0, done.err
        assert f"page: {path}" in done.out.replace("\n", "")
    text = html.read_text(encoding="utf-8")
    assert text.count("<svg ") == 6, "by depth, and the codes of each file, each for wide and narrow screens"
    assert "default-src 'none'" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert not re.search(r'(?:src|href)="(?!#)', text)
    plain = markdown.read_text(encoding="utf-8")
    given = f"{files['tokens']} {other} --features {files['features']}"
    assert f"Generated by `bbqrec collisions {given} --report {markdown}`" in plain
    assert "<svg" not in plain
    assert re.search(r"^## Agreement$", plain, re.M)
    assert "2 of 12 items (16.7%) share their whole ID" in plain
    assert hdf5.sha256(other) in plain
    again = bbqrec("collisions", files["tokens"], "--report", html)
    assert (again.status, "--report" in again.err) == (3, True)
    assert bbqrec("collisions", files["tokens"], "--report", tmp_path / "page.txt").status == 2


def test_features_of_another_catalogue_under_the_same_ids(files, features, tmp_path, bbqrec):
    titles = [f"another {title}" for title in features.catalogue.titles]
    catalogue = dataclasses.replace(features.catalogue, titles=titles)
    hdf5.write_features(tmp_path / "of.h5", dataclasses.replace(features, catalogue=catalogue), config={})
    done = bbqrec("collisions", files["tokens"], "--features", tmp_path / "of.h5")
    assert done.status == 3
    assert "these are other items under the same ids" in " ".join(done.err.split())


def test_a_level_that_tells_equal_ids_apart_is_no_signals(tokens, tmp_path, bbqrec):
    """Its numbers stand in the first signal's place, and say nothing of that signal."""
    plain = tokens.codes.codes.copy()
    plain[[4, 8]] = plain[0]
    number = np.zeros_like(plain[:, :1])
    number[[4, 8], 0, 0] = [1, 2]
    found = {}
    for name, codes in (("plain", plain), ("suffix", np.concatenate([plain, number], axis=1))):
        made = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=codes))
        hdf5.write_tokens(tmp_path / f"{name}.h5", made, config={})
        found[name] = said(bbqrec, tmp_path / f"{name}.h5")
    assert [found[name]["colliding_items"] for name in found] == [3, 0]
    assert found["suffix"]["causes"] == found["plain"]["causes"]
    shown = bbqrec("collisions", tmp_path / "suffix.h5", "--details").out.replace("│", " ")
    assert "without the level that counts 12 3 25.0%" in " ".join(shown.split())


def test_an_index_that_counts_from_0_agrees_with_the_catalogue(tokens, features, tmp_path, bbqrec):
    names = [str(row + 1) for row in range(12)]
    catalogue = dataclasses.replace(tokens.catalogue, item_ids=names)
    hdf5.write_tokens(tmp_path / "t.h5", dataclasses.replace(tokens, catalogue=catalogue), config={})
    hdf5.write_features(tmp_path / "f.h5", dataclasses.replace(features, catalogue=catalogue), config={})
    index = {str(row): [f"<a_{row // 4}>", f"<b_{row % 4}>"] for row in range(12)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    found = said(bbqrec, tmp_path / "t.h5", tmp_path / "index.json", "--features", tmp_path / "f.h5")
    (pair,) = found["agreement"]
    assert (pair["items"], pair["prefixes"][0]) == (12, pytest.approx(1))
