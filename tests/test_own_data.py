"""What a first run on data of one's own is told: sizes that fit, warnings, pictures among the parents, plugins."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import ClassVar

import h5py
import pytest

from bbqrec_cli import hdf5, origin
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.config import MethodConfig, agreed
from bbqrec_cli.errors import MissingPackageError
from bbqrec_cli.models.options.popularity import PopularityConfig
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.stages.append import restorable
from bbqrec_cli.tokenizers.options._codebooks import fitting_size
from bbqrec_cli.tokenizers.registry import TOKENIZERS, tokenizer_config

# Codes per codebook


@pytest.mark.parametrize(
    ("items", "size"),
    [(0, 8), (1, 8), (12, 8), (32, 8), (33, 16), (200, 64), (256, 64), (512, 128), (513, 256), (10**6, 256)],
)
def test_codes_that_fit_a_catalogue(items, size):
    assert fitting_size(items) == size


@pytest.mark.parametrize("method", [name for name in TOKENIZERS if name not in ("published", "random")])
def test_the_resolved_number_is_said_and_recorded(method, files, bbqrec, tmp_path):
    options = {"epochs": 2, "warmup_epochs": 1, "hidden": 8, "dim": 4, "levels": 2, "collaborative_weight": 0}
    known = {f.name for f in dataclasses.fields(TOKENIZERS.config(method))}
    flags = [
        word for name, value in options.items() if name in known for word in (f"--{name.replace('_', '-')}", value)
    ]
    said = bbqrec("tokenize", files["features"], "--method", method, *flags, "-o", tmp_path / "t.h5")
    assert said.status == 0, said.err
    assert "8 codes per codebook, to fit 12 items (--codebook-size)" in said.err
    assert hdf5.describe(tmp_path / "t.h5")["config"]["options"]["codebook_size"] == 8
    assert hdf5.read_tokens(tmp_path / "t.h5").codes.codebook_size == 8


def test_a_resumed_run_must_have_the_resolved_number():
    """Not the 0 that stands for it: two catalogues may differ."""
    fitted = dataclasses.replace(tokenizer_config("rqvae", {}), codebook_size=fitting_size(12))
    assert agreed(fitted)["codebook_size"] == 8


def test_one_code_is_refused(bbqrec, files):
    said = bbqrec("tokenize", files["features"], "--codebook-size", 1)
    assert (said.status, "--codebook-size is 1" in said.err) == (2, True)


def test_recipes_and_suites_keep_256(tmp_path, bbqrec):
    """A table compares systems at one size, whatever the catalogue."""
    path = tmp_path / "s.toml"
    head = 'name = "s"\nseeds = [0]\n[data]\nsource = ["demo"]\n'
    tokenizers = '[[tokenizer]]\nname = "a"\nmethod = "rqkmeans"\n[[tokenizer]]\nname = "b"\ncodebook_size = 32\n'
    path.write_text(head + tokenizers + '[[system]]\nname = "p"\nmodel = "popularity"\n')
    made = load_suite(str(path)).tokenizers.values()
    assert [each.config.options["codebook_size"] for each in made] == [256, 32]
    for name in ("bbqrec-paper", "letter", "tiger", "vq-rec"):
        assert "codebook_size = 256" in (Path(origin.__file__).parent / "recipes" / f"{name}.toml").read_text()


def test_more_codes_than_items(files, bbqrec, tmp_path):
    words = ("tokenize", files["features"], "--method", "rqkmeans", "--dim", 4, "--levels", 3, "-o", tmp_path / "t.h5")
    said = bbqrec(*words, "--codebook-size", 16)
    assert said.status == 0
    assert "warning: --codebook-size 16 for 12 items: each can have a code of its own" in said.err
    # Nothing is left of an item after the first level, so that the others have one code each.
    assert "2 of 3 codebooks have collapsed: signal content, level 2: 1 of 16 codes in use" in said.err
    assert "--warmup-epochs" not in said.err, "rqkmeans has none"
    refused = bbqrec(*words, "--codebook-size", 16, "--force", "--fail-on-collapse", "--json")
    assert (refused.status, json.loads(refused.err.splitlines()[-1])["error"]) == (3, "collapse")
    quiet = bbqrec(*words, "--codebook-size", 4, "--force", "--quiet")
    assert "warning" not in quiet.err


def test_a_small_catalogue_is_not_warned_of_what_fits_it(bbqrec, tmp_path):
    log = "".join(f"u,{item},{1_400_000_000 + place}\n" for place, item in enumerate("abcde"))
    (tmp_path / "log.csv").write_text("user,item,timestamp\n" + log)
    assert bbqrec("prepare", "table", tmp_path / "log.csv", "-o", tmp_path / "d.h5").status == 0
    words = ("tokenize", tmp_path / "d.h5", "--method", "random", "-o", tmp_path / "t.h5", "--force")
    assert "of its own" not in bbqrec(*words, "--codebook-size", 8).err
    assert "--codebook-size 8 fits" in bbqrec(*words, "--codebook-size", 9).err


# Pictures


@pytest.fixture
def shop(tmp_path) -> Path:
    """Three items with two pictures, and a file that is no picture."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "pictures" / "notes.txt").write_text("x")
    rows = [f"u{user},{item},{time}" for user in range(3) for time, item in enumerate("abc", 1)]
    (tmp_path / "log.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text("id,title,image\na,A,pictures/a.png\nb,B,pictures/b.png\nc,C,\n")
    return tmp_path


@pytest.mark.parametrize("given", [("--images", "pictures"), ("--items", "items.csv")])
def test_pictures_are_a_parent(shop, bbqrec, monkeypatch, given):
    """A folder with how many were read, and one digest of their names and contents."""
    monkeypatch.chdir(shop)
    assert bbqrec("prepare", "table", "log.csv", *given).status == 0
    parent = hdf5.describe(shop / "dataset.h5")["parents"][-1]
    inside = [[f"{name}.png", hdf5.sha256(shop / "pictures" / f"{name}.png")] for name in "ab"]
    digest = hashlib.sha256(json.dumps(inside).encode()).hexdigest()
    assert parent == {"path": "pictures", "kind": "folder", "files": 2, "sha256": digest}
    assert f"made from pictures (folder of 2 files, sha256 {digest[:16]}…)" in bbqrec("inspect", "dataset.h5").out
    (shop / "pictures" / "a.png").write_bytes((shop / "pictures" / "b.png").read_bytes())
    assert bbqrec("prepare", "table", "log.csv", *given, "--force").status == 0
    assert hdf5.describe(shop / "dataset.h5")["parents"][-1]["sha256"] != digest


def test_what_is_lacking_is_said(shop, bbqrec, monkeypatch):
    """Users whom nobody can evaluate, items without picture or text, years that cannot be, ties."""
    monkeypatch.chdir(shop)
    (shop / "items.csv").write_text("id,title\na,A\nb,B\nc,\n")
    with open(shop / "log.csv", "a") as log:
        log.write("short,a,1\ntied,a,5\ntied,b,9\ntied,c,9\n")
    said = bbqrec("prepare", "table", "log.csv", "--items", "items.csv", "--images", "pictures").err
    assert "warning: 1 of 3 items have no text" in said
    assert "warning: 1 of 3 items have no picture" in said
    assert "warning: 1 of 5 users have fewer than 3 interactions and are not evaluated" in said
    assert "25.0% of the test targets" in said
    (shop / "log.csv").write_text("user,item,timestamp\n" + "".join(f"u,{item},{99999 * 10**9}\n" for item in "abc"))
    assert "warning" in bbqrec("prepare", "table", "log.csv", "--time-unit", "ms", "--force").err


# Plugins


@dataclasses.dataclass(frozen=True, kw_only=True)
class FashionConfig(PopularityConfig):
    """Popularity by another name, from another package."""

    name: ClassVar[str] = "fashion"


@pytest.fixture
def fashion(files, bbqrec, tmp_path, monkeypatch) -> Path:
    """A model file of a model that is no longer there."""
    monkeypatch.setattr(origin, "packages_distributions", lambda: {__name__.split(".")[0]: ["bbqrec-fashion"]})
    MODELS.add(FashionConfig)
    try:
        assert bbqrec("train", files["dataset"], "--model", "fashion", "-o", tmp_path / "m.h5").status == 0
    finally:
        MODELS.remove("fashion")
    return tmp_path / "m.h5"


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_a_file_says_which_plugin_it_needs(fashion, bbqrec, command, tmp_path):
    said = bbqrec(command, fashion, *(["-o", tmp_path / "x.h5"] if command == "evaluate" else []))
    assert said.status == MissingPackageError.exit_code
    assert "needs the model 'fashion' of the plugin bbqrec-fashion, which is not installed" in said.err
    assert "install bbqrec-fashion beside bbqrec, or give its file with --plugin, if you trust whom" in said.err


def test_a_file_that_names_no_plugin(fashion, bbqrec):
    with h5py.File(fashion, "r+") as file:
        del file.attrs["origin"]
    said = bbqrec("recommend", fashion)
    assert said.status == MissingPackageError.exit_code
    assert "needs the model 'fashion', which this bbqrec does not have" in said.err


def test_a_tokenizer_that_is_not_installed(files):
    old = hdf5.read_tokens(files["tokens"])
    with pytest.raises(MissingPackageError, match="needs the tokenizer 'woven', which this bbqrec does not have"):
        restorable(files["tokens"], old, {"method": "woven", "options": {}})


def test_whose_a_method_is():
    class Own(MethodConfig):
        implementation: ClassVar[str] = "bbqrec_cli.models.popularity:Popularity"

    Own.__module__ = "bbqrec_cli.models.options.own"
    assert origin.plugin_of(Own) == {}
    Own.implementation = "no_such_package.models:Own"
    assert origin.plugin_of(Own) == {"plugin": "no_such_package"}
    Own.implementation = "torch.nn:Linear"
    assert origin.plugin_of(Own) == {"plugin": "torch"}
