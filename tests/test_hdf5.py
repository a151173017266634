from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.errors import (
    BrokenFileError,
    DataError,
    MissingFileError,
    NewerVersionError,
    OutputExistsError,
    WrongKindError,
)
from bbqrec_cli.hdf5 import chunks, parents, schema, store
from bbqrec_cli.outputs import check_output
from bbqrec_cli.records import Catalogue, Dataset, Feature, Features, Sequences

KINDS = ("dataset", "features", "tokens", "model", "metrics")
READERS = {kind: getattr(hdf5, f"read_{kind}") for kind in (*KINDS, "checkpoint")}


@pytest.fixture
def copy(files, tmp_path):
    """`copy(kind)` is a copy that may be damaged."""

    def made(kind: str) -> Path:
        return Path(shutil.copy(files[kind], tmp_path / f"copy-{kind}.h5"))

    return made


def same(a, b) -> bool:
    """Whether two records hold the same."""
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and same(vars(a), vars(b))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a == b


def test_round_trip(files, dataset, features, tokens, trained_model, metrics):
    for kind, record in zip(KINDS, (dataset, features, tokens, trained_model, metrics), strict=True):
        assert same(READERS[kind](files[kind]), record), kind
    arrays, meta, config = hdf5.read_checkpoint(files["checkpoint"])
    assert arrays["a/b"].tolist() == [0, 1, 2]
    assert (meta, config) == ({"step": 7}, {"seed": 0})


def test_round_trip_of_odd_values(tmp_path):
    """Unicode, empty strings and pictures, no timestamps, attributes beyond 64 KiB."""
    catalogue = Catalogue(
        user_ids=["ü", "用户"], item_ids=["a b", "c"], titles=["", "🍎"],
        sequences=Sequences.from_lists([[0], []]), attributes={"brand": ["", ""]},
    )  # fmt: skip
    dataset = Dataset(catalogue=catalogue, texts=["", ""], images=[b"", b""])
    path, long = tmp_path / "odd.h5", {"note": "ß" * 40_000}
    hdf5.write_dataset(path, dataset, config=long)
    assert same(hdf5.read_dataset(path), dataset)
    assert hdf5.describe(path)["config"] == long


def test_pictures_are_read_in_slices(files, dataset, monkeypatch):
    monkeypatch.setattr(store, "_BLOBS", 5)
    assert list(hdf5.read_dataset(files["dataset"]).images) == list(dataset.images)


def test_signals_that_items_lack(tmp_path, tokens, trained_model):
    present = np.arange(24).reshape(12, 2) % 5 > 0
    codes = dataclasses.replace(tokens.codes, present=present)
    hdf5.write_tokens(tmp_path / "t.h5", dataclasses.replace(tokens, codes=codes))
    hdf5.write_model(tmp_path / "m.h5", dataclasses.replace(trained_model, codes=codes))
    for path in (tmp_path / "t.h5", tmp_path / "m.h5"):
        np.testing.assert_array_equal(hdf5.read_codes(path)[1].present, present)
        assert not hdf5.read_codes(path)[1].suffix
    hdf5.write_tokens(tmp_path / "s.h5", dataclasses.replace(tokens, codes=dataclasses.replace(codes, suffix=True)))
    assert hdf5.read_codes(tmp_path / "s.h5")[1].suffix
    wrong = dataclasses.replace(codes, present=present[:, :1])
    with pytest.raises(BrokenFileError, match=r"/present says M = 1, but /codes says 2"):
        hdf5.write_tokens(tmp_path / "w.h5", dataclasses.replace(tokens, codes=wrong))


@pytest.mark.parametrize(("text", "message"), [("a\0b", "row 1: holds a NUL"), ("\ud83d", "row 1: half a character")])
def test_texts_that_hdf5_can_not_hold(tmp_path, dataset, text, message):
    with pytest.raises(DataError, match=message):
        hdf5.write_dataset(tmp_path / "d.h5", dataclasses.replace(dataset, texts=["", text] + [""] * 10))
    assert os.listdir(tmp_path) == []


def test_long_strings_are_not_padded(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(store, "_LARGEST_PADDED", 10)
    path = tmp_path / "d.h5"
    hdf5.write_dataset(path, dataset)
    assert same(hdf5.read_dataset(path), dataset)


def test_provenance(files):
    said = hdf5.describe(files["tokens"])
    assert said["parents"] == [
        {"path": "features.h5", "kind": "features", "sha256": hdf5.sha256(files["features"])},
    ]
    assert (said["kind"], said["config"]) == ("tokens", {"seed": 0})
    assert said["schema_version"] == schema.KINDS["tokens"].version
    assert said["datasets"]["codes"] == {"shape": [12, 2, 2], "type": "uint16"}
    assert said["datasets"]["items/title"] == {"shape": [12], "type": "str"}
    assert said["created"].endswith("+00:00")


def test_sha256_is_the_file_s(tmp_path):
    """Reference: FIPS 180-2's example."""
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hdf5.sha256(tmp_path / "abc") == expected
    with open(tmp_path / "abc", "rb") as stream:
        assert parents._digest(stream) == expected


def test_wrong_kind(files):
    with pytest.raises(WrongKindError, match=r"features\.h5: is a features file; a tokens file is needed") as caught:
        hdf5.read_tokens(files["features"])
    assert "bbqrec tokenize" in caught.value.hint


def test_not_ours(tmp_path):
    with pytest.raises(MissingFileError, match="no such file") as caught:
        hdf5.read_features(tmp_path / "none.h5")
    assert "bbqrec embed" in caught.value.hint
    with pytest.raises(BrokenFileError, match="is a folder"):
        hdf5.read_features(tmp_path)
    (tmp_path / "text.h5").write_text("user,item\n")
    with pytest.raises(BrokenFileError, match="not an HDF5 file"):
        hdf5.read_features(tmp_path / "text.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(BrokenFileError, match="not an HDF5 file"):
        hdf5.read_features(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(WrongKindError, match="not one of bbqrec's"):
        hdf5.describe(tmp_path / "other.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_newer_version(copy, kind):
    path = copy(kind)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99
        file.attrs["bbqrec_version"] = "9.9"
    with pytest.raises(
        NewerVersionError, match=rf"schema version 99 of a {kind} file, written by bbqrec 9\.9"
    ) as caught:
        READERS[kind](path)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(copy, kind):
    path = copy(kind)
    whole = path.read_bytes()
    for size in (9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(BrokenFileError, match=r"truncated|damaged"):
            READERS[kind](path)


def test_flipped_bits_are_found(files, tmp_path):
    """Whatever bit of the structure, of an array or of a string is flipped: refused, or it was in unused space."""
    generator, refused = np.random.default_rng(0), 0
    whole, record = files["tokens"].read_bytes(), hdf5.read_tokens(files["tokens"])
    for at in generator.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << generator.integers(8)
        path = tmp_path / "flipped.h5"
        path.write_bytes(damaged)
        try:
            assert same(hdf5.read_tokens(path), record), f"byte {at}"
        except DataError:
            refused += 1
    assert refused > 75


def test_flipped_bits_in_compressed_data_are_found(tmp_path, features):
    values = np.random.default_rng(0).standard_normal((12, 5000)).astype(np.float32)
    large = Feature(values=values, present=np.ones(12, dtype=bool))
    path = tmp_path / "large.h5"
    hdf5.write_features(path, dataclasses.replace(features, features={"text": large}))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    found = hdf5.read_features(path).features
    with pytest.raises(BrokenFileError, match="/features/text/values cannot be read"):
        found["text"]


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("tokens", "codes", None, "/codes is missing"),
        ("tokens", "codes", np.zeros((11, 2, 2), np.uint16), r"says I = 1[12], but .* says 1[12]"),
        ("tokens", "codes", np.zeros((12, 2), np.uint16), r"has 2 dimensions; \(I, L, M\) is needed"),
        ("tokens", "codes", np.zeros((12, 2, 2), np.int64), "holds int64; uint16 is needed"),
        ("dataset", "sequences/indptr", np.zeros(31, np.int64), "indptr does not fit"),
        ("dataset", "sequences/indptr", np.array([0, 2**63 - 1, -(2**63), -1, *[223] * 27]), "indptr does not fit"),
        ("dataset", "sequences/items", np.full(223, 12, np.int32), r"item row outside 0…11"),
        ("dataset", "users/id", np.zeros(30), "holds float64; str is needed"),
        ("dataset", "users/id", ["a", "b"] * 15, "/users/id holds 'a' more than once"),
        ("tokens", "items/id", [f"i{item // 2}" for item in range(12)], "/items/id holds 'i0' more than once"),
        ("model", "codes", np.full((12, 2, 2), 4, np.uint16), "/codes holds 4, but codebook_size is 4"),
        ("model", "codes", np.zeros((12, 2, 3), np.uint16), "/codes has 3 signals, but modalities names 2"),
        ("features", "features/text/present", None, "/features/text/present is missing"),
        ("features", "sequences/timestamps", np.zeros(3, np.int64), r"says E = (3|225)"),
        ("metrics", "recall/5", np.zeros(3, np.float32), r"says U = (3|30)"),
        ("metrics", "recall", None, "/recall/{k} is missing"),
        ("metrics", "ndcg", None, "/ndcg/{k} is missing"),
        ("metrics", "rank", np.full(30, -3), "/rank holds -3"),
    ],
)
def test_contradictions(copy, kind, name, value, message):
    path = copy(kind)
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    with pytest.raises(BrokenFileError, match=message):
        READERS[kind](path)


@pytest.mark.parametrize("at", [1, 2])
def test_names_that_look_the_same_in_messages(copy, at):
    """Long ones are cut there; each is checked."""
    path = copy("tokens")
    with h5py.File(path, "r+") as file:
        for number in (1, 2):
            file[f"items/{'a' * 250}{number}"] = ["x"] * (2 if number == at else 12)
    with pytest.raises(BrokenFileError, match=r"says I = (2|12)"), hdf5.open_file(path):
        pass


def test_missing_attributes_and_groups_for_datasets(copy):
    path = copy("tokens")
    with h5py.File(path, "r+") as file:
        del file.attrs["modalities"]
    with pytest.raises(BrokenFileError, match="the attribute modalities is missing"):
        hdf5.read_tokens(path)
    path = copy("tokens")
    with h5py.File(path, "r+") as file:
        del file["codes"]
        file.create_group("codes")
    with pytest.raises(BrokenFileError, match="/codes is missing"):
        hdf5.read_tokens(path)
    path = copy("tokens")
    with h5py.File(path, "r+") as file:
        del file.attrs["schema_version"]
    with pytest.raises(BrokenFileError, match="damaged"):
        hdf5.read_tokens(path)


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("dataset", "splitting", "[1]", "the attribute splitting is no JSON object"),
        ("dataset", "splitting", '{"kind": "odd"}', "the attribute splitting names no split"),
        ("dataset", "splitting", '{"kind": "time"}', "the attribute splitting names no split"),
        ("features", "features", "[1]", "the attribute features is no JSON object"),
        ("features", "features", '{"text": {"colour": 1}}', "says more of text than encoder and normalized"),
        ("features", "features", '{"text": 1}', "says more of text"),
        ("metrics", "config", "[1]", "the attribute config is no JSON object"),
        ("metrics", "parents", "[1]", "the attribute parents is no list of inputs"),
        ("metrics", "confidence", "[1]", "the attribute confidence is no JSON object"),
        ("metrics", "confidence", '{"recall@5": 1}', "confidence no two numbers"),
        ("metrics", "aggregates", '{"recall@5": "high"}', "aggregates is no number"),
        ("metrics", "items", "many", "the attribute items is no whole number"),
        ("model", "settings", "[1]", "the attribute settings is no JSON object"),
        ("tokens", "codebook_size", "abc", "the attribute codebook_size is no whole number"),
        ("tokens", "modalities", 5, "the attribute modalities is no list of names"),
        ("tokens", "modalities", '["text", "text"]', "the attribute modalities has a name twice: text, text"),
        ("tokens", "encoder_inputs", '{"text": 1}', "the attribute encoder_inputs"),
    ],
)
def test_attributes_that_hold_something_else(copy, kind, name, value, message):
    path = copy(kind)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(BrokenFileError, match=message):
        hdf5.describe(path) if name in ("config", "parents") else getattr(READERS[kind](path), "features", {})["text"]
    if kind == "features":
        with pytest.raises(BrokenFileError, match=message):
            next(hdf5.read_feature_blocks(path, ["text"], [0], 3))


def test_depths_are_numbers(copy):
    path = copy("metrics")
    with h5py.File(path, "r+") as file:
        file["recall/all"] = file["recall/5"][...]
    with pytest.raises(BrokenFileError, match="/recall/all is of no depth k"):
        hdf5.read_metrics(path)


@pytest.mark.parametrize("name", ["1.10", "1e3", "null", "[1.10]", '"a"'])
def test_texts_that_look_like_json_stay_as_they_are(copy, trained_model, tmp_path, name):
    path = tmp_path / "m.h5"
    hdf5.write_model(path, dataclasses.replace(trained_model, name=name), config={})
    assert hdf5.read_model(path).name == hdf5.describe(path)["attributes"]["model"] == name


@pytest.mark.parametrize("kind", ["dataset", "features"])
def test_what_is_read_later_is_of_the_file_that_was_opened(copy, dataset, features, kind):
    """Not of another one that stands in its place by then."""
    path = copy(kind)
    before, kept = READERS[kind](path), READERS[kind](path)
    columns = [lambda: list(kept.texts), lambda: kept.images[0]] if kind == "dataset" else []
    if kind == "features":
        assert kept.features["image"].values.shape[0] == 12
        columns = [lambda: kept.features["text"]]
    shutil.copy(path, f"{path}.new")
    os.replace(f"{path}.new", path)
    for read in columns:
        with pytest.raises(DataError, match="has changed since it was opened"):
            read()
    assert before.catalogue.items == 12
    assert same(READERS[kind](path), dataset if kind == "dataset" else features)


def test_what_the_schema_does_not_know_is_left_alone(copy, tokens):
    path = copy("tokens")
    with h5py.File(path, "r+") as file:
        file["mine/notes"] = np.arange(5)
    assert same(hdf5.read_tokens(path), tokens)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_features(tmp_path, features, bad):
    values = features.features["text"].values.copy()
    values[3, 1] = bad
    broken = dataclasses.replace(features.features["text"], values=values)
    path = tmp_path / "f.h5"
    hdf5.write_features(path, dataclasses.replace(features, features={"text": broken}))
    with pytest.raises(DataError, match=r"features/text/values: NaN or infinity in 1 of 12 items, first in item 'i3'"):
        hdf5.read_features(path).features["text"]


def test_a_link_stays_and_what_it_names_is_written(tmp_path, files, features):
    (tmp_path / "large").mkdir()
    link, target = tmp_path / "f.h5", tmp_path / "large" / "real.h5"
    link.symlink_to(target)
    hdf5.write_features(link, features)
    assert link.is_symlink()
    assert same(hdf5.read_features(target), features)
    with pytest.raises(OutputExistsError):
        hdf5.write_features(link, features)
    (tmp_path / "lost.h5").symlink_to(tmp_path / "no" / "real.h5")
    with pytest.raises(DataError, match="no does not exist"):
        check_output(tmp_path / "lost.h5", force=False)


def test_catalogue_and_codes_of_every_file_that_has_them(files, catalogue, codes, trained_model, tmp_path):
    for kind in ("dataset", "features", "tokens", "model"):
        assert same(hdf5.read_catalogue(files[kind]), catalogue)
    for kind in ("tokens", "model"):
        assert same(hdf5.read_codes(files[kind])[1], codes)
    hdf5.write_model(tmp_path / "m.h5", dataclasses.replace(trained_model, codes=None))
    with pytest.raises(DataError, match="popularity has no semantic IDs"):
        hdf5.read_codes(tmp_path / "m.h5")


def test_a_file_read_in_blocks_is_opened_once_and_its_chunks_checked_once(tmp_path, monkeypatch):
    """Otherwise the cost grows with the square of the items."""
    items, path = 5000, tmp_path / "f.h5"
    values = np.random.default_rng(0).normal(size=(items, 8)).astype(np.float32)
    catalogue = Catalogue(
        user_ids=["u"], item_ids=[f"i{n}" for n in range(items)], titles=[""] * items,
        sequences=Sequences.from_lists([[0, 1, 2]]),
    )  # fmt: skip
    feature = Feature(values=values, present=np.ones(items, dtype=bool), encoder="x")
    hdf5.write_features(path, Features(catalogue=catalogue, features={"text": feature}), config={})
    listed, checked, init, fits = [], [], chunks.Chunks.__init__, chunks._fits
    monkeypatch.setattr(chunks.Chunks, "__init__", lambda self, node: listed.append(node.name) or init(self, node))
    monkeypatch.setattr(chunks, "_fits", lambda data, chunk, *rest: checked.append(chunk) or fits(data, chunk, *rest))
    blocks = list(hdf5.read_feature_blocks(path, ["text"], range(0, items, 100), 100))
    np.testing.assert_array_equal(np.concatenate([block["text"].values for block in blocks]), values)
    assert sorted(listed) == ["/features/text/present", "/features/text/values"], "no ids without an error to report"
    assert 1 < len(checked) == len({(chunk.byte_offset, chunk.chunk_offset) for chunk in checked}) < len(blocks)
