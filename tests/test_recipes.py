"""Every recipe sets what its file says, gives way to other options, and runs through its commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.config import flag, load_toml
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.recipes import FOLDER, names
from bbqrec_cli.records import TrainedModel
from bbqrec_cli.tokenizers.registry import TOKENIZERS

SMALL = {
    "tokenize": {"epochs": 2, "dim": 8, "codebook_size": 4},
    "train": {"epochs": 1, "width": 8, "heads": 2, "layers": 1, "decoder_layers": 1},
}
CHOICES = {"tokenize": "method", "train": "model"}
REGISTRIES = {"tokenize": TOKENIZERS, "train": MODELS}


def smaller(command: str, recipe: str) -> dict[str, int]:
    """What the recipe's method or model has of SMALL."""
    values, _ = load_toml(FOLDER / f"{recipe}.toml", "recipe")
    config = REGISTRIES[command].config(values[command][CHOICES[command]])
    known = {f.name for f in dataclasses.fields(config)}
    return {key: value for key, value in SMALL[command].items() if key in known}


@pytest.fixture
def run(bbqrec, files, catalogue, tmp_path, monkeypatch):
    """`run(command, recipe)`: the file that it made."""
    monkeypatch.chdir(tmp_path)
    table = np.eye(12, 4, dtype=np.float32)
    model = TrainedModel(catalogue=catalogue, name="sasrec", settings={}, weights={"table.weight": table})
    hdf5.write_model(Path("sasrec.h5"), model, config={})

    def made(command: str, recipe: str) -> Path:
        given = [files["features"] if command == "tokenize" or not Path("tokenize.h5").exists() else "tokenize.h5"]
        more = ["--collaborative", "sasrec.h5"] if (command, recipe) == ("tokenize", "letter") else []
        small = [word for key, value in smaller(command, recipe).items() for word in (flag(key), value)]
        output = f"{command}.h5"
        done = bbqrec(command, *given, "--recipe", recipe, *more, *small, "-o", output, "--device", "cpu", "--force")
        assert done.status == 0, done.err
        return Path(output)

    return made


@pytest.mark.parametrize("recipe", names())
def test_its_commands_run_with_it(run, recipe):
    """Both, or only `train` for a model without semantic IDs."""
    values, _ = load_toml(FOLDER / f"{recipe}.toml", "recipe")
    assert "train" in values
    for command, choice in CHOICES.items():
        if command not in values:
            continue
        config = hdf5.describe(run(command, recipe))["config"]
        chosen = config | config["options"]
        expected = values[command] | smaller(command, recipe)
        assert {key: chosen[key] for key in expected} == json.loads(json.dumps(expected))
        assert config[choice] == values[command][choice]


def test_the_recipes_that_are_promised():
    assert {"bbqrec", "bbqrec-paper", "tiger", "letter", "sasrec-recbole", "sasrec-sampled"} <= set(names())
    assert {"bert4rec", "sasrec-f", "gru4rec-f"} <= set(names())


def test_an_unknown_one_is_named(bbqrec, files):
    done = bbqrec("tokenize", files["features"], "--recipe", "tigr")
    assert done.status == 2
    assert "did you mean 'tiger'?" in done.err
