"""Every recipe sets what its file says, gives way to other options, and runs through the commands that it is for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.config import load_toml
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.recipes import FOLDER, as_toml, names
from bbqrec_cli.records import TrainedModel
from bbqrec_cli.tokenizers.registry import TOKENIZERS

SMALL = {
    "tokenize": {"epochs": 2, "dim": 8, "codebook_size": 4},
    "train": {"epochs": 1, "width": 8, "heads": 2, "layers": 1, "decoder_layers": 1},
}
CHOICES = {"tokenize": "method", "train": "model"}
METHODS = {"tokenize": TOKENIZERS, "train": MODELS}
OWN = {("tokenize", "vq-rec"): {"levels": 4}}
"""More of a recipe: the vectors have 8 columns."""


def small(command: str, method: str) -> dict[str, int]:
    """What the method or model has of SMALL."""
    known = {f.name for f in dataclasses.fields(METHODS[command].config(method))}
    return {key: value for key, value in SMALL[command].items() if key in known}


@pytest.fixture
def run(bbqrec, files, catalogue, tmp_path, monkeypatch):
    """`run(command, recipe, changes)`: the file that it made."""
    monkeypatch.chdir(tmp_path)
    table = np.eye(12, 4, dtype=np.float32)
    model = TrainedModel(catalogue=catalogue, name="sasrec", settings={}, weights={"table.weight": table})
    hdf5.write_model(Path("sasrec.h5"), model, config={})

    def made(command: str, recipe: str, changes: dict[str, int]) -> Path:
        tokens = Path("tokenize.h5")
        given = [tokens if command == "train" and tokens.exists() else files["features"]]
        more = ["--collaborative", "sasrec.h5"] if (command, recipe) == ("tokenize", "letter") else []
        changed = [word for key, value in changes.items() for word in ("--" + key.replace("_", "-"), value)]
        output = f"{command}.h5"
        done = bbqrec(command, *given, "--recipe", recipe, *more, *changed, "-o", output, "--device", "cpu", "--force")
        assert done.status == 0, done.err
        return Path(output)

    return made


@pytest.mark.parametrize("recipe", names())
def test_its_commands_run_with_it(run, recipe):
    values, _ = load_toml(FOLDER / f"{recipe}.toml", "recipe")
    for command in values:
        choice = CHOICES[command]
        changes = small(command, values[command][choice]) | OWN.get((command, recipe), {})
        config = hdf5.describe(run(command, recipe, changes))["config"]
        chosen = config | config["options"]
        expected = values[command] | changes
        assert {key: chosen[key] for key in expected} == json.loads(json.dumps(expected))
        assert config[choice] == values[command][choice]


def test_the_recipes_that_are_promised():
    ours = {"bbqrec", "bbqrec-paper"}
    published = {
        "tiger",
        "tiger-paischer",
        "letter",
        "vq-rec",
        "missrec",
        "bsarec",
        "hstu",
        "bert4rec",
        "sasrec-recbole",
        "sasrec-sampled",
    }
    assert ours | published | {"sasrec-f"} <= set(names())


def test_a_file_of_ones_own(run, bbqrec, files, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('# Mine.\n[train]\nmodel = "item-knn"\nneighbours = 3\n')
    config = hdf5.describe(run("train", str(mine), {}))["config"]
    assert (config["model"], config["options"]["neighbours"], config["recipe"]) == ("item-knn", 3, str(mine))
    run_of = tmp_path / "run.toml"
    run_of.write_text(f'[train]\nrecipe = "{mine}"\n[train.options]\nneighbours = 5\n')
    done = bbqrec("train", files["features"], "--config", run_of, "-o", tmp_path / "five.h5")
    assert done.status == 0, done.err
    assert hdf5.describe(tmp_path / "five.h5")["config"]["options"]["neighbours"] == 5, "the file wins over the recipe"
    mine.write_text(f'\ufeff[train]\nfrom = "{files["model"]}"\n')
    said = bbqrec("train", files["features"], "--recipe", mine)
    assert "is not trained in epochs" in said.err, "a key that is a word of Python, in a file with a mark at its start"
    said = bbqrec("tokenize", files["features"], "--recipe", mine)
    assert (said.status, "has no settings for bbqrec tokenize" in said.err) == (2, True)
    mine.write_text('[train]\nmodel = "item-knn"\nneighbors = 3\n')
    said = bbqrec("train", files["features"], "--recipe", mine)
    assert said.status == 2
    assert "did you mean 'neighbours'?" in said.err
    mine.write_text('model = "item-knn"\n')
    assert "model is not a table of a recipe" in bbqrec("train", files["features"], "--recipe", mine).err
    assert bbqrec("train", files["features"], "--recipe", tmp_path / "none.toml").status == 3


@pytest.mark.parametrize("value", [True, 3, 1e-05, 0.5, 'a "quoted" \\ text', [], ["text", "image"]])
def test_what_is_written_is_read(value, tmp_path):
    path = tmp_path / "made.toml"
    path.write_text(as_toml("Two\nlines.", {"train": {"model": "sasrec", "value": value}}), encoding="utf-8")
    values, text = load_toml(path, "recipe")
    assert values == {"train": {"model": "sasrec", "value": value}}
    assert text.startswith("# Two\n# lines.\n[train]\n")


def test_what_has_no_value_is_left_out(tmp_path):
    path = tmp_path / "made.toml"
    path.write_text(as_toml("Head.", {"train": {"model": "mine", "cap": None, "power": 0.5}}), encoding="utf-8")
    assert load_toml(path, "recipe")[0] == {"train": {"model": "mine", "power": 0.5}}


def test_an_unknown_one_is_named(bbqrec, files):
    done = bbqrec("tokenize", files["features"], "--recipe", "tigr")
    assert done.status == 2
    assert "did you mean 'tiger'?" in done.err
