"""`train --from`: a finished model is trained further, on the same items or more of them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from helpers import Listener, interrupted_in

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD, pad
from bbqrec_cli.errors import DataError, InterruptedRunError, UsageError
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.registry import MODELS, load_model
from bbqrec_cli.records import Features, Sequences, Tokens
from bbqrec_cli.stages.train import TrainConfig, run

GRADIENT = tuple(name for name in MODELS if hasattr(MODELS.config(name), "epochs"))
SMALL = {"epochs": 2, "width": 8, "layers": 1, "decoder_layers": 1, "heads": 2, "batch_size": 10, "patience": 0}
ORDER = np.array([7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 4, 6])
"""Row of the new file -> row of the old one."""


def options(name: str, **more) -> dict:
    known = {f.name for f in dataclasses.fields(MODELS.config(name))}
    return {key: value for key, value in (SMALL | more).items() if key in known}


def source_of(name: str) -> str:
    return "features" if "features" in MODELS.implementation(name).needed(options_of(name)) else "tokens"


def options_of(name: str) -> dict:
    from bbqrec_cli.models.registry import model_settings

    return model_settings(MODELS.config(name)(**options(name)))


def begin(name: str, path, files, **more):
    config = TrainConfig(
        input=files[source_of(name)], output=path, model=name, options=options(name, **more), device="cpu",
        precision="fp32",
    )  # fmt: skip
    return config, run(config)


def on(config: TrainConfig, **changes) -> TrainConfig:
    """The configuration that goes on with `config`'s output, into next.h5."""
    given = {"output": config.output.with_name("next.h5"), "from_": config.output, "options": {"epochs": 2}} | changes
    return dataclasses.replace(config, **given)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and (one[k] == other[k]).all() for k in one
    )


def changed(catalogue, codes, features, *, new: int = 0):
    """The files' content with the items in ORDER, and `new` items behind them that nobody has touched."""
    place = np.argsort(ORDER)
    more = dataclasses.replace(
        catalogue, item_ids=[f"i{row}" for row in ORDER] + [f"n{row}" for row in range(new)],
        titles=[catalogue.titles[row] for row in ORDER] + [""] * new, attributes={},
        sequences=dataclasses.replace(
            catalogue.sequences, items=place[catalogue.sequences.items].astype(np.int32)
        ),
    )  # fmt: skip
    rows = np.concatenate([ORDER, np.zeros(new, dtype=np.int64)])
    ids = codes.codes[rows].copy()
    ids[12:, 0] = 3  # a code tuple that no old item has
    made = dataclasses.replace(codes, codes=ids, item_vectors=codes.item_vectors[rows])
    vectors = {
        name: dataclasses.replace(f, values=f.values[rows], present=f.present[rows])
        for name, f in features.features.items()
    }
    return more, made, vectors


@pytest.fixture(params=GRADIENT)
def name(request) -> str:
    return request.param


def test_without_epochs_the_weights_are_the_same_bits(name, files, tmp_path):
    config, first = begin(name, tmp_path / "model.h5", files)
    result = run(on(config, options={"epochs": 0}))
    old, new = hdf5.read_model(config.output), hdf5.read_model(result.output)
    assert same(old.weights, new.weights)
    assert (new.settings, new.history) == (old.settings, [])
    assert new.earlier == [{"history": old.history, "validation": result.before}]
    assert (result.epochs, result.best_epoch) == (0, 0)
    assert result.validation == result.before == pytest.approx(first.validation)


def top(path, histories: list[list[str]]) -> list[str]:
    """The best item for each history, as ids."""
    trained = hdf5.read_model(path)
    items = torch.from_numpy(pad([trained.catalogue.item_ids.rows(each) for each in histories]))
    model = load_model(trained, torch.device("cpu"))
    found, _ = model.recommend(Batch(items, torch.full_like(items, PAD)), Wanted(k=1))
    return [trained.catalogue.item_ids[row] for row in found[:, 0].tolist()]


def test_items_are_matched_by_id(name, files, catalogue, codes, features, tmp_path):
    config, _ = begin(name, tmp_path / "model.h5", files, epochs=3, learning_rate=0.02)
    for new in (0, 2):
        more, ids, vectors = changed(catalogue, codes, features, new=new)
        source = tmp_path / f"source{new}.h5"
        if source_of(name) == "tokens":
            hdf5.write_tokens(source, Tokens(catalogue=more, codes=ids), config={})
        else:
            hdf5.write_features(source, Features(catalogue=more, features=vectors), config={})
        again = on(config, input=source, options={"epochs": 0}, output=tmp_path / f"next{new}.h5")
        run(again)
        old, made = hdf5.read_model(config.output), hdf5.read_model(again.output)
        of_items = MODELS.implementation(name).per_item
        for key in old.weights.keys() & set(of_items):
            assert made.weights[key].shape[0] == 12 + new
            np.testing.assert_array_equal(made.weights[key][:12], old.weights[key][ORDER], err_msg=key)
        # What is not known to have rows of items or of code tuples has the shape that it had.
        free = {*of_items, "tuples", "tuple_bias", *MODELS.implementation(name).of_catalogue}
        assert {k: v.shape for k, v in made.weights.items() if k not in free} == {
            k: v.shape for k, v in old.weights.items() if k not in free
        }
        if not new:
            histories = [["i0", "i1"], ["i5", "i6", "i7"], ["i11", "i8"], ["i3"]]
            assert top(again.output, histories) == top(config.output, histories)
            for key, axis in MODELS.implementation(name).of_catalogue.items():
                expected = old.weights[key] if axis is None else old.weights[key].take(ORDER, axis)
                np.testing.assert_array_equal(made.weights[key], expected, err_msg=key)
        result = run(dataclasses.replace(again, options={"epochs": 1}, output=tmp_path / f"trained{new}.h5"))
        assert result.epochs == 1


@pytest.mark.parametrize(("new", "users"), [(0, None), (2, None), (0, 3)])
def test_heads_count_the_new_data(new, users, files, catalogue, codes, features, tmp_path):
    heads = {"markov_head": True, "similarity_head": True}
    config, _ = begin("bbqrec", tmp_path / "model.h5", files, **heads)
    more, ids, _ = changed(catalogue, codes, features, new=new)
    if users:  # so that items have fewer successors than before
        rows = [more.sequences[user].tolist() for user in range(users)]
        more = dataclasses.replace(more, user_ids=more.user_ids[:users], sequences=Sequences.from_lists(rows))
    hdf5.write_tokens(tmp_path / "source.h5", Tokens(catalogue=more, codes=ids), config={})
    again = on(config, input=tmp_path / "source.h5", options={"epochs": 0})
    run(again)
    fresh = run(dataclasses.replace(config, input=again.input, output=tmp_path / "fresh.h5"))
    names = hdf5.read_model(fresh.output).weights
    counted = [key for key in names if key.startswith("markov.chain") or "repeats" in key]
    assert len(counted) == 6
    for key in counted:
        found, expected = (hdf5.read_model(path).weights[key] for path in (again.output, fresh.output))
        np.testing.assert_array_equal(found, expected, err_msg=key)
    if not new and not users:
        histories = [["i0", "i1"], ["i5", "i6", "i7"], ["i11", "i8"], ["i3"]]
        assert top(again.output, histories) == top(config.output, histories)


def read_by(trained) -> torch.Tensor:
    """Scores of the first 12 items; of missrec, whose interests are those of all items, what it reads of these."""
    model = load_model(trained, torch.device("cpu"))
    if trained.name == "missrec":
        return model.contents()[:, :12].detach()
    items = torch.tensor([[0, 1, 2], [5, 6, -1], [11, 8, 10]])
    allowed = torch.arange(len(trained.catalogue.item_ids)) < 12
    found, scores = model.recommend(Batch(items, torch.full_like(items, PAD)), Wanted(k=12, allowed=allowed))
    return torch.zeros_like(scores).scatter(1, found, scores)


@pytest.mark.parametrize("older", [False, True], ids=["", "older file"])
@pytest.mark.parametrize("name", ["sasrec", "nova-bert", "missrec"])
def test_new_items_do_not_change_how_features_are_read(name, older, files, catalogue, features, tmp_path):
    """Mean and scale stay those that the weights were trained with, also of a file that does not hold them."""
    config = TrainConfig(
        input=files["features"], output=tmp_path / "model.h5", model=name, options=options(name, features=["all"]),
        device="cpu", precision="fp32",
    )  # fmt: skip
    run(config)
    trained = hdf5.read_model(config.output)
    if older:
        bare = {key: value for key, value in trained.weights.items() if not key.endswith((".mean", ".scale"))}
        hdf5.write_model(tmp_path / "older.h5", dataclasses.replace(trained, weights=bare), config={})
        config = dataclasses.replace(config, output=tmp_path / "older.h5")
        assert torch.equal(read_by(hdf5.read_model(config.output)), read_by(trained))
    more = dataclasses.replace(
        catalogue, item_ids=[*catalogue.item_ids, *(f"n{row}" for row in range(12))],
        titles=[*catalogue.titles, *[""] * 12], attributes={},
    )  # fmt: skip
    vectors = {
        key: dataclasses.replace(
            each,
            values=np.concatenate([each.values, 3 * each.values[::-1] + 1]),
            present=np.append(each.present, [True] * 12),
        )
        for key, each in features.features.items()
    }
    hdf5.write_features(tmp_path / "grown.h5", Features(catalogue=more, features=vectors), config={})
    result = run(on(config, input=tmp_path / "grown.h5", options={"epochs": 0}))
    made = hdf5.read_model(result.output)
    assert made.weights.keys() == trained.weights.keys()
    torch.testing.assert_close(read_by(made), read_by(trained), rtol=1e-4, atol=1e-6)


def test_it_learns_further_and_keeps_both_histories(files, tmp_path):
    config, first = begin("sasrec", tmp_path / "model.h5", files)
    second = run(on(config, options={"epochs": 40, "learning_rate": 0.01, "patience": 0}))
    assert second.before == first.validation
    assert second.best_epoch > 0
    assert second.validation["ndcg@10"] > first.validation["ndcg@10"]
    third = dataclasses.replace(
        config, output=tmp_path / "third.h5", from_=second.output, options={"epochs": 1, "learning_rate": 0.0}
    )
    run(third)
    made, before = hdf5.read_model(third.output), hdf5.read_model(second.output)
    begun = hdf5.read_model(config.output).history
    assert [each["history"] for each in made.earlier] == [begun, before.history]
    assert made.earlier[0]["validation"] == second.before
    assert (len(made.history), len(before.history), len(begun)) == (1, 40, 2)
    about = hdf5.describe(third.output)
    assert (about["attributes"]["epochs"], about["attributes"]["earlier_epochs"]) == (1, 42)
    assert {each["sha256"] for each in about["parents"]} == {hdf5.sha256(second.output), hdf5.sha256(config.input)}


def test_pre_training_was_before(files, tmp_path):
    config, _ = begin("vq-rec", tmp_path / "model.h5", files, pretrain_epochs=1)
    run(on(config, options={"epochs": 1, "pretrain_epochs": 5}), listener := Listener())
    assert "--pretrain-epochs has no effect: --from trains the last phase alone" in listener.logged
    made = hdf5.describe(tmp_path / "next.h5")
    assert (made["config"]["options"]["pretrain_epochs"], made["attributes"]["epochs"]) == (0, 1)


def test_interactions_that_the_new_data_lack_are_said(files, catalogue, tmp_path):
    """They are training interactions all the same, which the file does not know."""
    listener = Listener()
    config, _ = begin("sasrec", tmp_path / "model.h5", files)
    walks = [walk.tolist() for walk in catalogue.sequences]
    later = dataclasses.replace(catalogue, user_ids=catalogue.user_ids[3:], sequences=Sequences.from_lists(walks[3:]))
    features = hdf5.read_features(files["features"])
    hdf5.write_features(tmp_path / "later.h5", dataclasses.replace(features, catalogue=later), config={})
    run(on(config, input=tmp_path / "later.h5"), listener)
    assert f"lacks {sum(len(walk) - 2 for walk in walks[:3])} interactions that" in listener.warned[0]
    listener.warned.clear()
    run(on(config, output=tmp_path / "again.h5"), listener)
    assert not listener.warned


def test_what_never_improves_is_left_as_it_was(bbqrec, files, tmp_path):
    """A learning rate that destroys the model: every epoch is worse, and the weights are the old ones."""
    begin("sasrec", tmp_path / "model.h5", files, epochs=40, learning_rate=0.01)
    said = bbqrec(
        "train", files["tokens"], "--from", tmp_path / "model.h5", "-o", tmp_path / "next.h5", "--epochs", 3,
        "--learning-rate", 5, "--schedule", "constant", "--device", "cpu", "--json", "--patience", 2,
    )  # fmt: skip
    assert said.status == 0
    result = json.loads(said.out)
    assert (result["best_epoch"], result["epochs"], result["model"]) == (0, 2, "sasrec")
    assert result["validation"] == result["before"]
    assert "no epoch was better on validation than" in said.err
    old, new = (hdf5.read_model(tmp_path / f"{name}.h5") for name in ("model", "next"))
    assert same(old.weights, new.weights)


def test_an_interrupted_run_resumes_to_the_same_numbers(files, tmp_path):
    config, _ = begin("sasrec", tmp_path / "model.h5", files)
    going = on(config, options={"epochs": 4, "learning_rate": 0.01})
    with interrupted_in(2), pytest.raises(InterruptedRunError, match="2 of 4 epochs are saved"):
        run(going)
    resumed = run(dataclasses.replace(going, resume=True))
    whole = run(dataclasses.replace(going, output=tmp_path / "whole.h5"))
    assert same(hdf5.read_model(resumed.output).weights, hdf5.read_model(whole.output).weights)
    assert resumed.before == whole.before
    assert (resumed.best_epoch, resumed.epochs) == (whole.best_epoch, 4)


def test_resuming_with_another_model_is_refused(files, tmp_path):
    config, _ = begin("sasrec", tmp_path / "model.h5", files)
    begin("sasrec", tmp_path / "other.h5", files, epochs=1)
    with interrupted_in(1), pytest.raises(InterruptedRunError):
        run(on(config))
    with pytest.raises(DataError, match="the checkpoint is of another run"):
        run(on(config, resume=True, from_=tmp_path / "other.h5"))


def test_contradictions(bbqrec, files, tmp_path):
    begin("sasrec", tmp_path / "model.h5", files)
    run(TrainConfig(input=files["tokens"], output=tmp_path / "popular.h5", model="popularity", device="cpu"))
    base = ("train", files["tokens"], "-o", tmp_path / "next.h5", "--device", "cpu", "--from")
    for given, status, says in (
        ((tmp_path / "model.h5", "--width", 16), 2, "--width is 16, and the model of"),
        ((tmp_path / "model.h5", "--model", "gru4rec"), 2, "--model is gru4rec, and"),
        ((tmp_path / "popular.h5",), 2, "the model popularity is not trained in epochs"),
        ((files["tokens"],), 3, "is a tokens file; a model file is needed"),
        ((tmp_path / "none.h5",), 3, "none.h5"),
        ((tmp_path / "model.h5", "--dense-head"), 2, "sasrec has no dense head"),
    ):
        said = bbqrec(*base, *given)
        assert (said.status, says in " ".join(said.err.split())) == (status, True), said.err
    assert not (tmp_path / "next.h5").exists()
    # What agrees with the file may be said again.
    assert bbqrec(*base, tmp_path / "model.h5", "--width", 8, "--model", "sasrec", "--epochs", 1).status == 0
    said = bbqrec("train", files["tokens"], "--model", "sasrec", "-o", tmp_path / "model.h5")
    assert said.status == 3
    assert f"--from {tmp_path / 'model.h5'}" in "".join(said.err.split("\n")).replace("  ", "")


def test_from_stands_in_a_configuration_file(bbqrec, files, tmp_path):
    begin("sasrec", tmp_path / "model.h5", files)
    (tmp_path / "run.toml").write_text(f'[train]\nfrom = "{tmp_path / "model.h5"}"\nepochs = 1\n')
    made = bbqrec(
        "train", files["tokens"], "--config", tmp_path / "run.toml", "-o", tmp_path / "next.h5", "--device", "cpu"
    )
    assert made.status == 0, made.err
    assert hdf5.read_model(tmp_path / "next.h5").earlier


def test_zero_epochs_need_a_model_to_go_on_with(files, tmp_path):
    with pytest.raises(UsageError, match="--epochs is 0; it must be at least 1".replace("--", "[-][-]")):
        begin("sasrec", tmp_path / "model.h5", files, epochs=0)


@pytest.mark.parametrize("change", ["fewer", "codes", "feature", "held out"])
def test_what_cannot_be_gone_on_with(change, files, catalogue, codes, features, tmp_path):
    name = {"codes": "bbqrec", "feature": "missrec"}.get(change, "sasrec")
    config, _ = begin(name, tmp_path / "model.h5", files)
    source, says = tmp_path / "source.h5", ""
    if change == "fewer":
        keep = [walk[walk != 0] for walk in catalogue.sequences]
        less = dataclasses.replace(
            catalogue, item_ids=catalogue.item_ids[1:], titles=catalogue.titles[1:], attributes={},
            sequences=Sequences.from_lists([(walk - 1).tolist() for walk in keep]),
        )  # fmt: skip
        hdf5.write_features(source, Features(catalogue=less, features={}), config={})
        says = "1 of the 12 items that the model was trained on are missing, 'i0' first"
    elif change == "codes":
        swapped = codes.codes.copy()
        swapped[[0, 1]] = swapped[[1, 0]]
        changed = dataclasses.replace(codes, codes=swapped)
        hdf5.write_tokens(source, Tokens(catalogue=catalogue, codes=changed), config={})
        says = "other semantic IDs"
    elif change == "feature":
        other = {n: dataclasses.replace(f, encoder="larger") for n, f in features.features.items()}
        hdf5.write_features(source, Features(catalogue=catalogue, features=other), config={})
        says = "is of another encoder"
    else:  # what was trained on is held out now
        walks = [walk[:-2].tolist() for walk in catalogue.sequences]
        earlier = dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))
        hdf5.write_features(source, Features(catalogue=earlier, features={}), config={})
        says = "was trained on 60 interactions that are held out here"
    with pytest.raises(DataError, match=says):
        run(on(config, input=source))


def test_what_earlier_models_were_trained_on_is_remembered(files, catalogue, tmp_path):
    """Of a model that goes on from another one's weights, on other users: what the first one saw is held out still."""
    first, second, third = (tmp_path / f"{name}.h5" for name in ("first", "second", "third"))
    config, _ = begin("sasrec", first, files)
    others = dataclasses.replace(catalogue, user_ids=[f"v{user}" for user in range(catalogue.users)])
    features = hdf5.read_features(files["features"])
    hdf5.write_features(tmp_path / "others.h5", dataclasses.replace(features, catalogue=others), config={})
    shorter = Sequences.from_lists([walk[:-2].tolist() for walk in catalogue.sequences])
    cut = dataclasses.replace(catalogue, sequences=shorter)
    hdf5.write_features(tmp_path / "cut.h5", dataclasses.replace(features, catalogue=cut), config={})
    seen = sum(len(walk) - 2 for walk in catalogue.sequences)
    for model, further, known in ((first, second, seen), (second, third, 2 * seen)):
        with pytest.raises(DataError, match="was trained on 60 interactions that are held out here"):
            run(on(config, input=tmp_path / "cut.h5", from_=model))
        run(on(config, input=tmp_path / "others.h5", from_=model, output=further, options={"epochs": 0}))
        assert len(hdf5.read_model(further).earlier_interactions) == known, "each once, whoever repeats it"


def test_what_follows_from_all_features_follows_from_the_new_ones(files, features, tmp_path):
    """MISSRec's clusters: the same items, of which others have a picture."""
    config, _ = begin("missrec", tmp_path / "model.h5", files, features=["all"])
    image = features.features["image"]
    present = image.present[::-1].copy()
    values = np.where(present[:, None], image.values + 1, 0).astype(np.float32)
    moved = features.features | {"image": dataclasses.replace(image, values=values, present=present)}
    hdf5.write_features(tmp_path / "other.h5", dataclasses.replace(features, features=moved), config={})
    run(on(config, input=tmp_path / "other.h5", options={"epochs": 0}))
    made = load_model(hdf5.read_model(tmp_path / "next.h5"), torch.device("cpu"))
    found = {name: getattr(made, name).clone() for name in made.of_catalogue}
    made.refresh()
    for name, value in found.items():
        torch.testing.assert_close(value, getattr(made, name))
