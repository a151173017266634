"""embed beyond one text and one picture an item: own vectors, several encoders, earlier features, whitening."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_embed import Listener, write

from bbqrec_cli import hdf5
from bbqrec_cli.encoders.descriptor import DescriptorEncoder
from bbqrec_cli.encoders.text import TextEncoder
from bbqrec_cli.errors import DataError, InterruptedRunError, MissingFileError, UsageError
from bbqrec_cli.records import Dataset
from bbqrec_cli.stages.embed import EmbedConfig, run

NO_PICTURE, NO_TEXT = 5, 10


@pytest.fixture(scope="module")
def model(tmp_path_factory, dataset) -> str:
    """The folder of a GPT-2 with random weights, width 8, that knows the words of the tiny catalogue."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    known = sorted({word for text in dataset.texts for word in text.replace(",", " ").split()})
    words = Tokenizer(models.WordLevel({w: at for at, w in enumerate(["<end>", "<unk>", *known])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    GPT2Model(GPT2Config(vocab_size=len(known) + 2, n_positions=32, n_embd=8, n_layer=1, n_head=2)).save_pretrained(
        folder
    )
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def counted(monkeypatch) -> list[str | bytes]:
    """The inputs that were really encoded."""
    seen: list = []
    forward, prepare = TextEncoder.forward, DescriptorEncoder.prepare
    monkeypatch.setattr(TextEncoder, "forward", lambda self, inputs: seen.extend(inputs) or forward(self, inputs))
    monkeypatch.setattr(
        DescriptorEncoder, "prepare", staticmethod(lambda inputs: seen.extend(inputs) or prepare(inputs))
    )
    return seen


def embed(source: Path, output: Path, listener: Listener | None = None, **options):
    """The features of a run."""
    run(EmbedConfig(dataset=source, output=output, device="cpu", precision="fp32", **options), listener or Listener())
    return hdf5.read_features(output).features


def own_vectors(folder: Path) -> Path:
    """(12, 4), of all items but i0, the last row first."""
    rows = np.arange(11, 0, -1)
    values = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    np.savez(folder / "own.npz", values=values[rows], ids=np.array([f"i{row}" for row in rows]))
    return folder / "own.npz"


def test_text_by_own_vectors_and_pictures_by_an_encoder(files, tmp_path):
    source = own_vectors(tmp_path)
    made = embed(files["dataset"], tmp_path / "f.h5", vectors=(f"text={source}",))
    assert list(made) == ["image", "text"]
    assert made["text"].encoder == "own vectors"
    assert np.flatnonzero(~made["text"].present).tolist() == [0]
    np.testing.assert_array_equal(made["text"].values[11:0:-1], np.load(source)["values"])
    assert made["image"].encoder == "hog-colour"
    assert [each["path"] for each in hdf5.describe(tmp_path / "f.h5")["parents"]] == ["dataset.h5", "own.npz"]


def test_titles_and_texts_by_encoders_of_their_own(files, tmp_path, model, dataset):
    """And pictures under another name. Reference: the encoder called on what each of them reads."""
    encoders = (f"title={model}:title", f"both={model}:{{title}}: {{group}}", "look=descriptor")
    made = embed(files["dataset"], tmp_path / "f.h5", encoder=encoders, modalities=("title", "both", "look"))
    encoder = TextEncoder(model, device=torch.device("cpu"))
    catalogue = dataset.catalogue
    both = [f"{title}: {group}" for title, group in zip(catalogue.titles, catalogue.attributes["group"], strict=True)]
    np.testing.assert_allclose(made["title"].values, encoder.encode(catalogue.titles)[0], atol=1e-5)
    np.testing.assert_allclose(made["both"].values, encoder.encode(both)[0], atol=1e-5)
    assert {name: each.encoder for name, each in made.items()} == {
        "title": "tiny", "both": "tiny", "look": "hog-colour",
    }  # fmt: skip
    inputs = {name: each["input"] for name, each in hdf5.describe(tmp_path / "f.h5")["config"]["encoders"].items()}
    assert inputs == {"title": "title", "both": "{title}: {group}", "look": "image"}


def test_a_text_template(files, tmp_path, model, counted, dataset):
    embed(files["dataset"], tmp_path / "f.h5", text_model=model, text_template="{title} ({text})", modalities=("text",))
    assert sorted(counted) == sorted(
        f"{title} ({text})" if text else title
        for title, text in zip(dataset.catalogue.titles, dataset.texts, strict=True)
    )


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"text_template": "{titel}"}, r"--text-template: 'titel' is no field .* text, title, group .*'title'"),
        ({"encoder": ("title=x:titel",)}, "'titel' is nothing that the items have"),
        ({"encoder": ("other=x",)}, "'other' is nothing that the items have.*image, text, title, group"),
        ({"encoder": ("title",)}, "NAME=MODEL:INPUT is needed"),
        ({"encoder": ("id=x:title",)}, "id is the signal of the items themselves"),
        ({"encoder": ("a/b=x:title",)}, "'a/b' is no name of a feature"),
        ({"encoder": ("t=x:title", "t=y:title")}, "another option says already what t is made of"),
        ({"vectors": ("text=v.npy",), "text_model": "x"}, "another option says already what text is made of"),
        ({"vectors": ("v.npy",)}, "'v.npy' is no name of a feature"),
        ({"vectors": ("text=",)}, "NAME=FILE is needed"),
        ({"vectors": ("my=v.npy",), "modalities": ("text",)}, "'my=v.npy' has no effect: --modalities"),
        ({"encoder": ("e=x:title",), "modalities": ("image",)}, "'e=x:title' has no effect: --modalities"),
        ({"text_model": "x", "modalities": ("image",)}, "--text-model has no effect: --modalities does not name text"),
        ({"text_template": "{title}", "modalities": ("image",)}, "--text-template has no effect: --modalities"),
        ({"image_model": "descriptor", "modalities": ("text",)}, "--image-model has no effect: --modalities"),
        ({"ids": Path("ids.txt")}, "--ids has no effect without --vectors"),
        ({"long_texts": "chunk", "text_model": "", "modalities": ("sound",)}, "'sound' is none of text, image"),
    ],
)
def test_options_that_make_no_sense(files, tmp_path, options, what):
    for name in ("v.npy", "ids.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises((UsageError, MissingFileError), match=what):
        embed(files["dataset"], tmp_path / "f.h5", **options)


@pytest.fixture
def grown(tmp_path, dataset) -> Path:
    """The tiny catalogue in another order, one item with a new text and one with the picture of another."""
    order = np.roll(np.arange(12), 5)
    catalogue = dataset.catalogue
    texts, images = list(dataset.texts), list(dataset.images)
    texts[3], images[7] = "a new text", images[8]
    moved = dataclasses.replace(
        catalogue, item_ids=[catalogue.item_ids[row] for row in order], titles=[catalogue.titles[row] for row in order],
        attributes={"group": [catalogue.attributes["group"][row] for row in order]},
    )  # fmt: skip
    return write(tmp_path, Dataset(catalogue=moved, texts=[texts[r] for r in order], images=[images[r] for r in order]))


def by_id(path: Path, name: str) -> dict[str, np.ndarray]:
    found = hdf5.read_features(path)
    feature = found.features[name]
    return {
        item: values
        for item, values, present in zip(found.catalogue.item_ids, feature.values, feature.present, strict=True)
        if present
    }


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"whiten": 3}, {"whiten": 3, "normalize": True}])
def test_only_what_is_new_is_encoded(files, tmp_path, model, grown, counted, options):
    """What was encoded before keeps its bits; the order of the items does not matter; the file may replace itself."""
    path, listener = tmp_path / "f.h5", Listener()
    options = options | {"text_model": model}
    embed(files["dataset"], path, **options)
    before = {name: by_id(path, name) for name in ("text", "image")}
    shutil.copy(path, tmp_path / "first.h5")
    counted.clear()
    result = run(
        EmbedConfig(dataset=grown, output=path, device="cpu", precision="fp32", reuse=path, force=True, **options),
        listener,
    )
    # Item 7's picture is now that of item 8, which is known: nothing is to be encoded for it.
    assert counted == ["a new text"]
    assert {name: each["reused"] for name, each in result.features.items()} == {"text": 10, "image": 11}
    for name, changed in (("text", "i3"), ("image", "i7")):
        after = by_id(path, name)
        assert after.keys() == before[name].keys()
        for item in after.keys() - {changed}:
            np.testing.assert_array_equal(after[item], before[name][item])
        assert not np.array_equal(after[changed], before[name][changed])
    np.testing.assert_array_equal(by_id(path, "image")["i7"], before["image"]["i8"])
    if "whiten" in options:
        one, other = (hdf5.read_encoding(each, "text") for each in (tmp_path / "first.h5", path))
        np.testing.assert_array_equal(one["matrix"], other["matrix"])
        encoder = TextEncoder(model, device=torch.device("cpu"))
        new = (encoder.encode(["a new text"])[0][0] - one["mean"]) @ one["matrix"]
        new = new / np.linalg.norm(new) if "normalize" in options else new
        np.testing.assert_allclose(by_id(path, "text")["i3"], new, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "bf16"}, "precision was 'fp32' and is 'bf16'"),
        ({"max_length": 5}, "max_length was 0 and is 5"),
        ({"long_texts": "chunk"}, "long_texts was 'cut' and is 'chunk'"),
        ({"normalize": True}, "normalize was False and is True"),
        ({"whiten": 2}, "whiten was 0 and is 2"),
    ],
)
def test_other_settings_reuse_nothing(files, tmp_path, model, counted, change, said):
    options = {"text_model": model, "modalities": ("text",), "device": "cpu", "precision": "fp32"}
    run(EmbedConfig(dataset=files["dataset"], output=tmp_path / "a.h5", **options))
    counted.clear()
    listener = Listener()
    options |= {"dataset": files["dataset"], "output": tmp_path / "b.h5", "reuse": tmp_path / "a.h5"} | change
    run(EmbedConfig(**options), listener)
    assert len(counted) == 11
    assert f"{tmp_path / 'a.h5'}: {said}: nothing of it is reused" in listener.warned


def test_a_model_that_is_set_up_otherwise_reuses_nothing(files, tmp_path, model, counted):
    """The same name and weights; the tokenizer says another length."""
    folder = shutil.copytree(model, tmp_path / "tiny")
    options = {"text_model": str(folder), "modalities": ("text",), "reuse": tmp_path / "a.h5"}
    embed(files["dataset"], tmp_path / "a.h5", **options | {"reuse": None})
    counted.clear()
    embed(files["dataset"], tmp_path / "b.h5", **options)
    assert counted == []
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 2}))
    listener = Listener()
    embed(files["dataset"], tmp_path / "c.h5", listener, **options)
    assert len(counted) == 11
    assert any("a.h5: setup was " in line for line in listener.warned)


def test_vectors_of_another_width_than_the_earlier_ones(files, tmp_path, monkeypatch):
    embed(files["dataset"], tmp_path / "a.h5", modalities=("image",))
    dataset = hdf5.read_dataset(files["dataset"])
    images = list(dataset.images)
    images[NO_PICTURE] = images[0] + b"x"
    hdf5.write_dataset(tmp_path / "grown.h5", dataclasses.replace(dataset, images=images), config={})
    forward = DescriptorEncoder.forward
    monkeypatch.setattr(DescriptorEncoder, "forward", lambda *given: np.repeat(forward(*given), 2, axis=1))
    with pytest.raises(DataError, match=r"a\.h5: its image features have \d+ numbers, and these have \d+"):
        embed(tmp_path / "grown.h5", tmp_path / "b.h5", modalities=("image",), reuse=tmp_path / "a.h5")


def test_a_map_that_does_not_fit_ready_vectors_is_said(files, tmp_path):
    source = own_vectors(tmp_path)
    options = {"vectors": (f"text={source}",), "modalities": ("text",), "whiten": 3}
    embed(files["dataset"], tmp_path / "a.h5", **options)
    listener = Listener()
    embed(files["dataset"], tmp_path / "b.h5", listener, **options, normalize=True, reuse=tmp_path / "a.h5")
    assert any("a.h5: normalize was False and is True: nothing of it is reused" in line for line in listener.warned)


def test_another_template_reuses_equal_texts_alone(files, tmp_path, model, counted, dataset):
    embed(files["dataset"], tmp_path / "a.h5", text_model=model, modalities=("text",))
    counted.clear()
    embed(
        files["dataset"], tmp_path / "b.h5", text_model=model, modalities=("text",), text_template="{text}",
        reuse=tmp_path / "a.h5",
    )  # fmt: skip
    assert counted == []
    embed(
        files["dataset"], tmp_path / "c.h5", text_model=model, modalities=("text",), text_template="{title}",
        reuse=tmp_path / "a.h5",
    )  # fmt: skip
    assert sorted(counted) == sorted(dataset.catalogue.titles)


def test_a_features_file_of_an_earlier_version_has_nothing_to_reuse(files, tmp_path):
    listener = Listener()
    embed(files["dataset"], tmp_path / "f.h5", listener, modalities=("image",), reuse=files["features"])
    assert any("does not say how its feature image was made" in each for each in listener.warned)


def test_whitening_of_every_kind_of_feature(files, tmp_path):
    """Reference: covariance of what is in the file, over the items that have it."""
    source = own_vectors(tmp_path)
    options = {"vectors": (f"text={source}",), "whiten": 3}
    made = embed(files["dataset"], tmp_path / "f.h5", **options)
    for feature in made.values():
        assert feature.values.shape == (12, 3)
        np.testing.assert_allclose(np.cov(feature.values[feature.present].T), np.eye(3), atol=1e-3)
        assert not feature.values[~feature.present].any()
        assert not feature.normalized
    assert made["text"].encoder.startswith("own vectors whitened-3-")
    with np.load(source) as own:
        whole, half = dict(own), {"values": own["values"][:6].copy(), "ids": own["ids"][:6]}
    half["values"][:2] += 1
    np.savez(source, **half)
    later = embed(files["dataset"], tmp_path / "g.h5", reuse=tmp_path / "f.h5", **options)
    assert later["text"].encoder == made["text"].encoder  # the same map
    kept = hdf5.read_encoding(tmp_path / "f.h5", "text")
    np.testing.assert_allclose(
        later["text"].values[11:5:-1], (half["values"] - kept["mean"]) @ kept["matrix"], atol=1e-4
    )
    for other, says in (
        (whole["values"][:, ::-1] + 1, r"f\.h5: text: 1\d of 1\d items have other vectors there"),
        (np.tile(whole["values"], 2), r"f\.h5: text was whitened from vectors of \d numbers, and these have \d"),
    ):
        np.savez(source, ids=whole["ids"], values=other)
        with pytest.raises(DataError, match=says):
            embed(files["dataset"], tmp_path / "i.h5", reuse=tmp_path / "f.h5", **options)
    with pytest.raises(DataError, match="--whiten 5: text, 4 numbers for each of 11 items, vary in 4 directions only"):
        embed(
            files["dataset"],
            tmp_path / "h.h5",
            **options | {"vectors": (f"text={own_vectors(tmp_path)}",), "whiten": 5},
        )


def test_resumed_with_everything(files, tmp_path, grown, model):
    """Interrupted between text and pictures of a run that reuses, whitens, reads vectors and has workers."""
    source = own_vectors(tmp_path)
    embed(files["dataset"], tmp_path / "old.h5", text_model=model, whiten=3, modalities=("text",))
    options = {
        "text_model": model, "encoder": (f"title={model}:title",), "vectors": (f"own={source}",), "whiten": 3,
        "reuse": tmp_path / "old.h5", "long_texts": "chunk", "max_length": 4, "batch_size": 4, "workers": 1,
    }  # fmt: skip
    whole = embed(grown, tmp_path / "whole.h5", **options)
    with pytest.raises(InterruptedRunError):
        embed(grown, tmp_path / "f.h5", Listener(stop_after=4), **options)
    np.savez(source, values=np.ones((2, 4)), ids=np.array(["i1", "i2"]))
    with pytest.raises(DataError, match=r"another run: .*own.npz was"):
        embed(grown, tmp_path / "f.h5", resume=True, **options)
    own_vectors(tmp_path)
    made = embed(grown, tmp_path / "f.h5", resume=True, **options)
    for name, feature in whole.items():
        np.testing.assert_array_equal(made[name].values, feature.values)


def test_long_texts_are_counted(files, tmp_path, model):
    """'apple, one of the fruit' has six tokens; the longest word list fits into eight."""
    listener = Listener()
    options = {"text_model": model, "modalities": ("text",)}
    embed(files["dataset"], tmp_path / "a.h5", listener, max_length=4, **options)
    assert (
        "text: 11 texts are longer than the 4 tokens that are read of them: cut (--long-texts chunk reads all of them)"
        in (listener.logged)
    )
    embed(files["dataset"], tmp_path / "b.h5", listener, max_length=4, long_texts="chunk", **options)
    assert "text: 11 texts are longer than the 4 tokens that are read of them: read in pieces" in listener.logged
    embed(files["dataset"], tmp_path / "c.h5", listener, **options)
    assert sum("are longer than" in each for each in listener.logged) == 2, "nothing is said of none"


def test_pictures_are_counted_by_kind(tmp_path, dataset, bbqrec):
    from encoders.test_pictures import EVERY

    pictures = [picture for picture, _ in EVERY.values()][:12]
    source = write(tmp_path, dataset, images=pictures)
    done = bbqrec("embed", source, "-o", tmp_path / "f.h5", "--modalities", "image", "--workers", "1", "--json")
    assert done.status == 0, done.err
    about = json.loads(done.out)["features"]["image"]
    assert about["kinds"] == {
        "of several frames (the first counts)": 2, "CMYK": 1, "16-bit": 1, "transparent": 3, "greyscale": 2,
        "corrupt": 2,
    }  # fmt: skip
    assert (about["present"], about["missing"]) == (10, 2)
    done = bbqrec("embed", source, "-o", tmp_path / "g.h5", "--modalities", "image")
    said = "image: pictures: 2 of several frames (the first counts), 1 CMYK, 1 16-bit, 3 transparent, 2 greyscale"
    assert said in " ".join(done.out.split())


def test_vectors_on_the_command_line(files, tmp_path, bbqrec):
    values = np.random.default_rng(0).standard_normal((12, 3))
    np.save(tmp_path / "v.npy", values)
    (tmp_path / "ids.txt").write_text("\n".join(f"i{row}" for row in range(12)))
    done = bbqrec(
        "embed", files["dataset"], "-o", tmp_path / "f.h5", "--vectors", f"text={tmp_path / 'v.npy'}", "--vectors",
        f"other={tmp_path / 'v.npy'}", "--ids", tmp_path / "ids.txt", "--modalities", "text,other",
    )  # fmt: skip
    assert done.status == 0, done.err
    made = hdf5.read_features(tmp_path / "f.h5").features
    np.testing.assert_array_equal(made["other"].values, values.astype(np.float32))
    done = bbqrec("embed", files["dataset"], "-o", tmp_path / "g.h5", "--vectors", "text=none.npy")
    assert done.status == 3
    assert "none.npy: no such file" in done.err
