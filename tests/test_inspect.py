"""inspect: what any file is, on one screen for people and complete for programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.hdf5 import schema
from bbqrec_cli.stages.train import TrainConfig, run

KINDS = ("dataset", "features", "tokens", "model", "metrics", "checkpoint")
LINES, COLUMNS = 24, 80


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory) -> Path:
    """bbqrec itself, with its many weights and options."""
    path = tmp_path_factory.mktemp("inspect") / "model.h5"
    options = {"epochs": 1, "width": 8, "layers": 2, "decoder_layers": 2}
    run(TrainConfig(input=files["tokens"], output=path, options=options, device="cpu"))
    return path


@pytest.fixture
def screen(bbqrec, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))

    def shown(path: Path) -> str:
        said = bbqrec("inspect", path)
        assert (said.status, said.err) == (0, "")
        lines = said.out.splitlines()
        first = next((number for number, line in enumerate(lines) if line.startswith("options")), len(lines))
        assert first <= LINES, "the options, one a line, come last"
        assert max(map(len, lines)) <= COLUMNS
        return " ".join(" ".join(line.split()) for line in lines)

    return shown


def test_of_a_kind_without_defaults_none_are_said(files, screen):
    assert "options: " in screen(files["checkpoint"])
    assert "default" not in screen(files["checkpoint"])
    assert "options at their default: " in screen(files["dataset"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_a_screen(files, screen, kind):
    text = screen(files[kind])
    assert f"{kind} file, schema {schema.KINDS[kind].version}, by bbqrec" in text
    assert "seed 0" in text
    if kind not in ("metrics", "checkpoint"):
        assert "30 users, 12 items, 223 interactions" in text
        assert "items/{group, id, " in text
        assert "sequences/items 223 int32" in text


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("dataset", "items/image 12 bytes"),
        ("features", "features.text.encoder tiny"),
        ("features", "features/image/values 12 × 8 float32"),
        ("tokens", "epochs 1, codebook_size 4, levels 2, method bbqrec, modalities id,text"),
        ("tokens", "codes 12 × 2 × 2 uint16"),
        ("model", "model popularity"),
        ("metrics", "recall@10 1"),
        ("metrics", "model popularity, split test"),
        ("checkpoint", "state/… 3 numbers"),
    ],
)
def test_what_a_kind_is_about(files, screen, kind, said):
    assert said in screen(files[kind])


def test_where_it_came_from(files, screen):
    text = screen(files["tokens"])
    assert f"made from features.h5 (features, sha256 {hdf5.sha256(files['features'])[:16]}…)" in text


def test_a_model_of_many_weights(trained, screen):
    text = screen(trained)
    count = sum(value.size for value in hdf5.read_model(trained).weights.values())
    assert f"weights/… {count:,} numbers" in text
    assert "masking causal" in text
    assert text.count("decoder_layers 2") == 1


def test_options_that_differ_come_first(trained, bbqrec):
    """One a line, with the default beside them; the network's and the command's own, and what was at `auto` is not
    counted."""
    text = bbqrec("inspect", trained).out
    changed, usual = (part.splitlines() for part in text.split("options that differ from the default:\n")[1].split(
        "options at their default:\n"
    ))  # fmt: skip
    assert [line.split() for line in changed] == [["epochs", "1", "default", "12"], ["width", "8", "default", "128"]]
    rows = [line.split() for line in usual]
    assert ["layers", "2"] in rows
    assert ["seed", "0"] in rows
    assert [row for row in rows if row[0] == "precision"]
    assert all(len(row) == 2 for row in rows)


def test_what_the_command_chose_is_no_difference(tmp_path, bbqrec, monkeypatch):
    """`split` and the fields of the texts, which the file records; what was given is, also where it means none. A file
    that is called like its source hides nothing."""
    monkeypatch.chdir(tmp_path)
    rows = [f"u{user},i{item},{item}" for user in range(4) for item in range(4)]
    (tmp_path / "table").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    assert bbqrec("prepare", "table", "table", "--separator", ",", "--min-user-interactions", 0).status == 0
    text = bbqrec("inspect", "dataset.h5").out
    changed, usual = (part.splitlines() for part in text.split("options that differ from the default:\n")[1].split(
        "options at their default:\n"
    ))  # fmt: skip
    assert sorted(line.split()[0] for line in changed) == ["min_user_interactions", "separator", "source"]
    assert ["split", "last"] in [line.split() for line in usual]
    assert "chosen" not in text


def test_a_benchmark(tmp_path, screen):
    path = tmp_path / "b.h5"
    data = {"toys": {"users": [*"abcde"], "cells": {"x": np.arange(5), "y": np.arange(5)}}}
    state = {"data": data, "steps": {}, "results": {"n": [1] * 99}}
    hdf5.write_benchmark(path, state, config={"seed": 0})
    assert "data/toys/cells/… 10 numbers" in screen(path)


@pytest.mark.parametrize("kind", KINDS)
def test_json_is_complete(files, bbqrec, kind):
    said = bbqrec("inspect", files[kind], "--json")
    assert (said.status, said.err) == (0, "")
    found = json.loads(said.out)
    assert {"kind", "schema_version", "config", "parents", "datasets", "attributes"} <= found.keys()
    assert found["kind"] == kind
    if kind == "metrics":
        assert found["attributes"]["aggregates"]["recall@10"] == 1.0
        assert found["datasets"]["recall/5"] == {"shape": [30], "type": "float32"}
    if kind == "tokens":
        assert found["attributes"] == {
            "epochs": 1, "method": "bbqrec", "levels": 2, "codebook_size": 4, "modalities": ["id", "text"],
        }  # fmt: skip
