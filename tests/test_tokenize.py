from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import interrupted_in

from bbqrec_cli import hdf5
from bbqrec_cli.errors import CollapseError, UsageError
from bbqrec_cli.records import Feature, Features, TrainedModel
from bbqrec_cli.stages.tokenize import TokenizeConfig, run
from bbqrec_cli.tokenizers.assignment import collisions
from bbqrec_cli.tokenizers.registry import TOKENIZERS

DATA = Path(__file__).parents[2] / "shared" / "data"
QUICK = {
    "--epochs": 4, "--dim": 8, "--hidden": 16, "--codebook-size": 8, "--levels": 2, "--sequence-layers": 1,
    "--device": "cpu", "--precision": "fp32",
}  # fmt: skip


def flags(**changes: object) -> list[object]:
    """QUICK's flags, some changed or added; None leaves one out."""
    named = {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [part for pair in (QUICK | named).items() if pair[1] is not None for part in pair]


def test_json(bbqrec, files, tmp_path):
    output = tmp_path / "tokens.h5"
    said = bbqrec("tokenize", files["features"], "-o", output, *flags(), "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert {
        "output", "method", "levels", "codebook_size", "signals", "items", "colliding_items", "epochs", "seconds",
    } <= found.keys()  # fmt: skip
    assert (found["method"], found["levels"], found["codebook_size"], found["epochs"]) == ("bbqrec", 2, 8, 4)
    assert (found["output"], found["signals"], found["items"]) == (str(output), ["id", "text", "image"], 12)
    codes = hdf5.read_tokens(output).codes.codes
    sharing = Counter(map(bytes, codes))
    assert found["colliding_items"] == sum(n for n in sharing.values() if n > 1)
    assert found["figures"]["usage/text/1"] == len({code for row, code in enumerate(codes[:, 0, 1]) if row != 10})


def test_what_people_see(bbqrec, files, tmp_path):
    short = bbqrec("tokenize", files["features"], "-o", tmp_path / "short.h5", *flags()).err
    assert "codes in use" not in short
    assert re.search(r"epoch 4/4  loss [\d.]+  \d+ items collide  validation recall@10 [\d.]+, ndcg@10", short)
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "tokens.h5", *flags(), "--verbose")
    lines = said.err.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/4", "2/4", "3/4", "4/4"]
    assert "codebooks initialised by k-means on 12 items × 3 signals" in lines[4]
    names = ("reconstruction", "quantisation", "recommendation", "information")
    assert all(name in lines[-1] for name in names)
    assert all(f"{name}: codes in use " in lines[-1] for name in ("id", "text", "image"))
    assert "perplexity" in lines[-1]
    assert "12 items, 2 levels × 3 signals of 8 codes" in " ".join(said.out.split())
    assert "image, level 2" in said.out
    quiet = bbqrec("tokenize", files["features"], "-o", tmp_path / "again.h5", *flags(), "--quiet")
    assert quiet.err == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "rqvea"}, "did you mean 'rqvae'"),
        (
            {"method": "rqvae", "sequence_layers": None, "gamma": 1},
            "rqvae has no gamma; --gamma is an option of bbqrec",
        ),
        ({"on_collision": "sufix"}, "did you mean 'suffix'"),
        ({"popularity": "rankin"}, "did you mean 'ranking'"),
        ({"levels": 0}, "--levels is 0; it must be 1 to 8"),
        ({"warmup_epochs": 4}, "no epoch is left to learn the codebooks"),
        ({"dim": 5, "signals": "id", "sequence_heads": 4}, "does not divide 5"),
    ],
)
def test_wrong_options_are_named(bbqrec, files, tmp_path, changes, says):
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *flags(**changes))
    assert said.status == 2
    assert says in said.err
    assert not (tmp_path / "t.h5").exists()


def test_a_misspelt_option_of_a_script():
    with pytest.raises(UsageError, match=r"unknown option 'codebok_size' \(did you mean 'codebook_size'"):
        run(TokenizeConfig(options={"codebok_size": 8}))


def test_without_features(bbqrec, files, tmp_path):
    said = bbqrec("tokenize", files["dataset"], "-o", tmp_path / "t.h5", "--json")
    error = json.loads(said.err.splitlines()[-1])
    assert (said.status, error["error"]) == (3, "wrong_kind")
    assert "bbqrec embed" in error["hint"]
    said = bbqrec("tokenize", tmp_path / "none.h5", "-o", tmp_path / "t.h5", "--json")
    assert (said.status, json.loads(said.err)["error"]) == (3, "missing_file")


def test_signals_that_are_not_in_the_file(bbqrec, files, tmp_path):
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", "--signals", "id,sound", "--json")
    error = json.loads(said.err.splitlines()[-1])
    assert (said.status, error["error"]) == (3, "bad_data")
    assert "'sound'; the file has id, text, image" in error["message"]
    assert "bbqrec embed" in error["hint"]


def test_nan_features(bbqrec, features, tmp_path):
    values = features.features["text"].values.copy()
    values[3, 2] = np.nan
    broken = dataclasses.replace(features.features["text"], values=values)
    hdf5.write_features(tmp_path / "f.h5", dataclasses.replace(features, features={"text": broken}), config={})
    said = bbqrec("tokenize", tmp_path / "f.h5", "-o", tmp_path / "t.h5")
    assert said.status == 3
    assert "NaN or infinity in 1 of 12 items, first in item 'i3'" in said.err


def test_an_existing_output_is_left_alone(bbqrec, files, tmp_path):
    output = tmp_path / "tokens.h5"
    output.write_text("mine")
    said = bbqrec("tokenize", files["features"], "-o", output, *flags())
    assert said.status == 3
    assert output.read_text() == "mine"
    assert bbqrec("tokenize", files["features"], "-o", output, *flags(), "--force").status == 0


def test_the_input_is_not_the_output(bbqrec, features, tmp_path):
    path = tmp_path / "features.h5"
    hdf5.write_features(path, features, config={})
    before = path.read_bytes()
    said = bbqrec("tokenize", path, "-o", path, "--force", *flags())
    assert said.status != 0
    assert "features.h5" in said.err
    assert path.read_bytes() == before


def test_without_faiss(bbqrec, files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *flags(), "--json")
    error = json.loads(said.err)
    assert (said.status, error["error"]) == (4, "missing_package")
    assert "bbqrec[cpu]" in error["hint"]


@pytest.fixture
def twins(features, tmp_path) -> Path:
    """Items 0 and 4 have the same text, so do 1, 5 and 9; nothing else is embedded."""
    values = features.features["text"].values.copy()
    values[4], values[[5, 9]] = values[0], values[1]
    text = Feature(values=values, present=np.ones(12, dtype=bool))
    hdf5.write_features(tmp_path / "twins.h5", dataclasses.replace(features, features={"text": text}), config={})
    return tmp_path / "twins.h5"


@pytest.mark.parametrize(
    ("policy", "levels", "after"), [("share", 2, 5), ("suffix", 3, 0), ("nearest", 2, 0), ("sinkhorn", 2, 0)]
)
def test_collisions_before_and_after(bbqrec, twins, tmp_path, policy, levels, after):
    output = tmp_path / "tokens.h5"
    options = flags(method="rqvae", sequence_layers=None, codebook_size=16, on_collision=policy)
    said = bbqrec("tokenize", twins, "-o", output, *options, "--json")
    found = json.loads(said.out)
    assert (found["colliding_items"], found["levels"]) == (after, levels)
    assert hdf5.describe(output)["config"]["colliding_items"] == {"before": 5, "after": after}
    codes = hdf5.read_tokens(output).codes
    assert codes.codes.shape == (12, levels, 1)
    assert codes.codebooks.shape[1] == 2
    assert codes.present.shape == (12, 1)
    if policy == "suffix":
        assert codes.codes[[0, 4, 1, 5, 9], 2, 0].tolist() == [0, 1, 0, 1, 2]
    counted = json.loads(bbqrec("collisions", output, "--json").out)
    assert counted["colliding_items"] == after
    books = {f"usage/{book['signal']}/{book['level']}": book["in_use"] for book in counted["codebooks"]}
    assert {key: value for key, value in found["figures"].items() if key.startswith("usage/")} == books, "as written"
    assert (found["codebook_size"], found["figures"]["colliding_items"]) == (16, 5)
    assert counted["depths"][1]["colliding_items"] == (5 if policy in ("share", "suffix") else 0)


@pytest.fixture
def flat(features, tmp_path) -> Path:
    """Every text is the same: one code a level is all that there can be."""
    text = Feature(values=np.ones((12, 4), dtype=np.float32), present=np.ones(12, dtype=bool))
    hdf5.write_features(tmp_path / "flat.h5", dataclasses.replace(features, features={"text": text}), config={})
    return tmp_path / "flat.h5"


@pytest.mark.parametrize("options", [flags(), flags(method="rqvae", sequence_layers=None)], ids=["bbqrec", "rqvae"])
def test_collapse_is_a_loud_warning(bbqrec, flat, tmp_path, options):
    said = bbqrec("tokenize", flat, "-o", tmp_path / "t.h5", *options, "--codebook-size", 12, "--quiet")
    assert said.status == 0
    assert (tmp_path / "t.h5").exists()
    warnings = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2, "when it happens and at the end, not every epoch"
    first, last = warnings
    assert "2 codebooks have collapsed: signal" in first
    assert "level 1: 1 of 12 codes in use, perplexity 1.0" in first
    assert "2 of" in last
    assert "have collapsed" in last
    assert all("--warmup-epochs" in each and "--signals" in each for each in warnings), "what to do"


def test_fail_on_collapse(bbqrec, flat, tmp_path):
    output = tmp_path / "t.h5"
    command = ["tokenize", flat, "-o", output, *flags(), "--codebook-size", 12, "--json"]
    said = bbqrec(*command, "--fail-on-collapse")
    error = json.loads(said.err.splitlines()[-1])
    assert (said.status, error["error"], said.out) == (CollapseError.exit_code, "collapse", "")
    assert said.status == 3
    assert "2 of 4 codebooks have collapsed: signal text, level 1: 1 of 12 codes" in error["message"]
    assert "--resume without --fail-on-collapse" in error["hint"]
    assert not output.exists()
    again = bbqrec(*command, "--resume")
    assert again.status == 0
    assert output.exists()
    assert "resumed after epoch 4" in again.err


def test_no_collapse_no_warning(bbqrec, files, tmp_path):
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *flags(), "--fail-on-collapse")
    assert said.status == 0
    assert "warning" not in said.err


def test_seconds_are_of_the_whole_run(bbqrec, files, tmp_path, monkeypatch):
    """With what comes after the epochs, here collisions, and with the epochs before an interruption."""
    output, resolve = tmp_path / "tokens.h5", collisions.resolve_collisions

    def resolved(*rest):
        time.sleep(0.5)
        return resolve(*rest)

    with interrupted_in(2, seconds=0.3):
        assert bbqrec("tokenize", files["features"], "-o", output, *flags()).status == 130
    monkeypatch.setattr(collisions, "resolve_collisions", resolved)
    resumed = json.loads(bbqrec("tokenize", files["features"], "-o", output, *flags(), "--resume", "--json").out)
    rows = [row["seconds"] for row in hdf5.read_tokens(output).history]
    assert sum(rows[:2]) >= 0.6
    assert resumed["seconds"] >= sum(rows) + 0.5
    without = json.loads(bbqrec("tokenize", files["features"], "-o", output, *flags(), "--force", "--json").out)
    assert without["seconds"] >= 0.5


@pytest.mark.parametrize("method", [name for name in TOKENIZERS if name not in ("published", "letter")])
def test_features_narrower_than_a_code(bbqrec, files, tmp_path, method):
    """12 items with features of 8 columns: every method's default --dim does."""
    epochs = ["--epochs", "2"] if hasattr(TOKENIZERS.config(method), "epochs") else []
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", "--method", method, "--levels", 2, *epochs)
    assert said.status == 0, said.err
    narrowed = method in ("rqkmeans", "pq", "opq")
    assert ("codes have the features' 8 columns, fewer than 32 (--dim)" in said.err) == narrowed
    if narrowed:
        assert hdf5.read_tokens(tmp_path / "t.h5").codes.codebooks.shape[-1] == 8
        assert hdf5.describe(tmp_path / "t.h5")["config"]["options"]["dim"] == 8
        asked = bbqrec("tokenize", files["features"], "-o", tmp_path / "a.h5", "--method", method, "--dim", 9)
        assert asked.status == 2
        assert "--dim is 9, but the features have 8 columns" in asked.err


def test_ctrl_c_says_what_is_saved(bbqrec, files, tmp_path):
    output = tmp_path / "tokens.h5"
    with interrupted_in(3):
        said = bbqrec("tokenize", files["features"], "-o", output, *flags(), "--json")
    error = json.loads(said.err.splitlines()[-1])
    assert (said.status, error["error"], said.out) == (130, "interrupted", "")
    assert f"3 of 4 epochs are saved in {output}.checkpoint" in error["message"]
    assert "--resume" in error["hint"]
    resumed = bbqrec("tokenize", files["features"], "-o", output, *flags(), "--resume")
    assert "resumed after epoch 3" in resumed.err
    assert not Path(f"{output}.checkpoint").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "method"), [(signal.SIGKILL, "bbqrec"), (signal.SIGKILL, "rqvae"), (signal.SIGTERM, "bbqrec")]
)
def test_killed_and_resumed(files, tmp_path, how, method):
    """The real command, killed once in the warm-up and once after k-means."""
    epochs = {"bbqrec": 24, "rqvae": 60}[method]

    def command(output: Path, *more: str) -> list[str]:
        layers = 1 if method == "bbqrec" else None
        options = flags(
            method=method, epochs=epochs, warmup_epochs=epochs // 2, threads=1, batch_size=6, sequence_layers=layers
        )
        return [sys.executable, "-m", "bbqrec_cli", "tokenize", str(files["features"]), "-o", str(output),
                *map(str, options), *more]  # fmt: skip

    broken, whole = tmp_path / "broken.h5", tmp_path / "whole.h5"
    for stage in ("epoch 2/", "codebooks initialised"):
        process = subprocess.Popen(
            command(broken, "--resume"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(stage):
                break
        time.sleep(0.1)
        process.send_signal(how)
        _, said = process.communicate()
        assert process.returncode == (-9 if how == signal.SIGKILL else 130)
        assert how == signal.SIGKILL or "epochs are saved in" in said
        assert not broken.exists()
    last = subprocess.run(command(broken, "--resume"), check=True, capture_output=True, text=True)
    assert "resumed after epoch" in last.stderr
    subprocess.run(command(whole), check=True, capture_output=True)
    mine, theirs = hdf5.read_tokens(broken), hdf5.read_tokens(whole)
    for name in ("codes", "codebooks", "item_vectors"):
        np.testing.assert_array_equal(getattr(mine.codes, name), getattr(theirs.codes, name), err_msg=name)
    assert [row["loss"] for row in mine.history] == [row["loss"] for row in theirs.history]


def counted(index: dict[str, list[str]], depth: int) -> tuple[int, int]:
    """Distinct prefixes, and items that share theirs, from the JSON itself."""
    prefixes = Counter(tuple(tokens[:depth]) for tokens in index.values())
    return len(prefixes), sum(n for n in prefixes.values() if n > 1)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["amazon-beauty", "yelp"])
def test_letters_published_ids(bbqrec, tmp_path, name):
    """The index, a tokens file made of it and a model file say the same, and what counting the JSON says."""
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"the research data are not there: {folder}")
    index = json.loads((folder / "letter.index.json").read_text())
    expected = [counted(index, depth) for depth in (1, 2, 3, 4)]
    if name == "amazon-beauty":
        assert expected == [(197, 12_085), (7_931, 6_409), (11_696, 674), (12_088, 24)]
    assert bbqrec("prepare", "s3rec", folder / "sequences.txt", "-o", tmp_path / "d.h5").status == 0
    catalogue = hdf5.read_dataset(tmp_path / "d.h5").catalogue
    hdf5.write_features(tmp_path / "f.h5", Features(catalogue=catalogue, features={}), config={})
    options = ["--method", "published", "--index", folder / "letter.index.json", "--json"]
    made = bbqrec("tokenize", tmp_path / "f.h5", "-o", tmp_path / "t.h5", *options)
    assert made.status == 0, made.err
    assert "start at 0" in made.err
    assert json.loads(made.out)["colliding_items"] == expected[3][1]
    tokens = hdf5.read_tokens(tmp_path / "t.h5")
    assert [f"<{letter}_{code}>" for letter, code in zip("abcd", tokens.codes.codes[0, :, 0], strict=True)] == index[
        str(int(catalogue.item_ids[0]) - 1)
    ]
    model = TrainedModel(catalogue=catalogue, name="tiger", settings={}, weights={}, codes=tokens.codes)
    hdf5.write_model(tmp_path / "m.h5", model, config={})
    for source in (folder / "letter.index.json", tmp_path / "t.h5", tmp_path / "m.h5"):
        said = json.loads(bbqrec("collisions", source, "--json").out)
        assert [(d["distinct"], d["colliding_items"]) for d in said["depths"]] == expected
        assert said["items"] == len(index) == len(catalogue.item_ids)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--method", "bbqrec", "--no-rec", "--beta", "5"), "--beta has no effect with --no-rec"),
        (("--method", "bbqrec", "--no-mim", "--gamma", "5"), "--gamma has no effect with --no-mim"),
        (
            ("--method", "letter", "--collaborative-weight", "0", "--diversity-weight", "0", "--clusters", "2"),
            "--clusters has no effect with this --diversity-weight",
        ),
    ],
)
def test_options_without_effect_are_said(bbqrec, files, tmp_path, given, says):
    small = ("--levels", "1", "--codebook-size", "4", "--epochs", "2", "--hidden", "8", "--dim", "4")
    said = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *given, *small)
    assert said.status == 0
    assert says in said.err
