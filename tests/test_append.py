"""New items get codes, old ones keep theirs: `bbqrec tokenize --append`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import changed

from bbqrec_cli import hdf5
from bbqrec_cli.evaluation.metrics import bootstrap_interval
from bbqrec_cli.records import Catalogue, Feature, Features, Sequences, Tokens
from bbqrec_cli.tokenizers.assignment import blocks
from bbqrec_cli.tokenizers.assignment.config import ON_COLLISION

NEW = (3, 7, 11)
"""Rows of the whole catalogue whose items come later; one of each group."""
OLD = tuple(row for row in range(12) if row not in NEW)
QUICK = {
    "bbqrec": ["--epochs", 6, "--dim", 8, "--hidden", 16, "--codebook-size", 8, "--levels", 2, "--sequence-layers", 1],
    "rqvae": [
        "--method",
        "rqvae",
        "--epochs",
        6,
        "--dim",
        8,
        "--hidden",
        16,
        "--hidden-layers",
        3,
        "--codebook-size",
        8,
        "--levels",
        2,
    ],
}


def part(features: Features, rows: tuple[int, ...], *, users: bool = True) -> Features:
    """Some of the items, and the sequences less the others (or no users at all)."""
    whole, place = features.catalogue, {row: number for number, row in enumerate(rows)}
    walks = [[place[item] for item in walk.tolist() if item in place] for walk in whole.sequences] if users else []
    catalogue = Catalogue(
        user_ids=whole.user_ids if users else [], item_ids=[whole.item_ids[row] for row in rows],
        titles=[whole.titles[row] for row in rows], sequences=Sequences.from_lists(walks),
        attributes={name: [values[row] for row in rows] for name, values in whole.attributes.items()},
    )  # fmt: skip
    picked = {
        name: dataclasses.replace(f, values=f.values[list(rows)], present=f.present[list(rows)])
        for name, f in features.features.items()
    }
    return Features(catalogue=catalogue, features=picked)


@pytest.fixture(scope="module")
def old(features, tmp_path_factory) -> dict[str, Path]:
    """Method -> a tokens file of the nine old items."""
    from bbqrec_cli.cli import app

    folder = tmp_path_factory.mktemp("old")
    hdf5.write_features(folder / "features.h5", part(features, OLD), config={})
    for method, options in QUICK.items():
        command = ["tokenize", folder / "features.h5", "-o", folder / f"{method}.h5", *options, "--device", "cpu"]
        with pytest.raises(SystemExit) as stop:
            app.main([str(each) for each in [*command, "--quiet"]])
        assert not stop.value.code
    return {method: folder / f"{method}.h5" for method in QUICK}


@pytest.fixture(scope="module")
def grown(features, tmp_path_factory) -> Path:
    """All twelve items, in another order than the old ones have."""
    path = tmp_path_factory.mktemp("grown") / "features.h5"
    hdf5.write_features(path, part(features, (*range(6, 12), *range(6))), config={})
    return path


def append(bbqrec, old: Path, new: Path, output: Path, *options: object) -> tuple[Tokens, dict]:
    said = bbqrec("tokenize", "--append", old, new, "-o", output, "--device", "cpu", "--json", *options)
    assert said.status == 0, said.err
    return hdf5.read_tokens(output), json.loads(said.out)


def assert_frozen(before: Tokens, after: Tokens) -> None:
    count = before.catalogue.items
    assert after.catalogue.item_ids[:count] == before.catalogue.item_ids
    np.testing.assert_array_equal(after.codes.codes[:count], before.codes.codes)
    np.testing.assert_array_equal(after.codes.item_vectors[:count], before.codes.item_vectors)
    np.testing.assert_array_equal(after.codes.present[:count], before.codes.present)
    np.testing.assert_array_equal(after.codes.codebooks, before.codes.codebooks)
    assert after.history == before.history
    for name, value in before.encoder.weights.items():
        np.testing.assert_array_equal(after.encoder.weights[name], value)


@pytest.mark.parametrize("policy", ON_COLLISION)
@pytest.mark.parametrize("method", QUICK)
def test_old_codes_are_frozen(bbqrec, old, grown, features, tmp_path, method, policy):
    before = hdf5.read_tokens(old[method])
    if policy == "suffix":  # which new items share IDs hangs on the processor's rounding
        _, shared = append(bbqrec, old[method], grown, tmp_path / "shared.h5", "--on-collision", "share")
        if shared["colliding_items"]:
            words = ("tokenize", "--append", old[method], grown, "-o", tmp_path / "g.h5", "--on-collision", policy)
            refused = bbqrec(*words)
            assert refused.status == 2
            assert "new items share IDs, and the old IDs have no suffix level" in refused.err
            return
    after, said = append(bbqrec, old[method], grown, tmp_path / "g.h5", "--on-collision", policy)
    assert_frozen(before, after)
    assert (said["items"], said["new_items"], said["epochs"], said["method"]) == (12, 3, 0, method)
    assert after.catalogue.item_ids[9:] == ["i7", "i11", "i3"], "in the order of the new file"
    assert after.catalogue.titles[9:] == ["drill", "diary", "date"]
    assert after.catalogue.attributes["group"][9:] == ["tools", "books", "fruit"]
    walks = [[after.catalogue.item_ids[row] for row in walk] for walk in after.catalogue.sequences]
    assert walks == [[f"i{row}" for row in walk] for walk in features.catalogue.sequences]
    about = hdf5.describe(tmp_path / "g.h5")
    assert [parent["kind"] for parent in about["parents"]] == ["tokens", "features"]
    assert (about["config"]["method"], about["config"]["new_items"]) == (method, 3)
    assert policy != "nearest" or said["colliding_items"] == 0


def test_a_level_that_tells_equal_ids_apart_is_no_codebook(bbqrec, old, grown, tmp_path):
    tokens = hdf5.read_tokens(old["rqvae"])
    longer = np.concatenate([tokens.codes.codes, np.zeros_like(tokens.codes.codes[:, :1])], axis=1)
    tokens = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=longer))
    about = hdf5.describe(old["rqvae"])
    hdf5.write_tokens(tmp_path / "suffix.h5", tokens, config=about["config"], parents=[])
    _, said = append(bbqrec, tmp_path / "suffix.h5", grown, tmp_path / "g.h5", "--on-collision", "suffix")
    assert (said["levels"], said["colliding_items"]) == (3, 0)
    assert {name.rpartition("/")[2] for name in said["figures"] if "/" in name} == {"1", "2"}
    shown = json.loads(bbqrec("collisions", tmp_path / "g.h5", "--json").out)
    assert {book["level"] for book in shown["codebooks"]} == {1, 2}


@pytest.mark.parametrize("method", QUICK)
def test_only_the_new_items_and_all_of_them_at_once_say_the_same(
    bbqrec, old, grown, features, tmp_path, method, monkeypatch
):
    """A file of the new items alone, without users; and read one item at a time."""
    monkeypatch.setattr(blocks, "BLOCK", 1)
    after, _ = append(bbqrec, old[method], grown, tmp_path / "one.h5")
    hdf5.write_features(tmp_path / "new.h5", part(features, (7, 11, 3), users=False), config={})
    alone, _ = append(bbqrec, old[method], tmp_path / "new.h5", tmp_path / "alone.h5")
    np.testing.assert_array_equal(alone.codes.codes, after.codes.codes)
    np.testing.assert_allclose(alone.codes.item_vectors, after.codes.item_vectors)
    before = hdf5.read_tokens(old[method]).catalogue
    np.testing.assert_array_equal(alone.catalogue.sequences.items, before.sequences.items)
    assert alone.catalogue.user_ids == before.user_ids


def test_a_twin_of_an_old_item_gets_its_codes(bbqrec, old, features, tmp_path):
    """Same text and picture as i0: the same codes of both, and the ID of what is most like it, itself."""
    twin = part(features, (0,), users=False)
    twin = dataclasses.replace(twin, catalogue=dataclasses.replace(twin.catalogue, item_ids=["twin"]))
    hdf5.write_features(tmp_path / "twin.h5", twin, config={})
    shared, said = append(
        bbqrec, old["bbqrec"], tmp_path / "twin.h5", tmp_path / "s.h5", "--on-collision", "share", "--neighbours", 1
    )
    np.testing.assert_array_equal(shared.codes.codes[9], shared.codes.codes[0])
    np.testing.assert_allclose(shared.codes.item_vectors[9], shared.codes.item_vectors[0], rtol=1e-5)
    assert said["colliding_items"] == 2
    moved, said = append(bbqrec, old["bbqrec"], tmp_path / "twin.h5", tmp_path / "m.h5", "--neighbours", 1)
    assert said["colliding_items"] == 0
    assert_frozen(hdf5.read_tokens(old["bbqrec"]), moved)
    assert (moved.codes.codes[9] != moved.codes.codes[0]).sum() == 1


def test_the_id_signal(bbqrec, old, grown, tmp_path):
    """Absent: as a missing text, zero in the vectors. Neighbours: there, and the content's codes are the same."""
    absent, _ = append(bbqrec, old["bbqrec"], grown, tmp_path / "a.h5", "--id-signal", "absent")
    assert absent.codes.present[9:, 0].tolist() == [False] * 3
    assert not absent.codes.item_vectors[9:].reshape(3, 3, -1)[:, 0].any()
    near, _ = append(bbqrec, old["bbqrec"], grown, tmp_path / "n.h5", "--neighbours", 3)
    assert near.codes.present[9:, 0].all()
    np.testing.assert_array_equal(near.codes.codes[9:, 0, 1:], absent.codes.codes[9:, 0, 1:])
    assert near.codes.item_vectors[9:].reshape(3, 3, -1)[:, 0].any(axis=1).all()


def test_again_and_again(bbqrec, old, features, tmp_path):
    """One item after the other is the same as all at once where none collides."""
    path = old["rqvae"]
    for number, row in enumerate(NEW):
        hdf5.write_features(tmp_path / f"f{number}.h5", part(features, (row,), users=False), config={})
        append(bbqrec, path, tmp_path / f"f{number}.h5", tmp_path / f"g{number}.h5")
        path = tmp_path / f"g{number}.h5"
    hdf5.write_features(tmp_path / "all.h5", part(features, NEW, users=False), config={})
    once, _ = append(bbqrec, old["rqvae"], tmp_path / "all.h5", tmp_path / "once.h5")
    steps = hdf5.read_tokens(path)
    np.testing.assert_array_equal(steps.codes.codes, once.codes.codes)
    assert steps.catalogue.item_ids == once.catalogue.item_ids


def test_other_items_under_the_same_ids_are_refused(bbqrec, old, features, tmp_path):
    whole = part(features, (*OLD, *NEW))
    titles = [f"another {title}" for title in whole.catalogue.titles]
    other = dataclasses.replace(whole, catalogue=dataclasses.replace(whole.catalogue, titles=titles))
    hdf5.write_features(tmp_path / "f.h5", other, config={})
    said = bbqrec("tokenize", "--append", old["rqvae"], tmp_path / "f.h5", "-o", tmp_path / "g.h5")
    assert said.status == 3
    assert "9 have another title there: these are other items under the same ids" in " ".join(said.err.split())
    assert not (tmp_path / "g.h5").exists()


def test_appended_items_lend_no_id_signal(bbqrec, old, features, tmp_path):
    """Theirs is a mean itself, even where users have found them by now: only fitted items are neighbours."""
    hdf5.write_features(tmp_path / "f.h5", part(features, (*OLD, 3)), config={})
    append(bbqrec, old["bbqrec"], tmp_path / "f.h5", tmp_path / "g.h5")
    hdf5.write_features(tmp_path / "all.h5", part(features, (*OLD, *NEW)), config={})
    twice, _ = append(bbqrec, tmp_path / "g.h5", tmp_path / "all.h5", tmp_path / "twice.h5")
    once, _ = append(bbqrec, old["bbqrec"], tmp_path / "all.h5", tmp_path / "once.h5")
    assert hdf5.describe(tmp_path / "twice.h5")["config"]["fitted_items"] == 9
    np.testing.assert_array_equal(twice.codes.item_vectors, once.codes.item_vectors)


def test_growing_twice_knows_what_the_fit_was_trained_on(bbqrec, old, features, tmp_path):
    """The first growth brings users of its own, who know none of the fitted items: they are neighbours all the same,
    and what the tokenizer read of them cannot be held out."""
    alone = part(features, (3,), users=False)
    walks = Sequences.from_lists([[0, 0, 0]])
    alone = dataclasses.replace(alone, catalogue=dataclasses.replace(alone.catalogue, user_ids=["q"], sequences=walks))
    hdf5.write_features(tmp_path / "alone.h5", alone, config={})
    append(bbqrec, old["bbqrec"], tmp_path / "alone.h5", tmp_path / "g.h5")
    hdf5.write_features(tmp_path / "next.h5", part(features, (7,), users=False), config={})
    twice, _ = append(bbqrec, tmp_path / "g.h5", tmp_path / "next.h5", tmp_path / "twice.h5")
    once, _ = append(bbqrec, old["bbqrec"], tmp_path / "next.h5", tmp_path / "once.h5")
    np.testing.assert_array_equal(twice.codes.item_vectors[-1], once.codes.item_vectors[-1])
    assert twice.codes.present[-1, twice.codes.modalities.index("id")]
    held = part(features, (*OLD, 7))
    walks = Sequences.from_lists([walk[: max(3, len(walk) - 3)].tolist() for walk in held.catalogue.sequences])
    held = dataclasses.replace(held, catalogue=dataclasses.replace(held.catalogue, sequences=walks))
    hdf5.write_features(tmp_path / "held.h5", held, config={})
    for path in (old["bbqrec"], tmp_path / "g.h5"):
        (tmp_path / path.stem).mkdir()
        found = refused(bbqrec, path, tmp_path / "held.h5", tmp_path / str(path.stem), "--device", "cpu")
        assert "its tokenizer was trained on" in found["message"]


def refused(bbqrec, old: Path, new: Path, tmp_path: Path, *options: object) -> dict:
    said = bbqrec("tokenize", "--append", old, new, "-o", tmp_path / "g.h5", "--json", *options)
    assert said.status in (2, 3)
    assert not (tmp_path / "g.h5").exists()
    return json.loads(said.err.splitlines()[-1])


def test_features_that_do_not_fit(bbqrec, old, features, tmp_path):
    wide = changed(features, tmp_path / "w.h5", "text", values=np.zeros((12, 9), dtype=np.float32))
    assert "width of text is 9; the codes of" in refused(bbqrec, old["bbqrec"], wide, tmp_path)["message"]
    other = changed(features, tmp_path / "e.h5", "image", encoder="another")
    assert "encoder of image is 'another'" in refused(bbqrec, old["bbqrec"], other, tmp_path)["message"]
    raw = changed(features, tmp_path / "n.h5", "text", encoder="tiny normalized")
    assert "encoder of text is 'tiny normalized'" in refused(bbqrec, old["rqvae"], raw, tmp_path)["message"]
    # A single grey picture among the old items makes them not of unit length: that is not another encoder.
    lengths = changed(features, tmp_path / "l.h5", "text", normalized=False)
    append(bbqrec, old["rqvae"], lengths, tmp_path / "of-lengths.h5")
    only = dataclasses.replace(features, features={"text": features.features["text"]})
    hdf5.write_features(tmp_path / "t.h5", only, config={})
    error = refused(bbqrec, old["bbqrec"], tmp_path / "t.h5", tmp_path)
    assert "has no feature image" in error["message"]
    assert "bbqrec embed --modalities text,image" in error["hint"]
    append(bbqrec, old["rqvae"], tmp_path / "t.h5", tmp_path / "fine.h5")


def test_what_can_not_grow(bbqrec, old, grown, features, files, tmp_path):
    index = tmp_path / "index.json"
    index.write_text(json.dumps({f"i{row}": [f"<a_{row}>"] for row in range(12)}))
    hdf5.write_features(tmp_path / "f.h5", part(features, OLD), config={})
    made = bbqrec("tokenize", tmp_path / "f.h5", "--method", "published", "--index", index, "-o", tmp_path / "p.h5")
    assert made.status == 0, made.err
    error = refused(bbqrec, tmp_path / "p.h5", grown, tmp_path)
    assert "made by the method published, which cannot encode new items" in error["message"]
    aged = tmp_path / "aged.h5"
    aged.write_bytes(old["bbqrec"].read_bytes())
    with h5py.File(aged, "a") as file:
        del file["encoder"], file.attrs["encoder_inputs"]
    error = refused(bbqrec, aged, grown, tmp_path)
    assert "an older tokens file" in error["message"]
    assert "bbqrec tokenize` again" in error["hint"]
    ids = ["--signals", "id", "--epochs", 1, "--dim", 8, "--codebook-size", 8, "-o", tmp_path / "ids.h5"]
    assert bbqrec("tokenize", tmp_path / "f.h5", *ids, "--device", "cpu").status == 0
    assert (
        "its codes come of interactions alone (id)" in refused(bbqrec, tmp_path / "ids.h5", grown, tmp_path)["message"]
    )
    torn = tmp_path / "torn.h5"
    torn.write_bytes(old["bbqrec"].read_bytes())
    with h5py.File(torn, "a") as file:
        del file["encoder/text.aligned.0.weight"]
    assert "does not fit its configuration" in refused(bbqrec, torn, grown, tmp_path)["message"]
    for damage, said in {
        "codebooks": "/codebooks holds NaN", "encoder/text.scale": "/encoder/text.scale holds NaN",
        "encoder/text.mean": "/encoder/text.mean is not of",
    }.items():  # fmt: skip
        torn.write_bytes(old["rqvae"].read_bytes())
        with h5py.File(torn, "a") as file:
            if damage.endswith("mean"):
                del file[damage]
                file[damage] = np.zeros(1, np.float32)
            else:
                file[damage][...] = np.nan
        error = refused(bbqrec, torn, grown, tmp_path)
        assert (error["error"], said in error["message"]) == ("broken_file", True), error
    assert refused(bbqrec, old["bbqrec"], files["dataset"], tmp_path)["error"] == "wrong_kind"
    for options in (["--levels", 3], ["--method", "rqvae"], ["--fit-items", 3]):
        assert f"{options[0]} has no effect" in refused(bbqrec, old["bbqrec"], grown, tmp_path, *options)["message"]


@pytest.mark.parametrize("method", ["bbqrec", "rqvae"])
def test_without_new_items_users_and_sequences_are_the_new_ones(bbqrec, old, features, tmp_path, method):
    """As on a day on which a shop has no new item."""
    same = part(features, OLD)
    walks = [[*walk.tolist(), 0] for walk in same.catalogue.sequences]
    later = dataclasses.replace(same.catalogue, sequences=Sequences.from_lists(walks))
    hdf5.write_features(tmp_path / "later.h5", dataclasses.replace(same, catalogue=later), config={})
    said = bbqrec("tokenize", "--append", old[method], tmp_path / "later.h5", "-o", tmp_path / "grown.h5")
    assert said.status == 0, said.err
    assert "the codes stay" in " ".join(said.err.split())
    before, after = hdf5.read_tokens(old[method]), hdf5.read_tokens(tmp_path / "grown.h5")
    np.testing.assert_array_equal(after.codes.codes, before.codes.codes)
    assert [walk.tolist() for walk in after.catalogue.sequences] == walks


def test_a_constant_column(bbqrec, features, tmp_path):
    """Its scale is infinite, so that it says nothing."""
    text = features.features["text"]
    values = text.values.copy()
    values[:, 0] = 0
    flat = dataclasses.replace(features, features={"text": dataclasses.replace(text, values=values)})
    hdf5.write_features(tmp_path / "f.h5", part(flat, OLD), config={})
    hdf5.write_features(tmp_path / "g.h5", flat, config={})
    options = ["--method", "rqkmeans", "--codebook-size", 4, "--device", "cpu"]
    assert bbqrec("tokenize", tmp_path / "f.h5", "-o", tmp_path / "t.h5", *options).status == 0
    made, _ = append(bbqrec, tmp_path / "t.h5", tmp_path / "g.h5", tmp_path / "grown.h5")
    assert made.catalogue.items == 12


def test_the_usual_name(bbqrec, old, grown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bbqrec("tokenize", "--append", old["rqvae"], grown, "--device", "cpu").status == 0
    assert hdf5.read_tokens(Path("grown.h5")).catalogue.items == 12


def test_nan_names_the_item(bbqrec, old, features, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    values = features.features["text"].values.copy()
    values[7, 1] = np.nan
    bad = changed(features, tmp_path / "f.h5", "text", values=values)
    assert "first in item 'i7' (row 7)" in refused(bbqrec, old["rqvae"], bad, tmp_path)["message"]


def test_new_items_without_content(bbqrec, old, features, tmp_path):
    """Nothing is known of it: neither an ID signal nor any other."""
    bare = {name: Feature(values=np.zeros((1, 8), dtype=np.float32), present=np.zeros(1, dtype=bool), encoder="tiny",
                          normalized=True) for name in features.features}  # fmt: skip
    new = part(features, (3,), users=False)
    hdf5.write_features(tmp_path / "bare.h5", dataclasses.replace(new, features=bare), config={})
    after, _ = append(bbqrec, old["bbqrec"], tmp_path / "bare.h5", tmp_path / "g.h5", "--on-collision", "share")
    assert not after.codes.present[9].any()
    assert not after.codes.item_vectors[9].any()


@pytest.fixture(scope="module")
def chain(old, grown, tmp_path_factory) -> dict[str, Path]:
    """A generator of the old items, and the same IDs with three more."""
    from bbqrec_cli.cli import app

    folder = tmp_path_factory.mktemp("chain")
    made = {name: folder / f"{name}.h5" for name in ("grown", "model", "popularity")}
    quick = ["--epochs", 1, "--width", 8, "--heads", 2, "--layers", 1, "--decoder-layers", 1]
    for command in (
        ["tokenize", "--append", old["bbqrec"], grown, "-o", made["grown"]],
        ["train", old["bbqrec"], "-o", made["model"], *quick],
        ["train", old["bbqrec"], "-o", made["popularity"], "--model", "popularity"],
    ):
        with pytest.raises(SystemExit) as stop:
            app.main([str(each) for each in [*command, "--device", "cpu", "--quiet"]])
        assert not stop.value.code
    return made


def test_cold_items_are_judged_without_training(bbqrec, chain, features, tmp_path):
    """Users whose test item is i3, i7 or i11, counted from the sequences; they stand in the metrics file too."""
    said = bbqrec(
        "evaluate", chain["model"], "--tokens", chain["grown"], "-o", tmp_path / "m.h5", "--device", "cpu", "--k",
        "5,12", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    found, metrics = json.loads(said.out), hdf5.read_metrics(tmp_path / "m.h5")
    cold = np.array([walk[-1] in NEW for walk in features.catalogue.sequences])
    assert 0 < cold.sum() < len(cold)
    np.testing.assert_array_equal(metrics.cold, cold)
    assert found["cold"]["users"] == cold.sum()
    assert found["cold"]["recall@5"] == pytest.approx(metrics.recall[5][cold].mean())
    assert found["cold"]["ndcg@12"] == pytest.approx(metrics.ndcg[12][cold].mean())
    assert found["cold"]["recall@12"] == found["recall@12"] == 1, "all twelve are ranked"
    assert found["cold"]["confidence"]["recall@5"] == list(bootstrap_interval(metrics.recall[5][cold], seed=0))
    assert found["cold"]["confidence"] != found["confidence"]
    assert [p["kind"] for p in hdf5.describe(tmp_path / "m.h5")["parents"]] == ["model", "tokens"]
    shown = bbqrec(
        "evaluate", chain["model"], "--tokens", chain["grown"], "-o", tmp_path / "n.h5", "--device", "cpu"
    ).out
    said = f"cold targets (no training interaction): {cold.sum()}, recall@10"
    assert said in " ".join(shown.split())


def test_no_cold_targets(bbqrec, chain, tmp_path):
    said = bbqrec("evaluate", chain["popularity"], "-o", tmp_path / "m.h5", "--json")
    assert json.loads(said.out)["cold"] == {"users": 0}
    said = bbqrec("evaluate", chain["popularity"], "-o", tmp_path / "n.h5")
    assert "cold targets" not in said.out


def test_new_items_are_recommended_without_training(bbqrec, chain):
    said = bbqrec(
        "recommend", chain["model"], "--tokens", chain["grown"], "--history", "i3,i0", "--top", 12, "--include-seen",
        "--device", "cpu",
        "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    items = json.loads(said.out)["items"]
    assert {item["id"] for item in items} == {f"i{row}" for row in range(12)}
    assert {"drill", "diary", "date"} <= {item["title"] for item in items}


def test_a_model_without_ids_can_not(bbqrec, chain, tmp_path):
    for command in (["evaluate", chain["popularity"], "-o", tmp_path / "m.h5"], ["recommend", chain["popularity"]]):
        said = bbqrec(*command, "--tokens", chain["grown"], "--json")
        assert said.status == 3
        assert "has no semantic IDs" in json.loads(said.err.splitlines()[-1])["message"]


@pytest.mark.parametrize("model", ["bbqrec", "sasrec", "popularity"])
def test_every_model_trains_on_a_grown_catalogue(bbqrec, old, features, tmp_path, model):
    """Also with items that nobody took; where they are nobody's target either, nothing is cold."""
    hdf5.write_features(tmp_path / "new.h5", part(features, NEW, users=False), config={})
    append(bbqrec, old["bbqrec"], tmp_path / "new.h5", tmp_path / "g.h5")
    quick = [] if model == "popularity" else ["--epochs", 1, "--width", 8, "--heads", 2, "--layers", 1]
    made = bbqrec("train", tmp_path / "g.h5", "-o", tmp_path / "m.h5", "--model", model, *quick, "--device", "cpu")
    assert made.status == 0, made.err
    said = json.loads(bbqrec("evaluate", tmp_path / "m.h5", "-o", tmp_path / "e.h5", "--k", 12, "--json").out)
    assert (said["recall@12"], said["cold"]) == (1, {"users": 0})


@pytest.mark.parametrize("method", QUICK)
def test_what_the_tokenizer_was_trained_on_is_not_held_out(bbqrec, old, features, tmp_path, method):
    """Each walk ends where the old training part does: bbqrec has read what is held out, rqvae reads no walks."""
    new = part(features, (*range(6, 12), *range(6)))
    walks = [walk[: max(3, len(walk) - 3)].tolist() for walk in new.catalogue.sequences]
    new = dataclasses.replace(
        new, catalogue=dataclasses.replace(new.catalogue, sequences=Sequences.from_lists(walks))
    )  # fmt: skip
    hdf5.write_features(tmp_path / "new.h5", new, config={})
    said = bbqrec("tokenize", "--append", old[method], tmp_path / "new.h5", "-o", tmp_path / "g.h5", "--device", "cpu")
    assert said.status == (3 if method == "bbqrec" else 0)
    assert ("its tokenizer was trained on" in said.err) == (method == "bbqrec")


def test_what_old_items_share_is_not_said_of_the_new_ones(bbqrec, old, grown, tmp_path):
    tokens, about = hdf5.read_tokens(old["rqvae"]), hdf5.describe(old["rqvae"])
    codes = tokens.codes.codes.copy()
    codes[1:4] = codes[0]
    sharing = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=codes))
    config = about["config"] | {"seed": 7, "precision": "bf16"}
    hdf5.write_tokens(tmp_path / "share.h5", sharing, config=config, parents=[])
    words = ("tokenize", "--append", tmp_path / "share.h5", grown, "-o", tmp_path / "g.h5", "--device", "cpu")
    said = bbqrec(*words, "--json")
    assert (said.status, json.loads(said.out)["colliding_items"]) == (0, 4)
    assert "still share" not in said.err
    made = hdf5.describe(tmp_path / "g.h5")["config"]
    assert (made["seed"], made["precision"]) == (7, "bf16"), "those of the fit"
    again = bbqrec(*words, "--force", "--seed", 3)
    assert (again.status, "--seed" in again.err) == (2, True), "nothing is drawn"
