from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.errors import DataError, LackingError, OutputExistsError, UsageError
from bbqrec_cli.locks import locked
from bbqrec_cli.records import Sequences
from bbqrec_cli.stages import prepare, train


@pytest.fixture
def config(folder):
    """The options of a run of the tiny suite."""

    def make(**more) -> BenchmarkConfig:
        return BenchmarkConfig(suite=str(folder / "suite.toml"), output=folder / "work", device="cpu", **more)

    return make


def test_the_result(config, fake, folder):
    result = run(config(report=folder / "page.html"))
    said = json.loads(json.dumps(result.to_json()))
    assert (said["suite"], said["split"], said["seeds"]) == ("tiny", "test", [0, 1])
    assert said["metrics"] == ["recall@5", "recall@10", "ndcg@5", "ndcg@10"]
    assert said["systems"]["sasrec"]["recall@5"]["values"] == pytest.approx([2 / 3, 2 / 3])
    assert (said["failed"], said["left"], len(said["cells"])) == (0, 0, 8)
    ours = said["cells"][2]
    assert (ours["model"], ours["tokenizer"], ours["best_epoch"], ours["epochs"]) == ("tiger", "ids", 1, 2)
    assert ours["seconds"].keys() == {"tokenize", "train", "evaluate"}
    assert ours["milliseconds_per_user"] == pytest.approx(1)
    alone = said["cells"][3]
    assert (alone["system"], alone["milliseconds_per_user"], alone["status"]) == ("", None, "done")
    codes = fake.records["tokens"].codes.codes
    assert said["tokenizers"][0] | {"seconds": 0} == {
        "tokenizer": "ids", "data": "", "seed": 0, "method": "bbqrec", "signals": ["id", "text"], "levels": 2,
        "codebook_size": 4, "items": 12, "distinct": 12, "colliding_items": 0, "colliding_prefixes": [12, 0],
        "seconds": 0, "at_least": False,
    } | {
        "colliding_before": None, "epochs": 2, "reconstruction": 5.0, "information": 0.5, "lowest_information": -2.0,
        "recall_unquantised": 0.3, "recall_quantised": 0.25, "lowest_perplexity": 2.0, "reported": None,
        "usage": np.mean([len(set(codes[:, level, m])) for level in (0, 1) for m in (0, 1)]),
    }  # fmt: skip
    assert said["data"]["interactions"] == 223
    assert "text" not in said
    assert "histories" not in said
    assert (folder / "page.html").exists()


def test_codes_that_stand_in_for_a_missing_signal_are_not_in_use(config, fake):
    tokens = fake.records["tokens"]
    codes, present = np.zeros_like(tokens.codes.codes), np.ones((12, 2), dtype=bool)
    codes[0], present[0, 1] = 3, False
    changed = dataclasses.replace(tokens.codes, codes=codes, present=present)
    fake.records["tokens"] = dataclasses.replace(tokens, codes=changed)
    found = run(config()).tokenizers[0]
    assert found["usage"] == np.mean([2, 1])


def test_every_cell_is_kept_in_one_file(config, fake, folder):
    result = run(config())
    state = hdf5.read_benchmark(folder / "work" / "benchmark.h5")
    assert state["results"]["systems"].keys() == result.systems[""].keys()
    (data,) = state["data"].values()
    assert data["cells"].keys() == {f"{s}, seed {n}" for s in ("popularity", "sasrec", "ours") for n in (0, 1)}
    np.testing.assert_array_equal(data["cells"]["popularity, seed 1"], np.full(30, 4))
    assert data["users"] == [f"u{n}" for n in range(30)]
    assert len(state["steps"]) == 16
    about = hdf5.describe(folder / "work" / "benchmark.h5")
    assert about["config"]["suite"] == (folder / "suite.toml").read_text()


def test_a_damaged_output_is_a_failed_cell(config, fake, folder):
    """The other cells' tables and the page are made."""
    run(config())
    (path,) = (folder / "work").glob("sasrec-seed-0*.model.h5")
    path.write_bytes(path.read_bytes()[:500])
    result = run(config(report=folder / "page.md"))
    assert [cell["name"] for cell in result.of("failed")] == ["sasrec, seed 0"]
    assert "delete it and run again" in result.of("failed")[0]["error"]
    assert len(result.systems[""]["sasrec"]["ndcg@10"].values) == 1
    assert (folder / "page.md").exists()


def test_the_command_that_makes_the_page_again(config, fake, folder):
    assert f"-o {folder / 'work'}" in run(config()).command


def test_nothing_is_begun_when_the_page_can_not_be_written(config, fake, folder):
    (folder / "page.html").write_text("mine")
    with pytest.raises(OutputExistsError):
        run(config(report=folder / "page.html"))
    with pytest.raises(UsageError):
        run(config(report=folder / "page.pdf"))
    assert fake.calls == []


def test_a_page_from_what_is_done(config, fake, folder):
    first = run(config())
    fake.calls.clear()
    second = run(config(report=folder / "page.md"))
    assert fake.calls == []
    assert vars(second.systems[""]["ours"]["ndcg@10"]) == vars(first.systems[""]["ours"]["ndcg@10"])
    assert second.provenance["runs"] == first.provenance["runs"]


def test_two_at_once(config, fake, folder):
    (folder / "work").mkdir()
    with locked(folder / "work"), pytest.raises(DataError, match="another run is at work"):
        run(config())
    assert fake.calls == []


def test_tokenizers_alone(config, fake, folder):
    text = (folder / "suite.toml").read_text()
    (folder / "suite.toml").write_text(text.split("[[system]]")[0])
    result = run(config(report=folder / "page.html"))
    assert (result.systems, len(result.tokenizers), len(result.cells)) == ({"": {}}, 4, 4)
    assert "Semantic IDs" in (folder / "page.html").read_text()


def test_a_work_folder_that_can_not_be(config, fake, folder):
    (folder / "work").write_text("a file")
    with pytest.raises(DataError, match="cannot be made the work folder"):
        run(config())


def test_a_device_that_is_not_there(folder, fake):
    options = BenchmarkConfig(suite=str(folder / "suite.toml"), output=folder / "work", device="cuda:99")
    with pytest.raises(LackingError):
        run(options)
    assert fake.calls == []


def test_the_command(bbqrec, folder, fake, monkeypatch):
    monkeypatch.chdir(folder)
    said = bbqrec("benchmark", "suite.toml")
    assert said.status == 0
    assert (folder / "benchmark-tiny" / "benchmark.h5").exists()
    assert "0.6667 ± 0.0000" in said.out
    assert "Highest test NDCG@10: ours" in said.out
    assert "8 of 8 cells are done" in said.out
    assert "cell 1 of 8: popularity, seed 0" in said.err
    assert max(map(len, said.out.splitlines())) <= 80, "a table fits a terminal of 80 columns"
    said = bbqrec("benchmark", "suite.toml", "--json")
    assert (said.status, json.loads(said.out)["failed"]) == (0, 0)


def test_the_command_says_what_failed_at_last(bbqrec, folder, fake, monkeypatch):
    def fail(stage, config):
        if stage == "evaluate":
            raise DataError("no luck")

    fake.before = fail
    said = bbqrec("benchmark", folder / "suite.toml", "-o", folder / "work", "--report", folder / "page.html")
    assert said.status == 3
    assert "Not done" in said.out
    assert "6 of 8 cells failed, the first is popularity, seed 0: evaluate popularity, seed 0: no luck" in said.err
    assert "no luck" in (folder / "page.html").read_text()
    said = bbqrec("benchmark", folder / "suite.toml", "-o", folder / "work", "--json")
    assert (said.status, json.loads(said.out)["failed"]) == (3, 6)
    assert json.loads(said.err.splitlines()[-1])["error"] == "bad_data"


def test_time_budget_and_seed_from_the_command_line(bbqrec, folder, fake, monkeypatch):
    said = bbqrec("benchmark", folder / "suite.toml", "-o", folder / "work", "--time-budget", "1e-9", "--json")
    assert (said.status, json.loads(said.out)["left"]) == (0, 8), "cells that are left are no failure"
    said = bbqrec("benchmark", folder / "suite.toml", "-o", folder / "work", "--seed", 5, "--json")
    assert json.loads(said.out)["seeds"] == [5, 6]


REAL = """
name = "real"
[data]
source = "demo"
prepare = { size = "small" }
embed = { modalities = ["image"] }
[[tokenizer]]
name = "rqvae"
method = "rqvae"
signals = ["image"]
codebook_size = 8
epochs = 2
warmup_epochs = 1
[[tokenizer]]
name = "published"
method = "published"
index = "index.json"
[[system]]
name = "popularity"
[[system]]
name = "sasrec"
epochs = 1
width = 8
[[system]]
name = "tiger"
tokenizer = "rqvae"
epochs = 1
width = 16
layers = 1
decoder-layers = 1
[[system]]
name = "on published IDs"
model = "tiger"
tokenizer = "published"
epochs = 1
width = 16
layers = 1
decoder-layers = 1
"""


@pytest.mark.slow
def test_for_real(bbqrec, tmp_path):
    """Raw data to page with the program's own stages; a second start changes nothing; a published index works."""
    prepared = tmp_path / "demo.h5"
    assert bbqrec("prepare", "demo", "--size", "small", "-o", prepared).status == 0
    items = hdf5.read_catalogue(prepared).item_ids
    index = {item: [f"<a_{row // 16}>", f"<b_{row % 16}>"] for row, item in enumerate(items)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "real.toml").write_text(REAL)
    options = [
        "benchmark",
        tmp_path / "real.toml",
        "-o",
        tmp_path / "work",
        "--device",
        "cpu",
        "--threads",
        1,
        "--json",
    ]
    said = bbqrec(*options, "--report", tmp_path / "page.html")
    assert said.status == 0, said.err
    first = json.loads(said.out)
    assert first["failed"] == 0
    assert {each["tokenizer"]: each["colliding_items"] for each in first["tokenizers"]}["published"] == 0
    assert first["data"]["items"] == len(items) == 200
    for scores in first["systems"].values():
        assert 0 <= scores["ndcg@10"]["low"] <= scores["ndcg@10"]["mean"] <= scores["ndcg@10"]["high"] <= 1
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*.h5") if path.stem != "benchmark"}
    assert len(files) == 12
    second = json.loads(bbqrec(*options).out)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert second["systems"] == first["systems"]
    # The whole chain by hand gives the same numbers.
    for stage in (
        ("embed", prepared, "-o", tmp_path / "f.h5", "--modalities", "image"),
        ("tokenize", tmp_path / "f.h5", "-o", tmp_path / "t.h5", "--method", "rqvae", "--signals", "image",
         "--codebook-size", 8, "--epochs", 2, "--warmup-epochs", 1),
        ("train", tmp_path / "t.h5", "-o", tmp_path / "m.h5", "--model", "tiger", "--epochs", 1, "--width", 16,
         "--layers", 1, "--decoder-layers", 1),
        ("evaluate", tmp_path / "m.h5", "-o", tmp_path / "e.h5"),
    ):  # fmt: skip
        assert bbqrec(*stage, "--device", "cpu", "--threads", 1).status == 0
    mine = hdf5.read_metrics(tmp_path / "e.h5")
    np.testing.assert_array_equal(
        hdf5.read_benchmark(tmp_path / "work/benchmark.h5")["data"]["data"]["cells"]["tiger, seed 0"], mine.ranks
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again(files, tmp_path, how):
    """To the same numbers as a run that was never stopped, and without doing anything twice."""
    text = 'name = "kill"\n[data]\nfile = "features.h5"\n[[system]]\nname = "popularity"\n'
    text += '[[system]]\nname = "sasrec"\nepochs = 60\nwidth = 32\nbatch_size = 4\npatience = 0\n'
    (tmp_path / "suite.toml").write_text(text)
    (tmp_path / "features.h5").write_bytes(files["features"].read_bytes())

    def command(folder):
        options = ["-o", str(tmp_path / folder), "--device", "cpu", "--threads", "1", "--json"]
        return [sys.executable, "-m", "bbqrec_cli", "benchmark", str(tmp_path / "suite.toml"), *options]

    process = subprocess.Popen(command("broken"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not list((tmp_path / "broken").glob("sasrec*.checkpoint")) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(how)
    _, said = process.communicate()
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), said
    popularity = next((tmp_path / "broken").glob("popularity*.metrics.h5"))
    before = popularity.stat().st_mtime_ns
    again = subprocess.run(command("broken"), capture_output=True, text=True, check=True)
    assert "train sasrec, seed 0, resumed" in again.stderr
    assert "resumed after epoch" in again.stderr
    assert "popularity" not in again.stderr
    assert popularity.stat().st_mtime_ns == before
    whole = subprocess.run(command("whole"), capture_output=True, text=True, check=True)
    broken, whole = (json.loads(each.stdout) for each in (again, whole))
    assert broken["systems"] == whole["systems"]
    assert broken["cells"][1]["at_least"] == (["train"] if how == signal.SIGKILL else [])
    first, second = (next((tmp_path / each).glob("sasrec*.model.h5")) for each in ("broken", "whole"))
    for name, value in hdf5.read_model(second).weights.items():
        np.testing.assert_array_equal(hdf5.read_model(first).weights[name], value, err_msg=name)
    assert not list((tmp_path / "broken").glob("*.checkpoint"))


@pytest.mark.parametrize("images", ["", '[data.prepare]\nimages = "d/images"\n'])
def test_pictures_that_change_while_the_suite_runs(config, folder, monkeypatch, images):
    """Those beside the data, and those that an option names."""
    inside = folder / "d"
    (inside / "images").mkdir(parents=True)
    rows = [f"u{user},i{(user + step) % 5},{step}" for user in range(6) for step in range(4)]
    (inside / "interactions.csv").write_text("\n".join(["user,item,time", *rows]))
    picture = inside / "images" / "i1.png"
    picture.write_bytes(b"\x89PNG before")
    (folder / "suite.toml").write_text(
        f'name = "s"\nseeds = [0]\n[data]\nsource = ["table", "d"]\n{images}[[system]]\nname = "popularity"\n'
    )
    read = prepare.run

    def late(*given):
        made = read(*given)
        picture.write_bytes(b"\x89PNG after")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "run", late)
        result = run(config())
    assert "the pictures have changed since the suite began" in result.of("failed")[0]["error"]
    assert not list((folder / "work").glob("*.dataset.h5"))
    assert not run(config()).of("failed")


@pytest.mark.parametrize("namesake", [False, True])
def test_an_input_that_changes_while_the_suite_runs(config, folder, monkeypatch, namesake):
    """What is made of the new file is not kept under the key of the old one, whatever else has its name."""
    if namesake:
        (folder / "work").mkdir()
        (folder / "work" / "features.h5").write_bytes(b"")
    (folder / "suite.toml").write_text(
        'name = "s"\nseeds = [0]\n[data]\nfile = "features.h5"\n[[system]]\nname = "popularity"\n'
        '[[system]]\nname = "markov"\n'
    )
    features, original = folder / "features.h5", (folder / "features.h5").read_bytes()
    before = hdf5.read_features(features)
    learn = train.learn

    def late(chosen, *args, **more):
        made = learn(chosen, *args, **more)
        if chosen.model == "popularity":
            shorter = Sequences.from_lists([walk[:-1].tolist() for walk in before.catalogue.sequences])
            less = dataclasses.replace(before.catalogue, sequences=shorter)
            hdf5.write_features(features, dataclasses.replace(before, catalogue=less), config={}, force=True)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(train, "learn", late)
        result = run(config())
    assert [cell["name"] for cell in result.of("failed")] == ["markov, seed 0"]
    assert result.of("failed")[0]["error"] == "train markov, seed 0: features.h5: has changed since the suite began"
    assert not list((folder / "work").glob("markov*.h5"))
    features.write_bytes(original)
    assert not run(config()).of("failed")
    (model,) = (folder / "work").glob("markov*.model.h5")
    assert hdf5.describe(model)["parents"][0]["sha256"] == hdf5.sha256(features)
