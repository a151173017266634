from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import interrupted_in

from bbqrec_cli import device, hdf5
from bbqrec_cli.errors import DataError, InterruptedRunError, OutputExistsError, UsageError
from bbqrec_cli.evaluation import protocol
from bbqrec_cli.records import Dataset, Sequences, TrainedModel
from bbqrec_cli.stages import evaluate, train
from bbqrec_cli.stages.evaluate import EvaluateConfig
from bbqrec_cli.stages.train import TrainConfig, run

SMALL = {"epochs": 4, "width": 8, "batch_size": 10, "patience": 0}


@pytest.fixture
def config(files, tmp_path) -> TrainConfig:
    return TrainConfig(
        input=files["tokens"], output=tmp_path / "model.h5", model="sasrec", device="cpu", precision="fp32",
        options=SMALL,
    )  # fmt: skip


def test_the_model_file_holds_all_that_is_needed(config, files, catalogue):
    result = run(config)
    made = hdf5.read_model(config.output)
    assert (made.name, made.settings["width"], made.settings["history"]) == ("sasrec", 8, 20)
    assert made.codes is None, "sasrec needs none"
    assert made.catalogue.titles == catalogue.titles
    assert [row["epoch"] for row in made.history] == [1, 2, 3, 4]
    assert made.history[result.best_epoch - 1]["ndcg@10"] == result.validation["ndcg@10"]
    about = hdf5.describe(config.output)
    assert about["parents"][0]["sha256"] == hdf5.sha256(files["tokens"])
    assert about["config"]["options"]["epochs"] == 4
    assert about["config"]["options"]["learning_rate"] == 0.001, "defaults are recorded too"
    assert set(result.to_json()) >= {"output", "model", "epochs", "best_epoch", "validation", "seconds"}
    assert not list(config.output.parent.glob("*.checkpoint"))


@pytest.mark.parametrize("kind", ["dataset", "features"])
def test_models_without_codes_take_any_file_with_sequences(config, files, kind):
    run(dataclasses.replace(config, input=files[kind]))
    assert hdf5.read_model(config.output).name == "sasrec"


def test_models_with_codes_do_not(config, files):
    with pytest.raises(DataError, match="bbqrec needs semantic IDs") as caught:
        run(dataclasses.replace(config, input=files["dataset"], model="bbqrec", options={}))
    assert caught.value.hint == "bbqrec tokenize"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "sasrek", "options": {}}, "did you mean 'sasrec'"),
        ({"options": {"variant": "full"}}, "--model sasrec: unknown option 'variant'"),
        ({"model": "popularity"}, "--model popularity: unknown option 'epochs'"),
        ({"options": {"dropout": 1.5}}, "--dropout is 1.5; it must be 0 to 0.9"),
    ],
)
def test_wrong_options_are_named(config, changes, says):
    with pytest.raises(UsageError, match=says.replace("--", "[-][-]")):
        run(dataclasses.replace(config, **changes))


def test_an_existing_output_is_left_alone(config):
    config.output.write_text("mine")
    with pytest.raises(OutputExistsError):
        run(config)
    assert config.output.read_text() == "mine"


def test_the_input_is_not_the_output(config, files):
    with pytest.raises(DataError, match="is an input and would be lost"):
        run(dataclasses.replace(config, output=files["tokens"], force=True))


def test_users_too_short_to_validate_on(config, catalogue, tmp_path):
    short = dataclasses.replace(catalogue, sequences=Sequences.from_lists([[0, 1]] * 30))
    hdf5.write_dataset(tmp_path / "short.h5", Dataset(catalogue=short, texts=[""] * 12, images=[b""] * 12), config={})
    with pytest.raises(DataError, match="no user has 3 interactions"):
        run(dataclasses.replace(config, input=tmp_path / "short.h5"))


@pytest.fixture
def stopped(config) -> TrainConfig:
    """A run that was interrupted in its third epoch."""
    saved = r"2 of 4 epochs are saved in .*model\.h5\.checkpoint"
    with interrupted_in(2), pytest.raises(InterruptedRunError, match=saved):
        run(config)
    assert not config.output.exists()
    return config


def test_resumed_is_uninterrupted(stopped, tmp_path):
    run(dataclasses.replace(stopped, resume=True))
    whole = dataclasses.replace(stopped, output=tmp_path / "whole.h5")
    run(whole)
    mine, theirs = hdf5.read_model(stopped.output), hdf5.read_model(whole.output)
    for name, value in theirs.weights.items():
        np.testing.assert_array_equal(mine.weights[name], value, err_msg=name)
    assert not stopped.output.with_name("model.h5.checkpoint").exists()


@pytest.mark.parametrize("first", [True, False])
def test_a_resumed_run_keeps_its_precision(config, first, monkeypatch):
    """What `auto` measures depends on what else the machine does."""
    config = dataclasses.replace(config, precision="auto")
    monkeypatch.setattr(device, "multiplies_bf16", lambda: first)
    with interrupted_in(2), pytest.raises(InterruptedRunError):
        run(config)
    monkeypatch.setattr(device, "multiplies_bf16", lambda: not first)
    assert run(dataclasses.replace(config, resume=True)).epochs == 4
    assert hdf5.describe(config.output)["config"]["precision"] == ("bf16" if first else "fp32")


def test_seconds_are_of_the_whole_run(config, monkeypatch):
    """With reading and writing, and with the epochs before an interruption."""
    read = hdf5.read_item_data

    def slowly(path):
        time.sleep(0.5)
        return read(path)

    with interrupted_in(2, seconds=0.3), pytest.raises(InterruptedRunError):
        run(config)
    monkeypatch.setattr(hdf5, "read_item_data", slowly)
    result = run(dataclasses.replace(config, resume=True))
    rows = [row["seconds"] for row in hdf5.read_model(config.output).history]
    assert sum(rows[:2]) >= 0.6
    assert result.seconds >= sum(rows) + 0.5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"options": SMALL | {"epochs": 8}}, "epochs was 4 and is 8"),
        ({"model": "popularity", "options": {}}, None),
    ],
)
def test_resuming_another_run(stopped, changes, says):
    again = dataclasses.replace(stopped, resume=True, **changes)
    if says is None:
        run(again)  # nothing is trained, so nothing is resumed
    else:
        with pytest.raises(DataError, match=says):
            run(again)


def test_resuming_on_other_data(stopped, files):
    with pytest.raises(DataError, match="sha256 was"):
        run(dataclasses.replace(stopped, resume=True, input=files["features"]))


def test_a_moved_input_can_be_resumed(stopped, files, tmp_path):
    moved = tmp_path / "moved.h5"
    moved.write_bytes(files["tokens"].read_bytes())
    assert run(dataclasses.replace(stopped, resume=True, input=moved)).epochs == 4


def test_more_minutes_for_a_resumed_run(stopped):
    assert run(dataclasses.replace(stopped, resume=True, minutes=60.0)).epochs == 4


def test_validation_users(config):
    from bbqrec_cli.data.splits import HeldOut, split_of, subsample_users

    held = split_of(hdf5.read_catalogue(config.input).sequences).validation
    assert subsample_users(held, 0) is held
    assert subsample_users(held, 10).users.tolist() == list(range(0, 30, 3))
    users = np.repeat(np.arange(30), np.arange(30) % 4)  # several targets of a user, none of every fourth
    rows = np.arange(len(users))
    several = HeldOut(users=users, targets=rows, seen_items=rows, seen_start=rows, seen_stop=rows)
    some = subsample_users(several, 7)
    assert some.users.tolist() == [user for user in users if user in np.unique(users)[::3]], "users with all targets"
    assert (some.targets == np.flatnonzero(np.isin(users, some.users))).all()


@pytest.mark.parametrize("options", [{}, {"exclude_seen": True}, {"validation_users": 9}, {"history": 3}])
def test_validation_is_what_evaluate_says(config, files, tmp_path, options):
    """Of the same protocol, the same users and the same length of history; walks at random repeat items."""
    features, rng = hdf5.read_features(files["features"]), np.random.default_rng(0)
    walks = [rng.integers(0, 12, rng.integers(3, 12)).tolist() for _ in range(30)]
    repeating = dataclasses.replace(features.catalogue, sequences=Sequences.from_lists(walks))
    hdf5.write_features(tmp_path / "walks.h5", dataclasses.replace(features, catalogue=repeating), config={})
    given = {key: value for key, value in options.items() if key != "history"}
    model = {key: value for key, value in options.items() if key == "history"}
    trained = run(dataclasses.replace(config, input=tmp_path / "walks.h5", options=SMALL | model, **given))
    evaluated = EvaluateConfig(
        model=config.output, output=tmp_path / "m.h5", split="validation", k=(10,), device="cpu", precision="fp32",
        exclude_seen=bool(given.get("exclude_seen")),
    )  # fmt: skip
    evaluate.run(evaluated)
    made = hdf5.read_metrics(tmp_path / "m.h5")
    users = slice(None, None, 3 if "validation_users" in given else 1)
    assert trained.validation["ndcg@10"] == pytest.approx(float(made.ndcg[10][users].mean()), abs=1e-6)
    assert hdf5.read_model(config.output).settings["history"] == model.get("history", 20)


def test_the_command(bbqrec, files, tmp_path):
    output = tmp_path / "model.h5"
    said = bbqrec("train", files["tokens"], "-o", output, "--model", "sasrec", "--epochs", 2, "--width", 8, "--json")
    assert said.status == 0
    result = json.loads(said.out)
    assert (result["model"], result["epochs"]) == ("sasrec", 2)
    assert said.err.count("ndcg@10") == 2, "one line an epoch"
    refused = bbqrec("train", files["tokens"], "-o", tmp_path / "b.h5", "--model", "sasrec", "--decoder-layers", 2)
    assert refused.status == 2
    assert "sasrec has no decoder layers; --decoder-layers is an option of bbqrec, tiger" in refused.err


KILLED = {
    "sasrec": ["--epochs", "25", "--width", "32", "--batch-size", "4"],
    "bbqrec": ["--epochs", "8", "--width", "16", "--batch-size", "4", "--layers", "1", "--decoder-layers", "1"],
}
"""Long enough to be hit in the middle."""


def command(model: str, source: Path, output: Path, *more: str) -> list[str]:
    fixed = ["--device", "cpu", "--threads", "1", "--patience", "0", "--json"]
    made = [sys.executable, "-m", "bbqrec_cli", "train", str(source), "-o", str(output), "--model", model]
    return [*made, *KILLED[model], *fixed, *more]


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory) -> dict[str, TrainedModel]:
    """Each model trained in one go, by the real command."""
    folder, made = tmp_path_factory.mktemp("whole"), {}
    for model in KILLED:
        subprocess.run(command(model, files["tokens"], folder / model), check=True, capture_output=True)
        made[model] = hdf5.read_model(folder / model)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "how"),
    [*((model, signal.SIGKILL) for model in KILLED), ("sasrec", signal.SIGTERM), ("sasrec", signal.SIGINT)],
)
def test_killed_and_resumed(files, tmp_path, whole, model, how):
    """Twice, somewhere in the middle: the same weights and the same figures as in one go."""
    broken, more = tmp_path / "broken.h5", []
    checkpoint = tmp_path / "broken.h5.checkpoint"
    for _ in range(2):
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(
            command(model, files["tokens"], broken, *more), stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        until = time.monotonic() + 100
        while time.monotonic() < until and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == written):
            time.sleep(0.01)
        time.sleep(0.05)
        process.send_signal(how)
        out, said = process.communicate()
        assert (process.returncode, out) == (-9 if how == signal.SIGKILL else 130, b"")
        if how != signal.SIGKILL:
            error = json.loads(said.decode().splitlines()[-1])
            assert error["error"] == "interrupted"
            assert "are saved in" in error["message"]
        assert not broken.exists()
        more = ["--resume"]
    subprocess.run(command(model, files["tokens"], broken, *more), check=True, capture_output=True)
    mine = hdf5.read_model(broken)
    for name, value in whole[model].weights.items():
        np.testing.assert_array_equal(mine.weights[name], value, err_msg=name)
    for row, expected in zip(mine.history, whole[model].history, strict=True):
        assert row | {"seconds": 0} == expected | {"seconds": 0}
    assert not checkpoint.exists()


@pytest.mark.parametrize("beam", [0, 35])
def test_validation_searches_with_its_beam(config, monkeypatch, beam):
    asked, ranks = [], protocol.target_ranks

    def noted(*arguments, **given):
        asked.append(given["beam"])
        return ranks(*arguments, **given)

    monkeypatch.setattr(protocol, "target_ranks", noted)
    small = {"epochs": 2, "width": 8, "heads": 2, "layers": 1, "decoder_layers": 1}
    run(dataclasses.replace(config, model="bbqrec", options=small, validation_beam=beam))
    assert asked == [beam, beam]


def test_a_last_epoch_that_alone_was_validated_is_not_called_the_best(files, bbqrec, tmp_path):
    small = ("--width", 8, "--epochs", 2, "--validate-every", 5, "--device", "cpu", "-o", tmp_path / "m.h5")
    done = bbqrec("train", files["features"], "--model", "sasrec", *small)
    assert (done.status, "more --epochs may help" in done.err) == (0, False)


@pytest.mark.parametrize(("vectors", "said"), [("none", False), ("free", True)])
def test_tuple_vectors_without_a_softmax_over_tuples(files, bbqrec, tmp_path, vectors, said):
    small = ("--width", 8, "--epochs", 1, "--layers", 1, "--decoder-layers", 1, "--device", "cpu")
    given = ("--normalisation", "codes", "--tuple-vectors", vectors)
    done = bbqrec("train", files["tokens"], *given, *small, "-o", tmp_path / "m.h5")
    assert (done.status, "--tuple-vectors has no effect" in done.err) == (0, said), done.err


@pytest.mark.parametrize("before", [0, 1])
def test_a_best_last_epoch_is_said_whatever_was_before_it(files, bbqrec, tmp_path, monkeypatch, before):
    """Epochs of pre-training are none of --epochs."""
    values = iter(np.linspace(0.1, 0.9, 50))
    monkeypatch.setattr(train, "validation", lambda *_, **__: lambda model: {"ndcg@10": next(values), "recall@10": 0.5})
    small = ("--width", 8, "--epochs", 2, "--pretrain-epochs", before, "--device", "cpu")
    done = bbqrec("train", files["features"], "--model", "missrec", *small, "-o", tmp_path / "m.h5")
    assert done.status == 0, done.err
    assert "the last epoch was the best one on validation: more --epochs may help" in " ".join(done.err.split())
