"""Times, orders and estimates before a run."""

from __future__ import annotations

import json
import shutil

import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark import known, planning, records
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.errors import UsageError
from bbqrec_cli.origin import processor


@pytest.mark.parametrize(
    ("text", "minutes"), [("2h", 120), ("90m", 90), ("120s", 2), ("90", 90), ("1.5h", 90), ("", 0), ("1e-9", 1e-9)]
)
def test_times(text, minutes):
    assert planning.minutes_of(text) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["2d", "h", "-5", "two", "inf", "nan", "0", "0h"])
def test_what_is_no_time(text):
    with pytest.raises(UsageError, match="2h, 90m, 120s"):
        planning.minutes_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 00 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds, text):
    assert planning.duration(seconds) == text


TABLES = """
[[table]]
title = "All"
rows = ["popularity", "sasrec", "ours"]
columns = ["recall@5"]
[[table]]
title = "Small"
rows = ["ours", "popularity"]
columns = ["recall@5"]
"""


def test_a_small_table_comes_first(graph, folder):
    made = graph(('[[system]]\nname = "popularity"', f'{TABLES}[[system]]\nname = "popularity"'))
    ordered = planning.small_tables_first(made, load_suite(str(folder / "suite.toml")))
    assert [(cell.system or cell.tokenizer, cell.seed) for cell in ordered.cells] == [
        (name, seed) for seed in (0, 1) for name in ("popularity", "ours", "sasrec", "alone")
    ]
    assert ordered.steps is made.steps


def took(step, seconds: float, **more) -> dict:
    """The record of a step that was done here."""
    origin = {"processor": processor(), "threads": 2, "device": "cpu"}
    made = {"status": "done", "seconds": seconds, "origin": origin, "at_least": False, "finished": str(seconds)}
    return records.fresh(step) | made | more


def test_estimates_are_of_the_same_settings_on_the_same_data(graph, folder):
    train = {step.label: step for step in graph(("seeds = [0, 1]", "seeds = [0, 1, 5]")).steps.values()
             if step.stage == "train"}  # fmt: skip
    sasrec, ours, popularity = (train[f"{name}, seed 0"] for name in ("sasrec", "ours", "popularity"))
    known = [took(train["sasrec, seed 5"], seconds) for seconds in (10, 20, 90)] + [took(ours, 7.0)]
    elsewhere = {"processor": "another", "threads": 2, "device": "cpu"}
    no = [took(popularity, 5.0, status="failed"), took(popularity, 5.0, origin=elsewhere)]
    no += [took(popularity, 5.0, at_least=True), took(popularity, 5.0, alike="")]
    estimates = planning.Estimates.of([*known, *known, *no])
    assert estimates.seconds(sasrec) == 20, "the median, of other seeds, each record once"
    assert estimates.seconds(train["ours, seed 1"]) == 7, "its IDs have the other seed, too"
    assert estimates.seconds(popularity) is None
    assert estimates.where == {"2 threads, cpu"}
    more = estimates.plus(took(train["ours, seed 5"], 9.0))
    assert (more.seconds(ours), estimates.seconds(ours)) == (8, 7)
    assert estimates.plus({"status": "interrupted", "error": "interrupted"}).took == estimates.took
    assert estimates.total([sasrec, train["ours, seed 1"], popularity]) == (27, 1)
    other = {step.label: step for step in graph(("width = 8", "width = 16")).steps.values() if step.stage == "train"}
    assert estimates.seconds(other["sasrec, seed 0"]) is None, "another width"
    assert estimates.seconds(other["ours, seed 0"]) == 7
    features = hdf5.read_features(folder / "features.h5")
    features.features["text"].values[0] += 1
    hdf5.write_features(folder / "features.h5", features, config={}, force=True)
    again = {step.label: step for step in graph().steps.values() if step.stage == "train"}
    assert estimates.seconds(again["sasrec, seed 0"]) is None, "other data"


def test_labels_without_seeds():
    assert planning.without_seed("sasrec, toys, seed 12, seen items left out") == "sasrec, toys, seen items left out"


def test_a_dry_run_runs_nothing(folder, fake, bbqrec):
    done = bbqrec("benchmark", folder / "suite.toml", "-o", folder / "work", "--dry-run")
    assert done.status == 0, done.err
    assert not (folder / "work").exists()
    assert fake.calls == []
    assert "16 steps to run, 0 done, without 16 steps that nobody ran here" in done.out
    run(BenchmarkConfig(suite=str(folder / "suite.toml"), output=folder / "work", device="cpu"))
    (next((folder / "work").glob("sasrec-seed-0*.metrics.h5"))).unlink()
    found = json.loads(bbqrec("benchmark", folder / "suite.toml", "-o", folder / "work", "--dry-run", "--json").out)
    assert (found["done"], found["unknown"]) == (15, 0)
    assert [(each["stage"], each["label"]) for each in found["steps"]] == [("evaluate", "sasrec, seed 0")]
    assert found["steps"][0]["seconds"] == found["seconds"] > 0


def test_the_list_of_suites(bbqrec, tmp_path, monkeypatch, folder, fake):
    monkeypatch.chdir(tmp_path)
    (folder / "suite.toml").write_text((folder / "suite.toml").read_text().replace('name = "tiny"', 'name = "table4"'))
    run(BenchmarkConfig(suite=str(folder / "suite.toml"), device="cpu"))
    rows = {row["name"]: row for row in json.loads(bbqrec("benchmark", "--list", "--json").out)["suites"]}
    assert rows["table4"]["seconds"] > 0
    assert rows["table4"]["whole"]
    assert rows["table4"]["folder"] == "benchmark-table4"
    assert rows["table4"]["on"].startswith(f"features.h5: 30 users, 12 items; 2 seeds; {processor()}, ")
    assert rows["figure4"] == {
        "name": "figure4", "about": "The paper's Figure 4: BBQRec without id, text and pictures",
        "needs": "features of text and pictures", "seconds": None, "whole": False, "on": "", "folder": "",
    }  # fmt: skip
    assert "what it shows" in bbqrec("benchmark", "--list").out


def test_the_list_with_a_data_set_named_users_and_a_suite_that_says_little(folder, tmp_path, monkeypatch, fake):
    monkeypatch.chdir(tmp_path)
    text = (folder / "suite.toml").read_text().replace("[data]", '[[data]]\nname = "users"')
    (folder / "suite.toml").write_text(text.replace('name = "tiny"', 'name = "little"', 1))
    (tmp_path / "little.toml").write_text('name = "little"\n[[system]]\nname = "sasrec"\n')
    monkeypatch.setattr(planning, "BUILT_IN", tmp_path)
    monkeypatch.setattr(planning, "built_in", lambda: ("little",))
    run(BenchmarkConfig(suite=str(folder / "suite.toml"), device="cpu"))
    (row,) = planning.listing().rows
    assert (row["about"], row["needs"], row["on"][:15]) == ("", "", "users: 30 users")


@pytest.mark.slow
def test_runs_in_other_places_are_known(bbqrec, tmp_path, monkeypatch, folder, fake):
    """Of two runs the last; an interrupted one says how long at least."""
    text = (folder / "suite.toml").read_text().replace('name = "tiny"', 'name = "table4"')
    (folder / "suite.toml").write_text(text)
    for name, minutes in (("first", 0.0), ("second", 5.0)):
        run(BenchmarkConfig(
            suite=str(folder / "suite.toml"), output=folder / name, device="cpu", train_minutes=minutes
        ))  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def row() -> dict:
        rows = json.loads(bbqrec("benchmark", "--list", "--json").out)["suites"]
        return next(each for each in rows if each["name"] == "table4")

    assert row()["folder"] == str(folder / "second")
    assert "ended with the epoch in which it was reached: minutes 5." in row()["on"]
    done = bbqrec("benchmark", folder / "suite.toml", "--dry-run", "--json")
    assert json.loads(done.out)["unknown"] == 0, "the same settings on the same data"
    shutil.rmtree(folder / "second")
    assert row()["folder"] == str(folder / "first")
    assert len(known.list_file().read_text().splitlines()) == 2
    known.remember(folder / "first")
    assert known.list_file().read_text() == f"{folder / 'first'}\n", "what is gone is forgotten"


def test_a_home_that_can_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    known.remember(tmp_path)
    assert known.known() == []
    assert known.folders(tmp_path / "work") == [tmp_path / "work"]

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(known, "list_file", nowhere)
    known.remember(tmp_path)
    assert known.known() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a suite is needed"),
        (["demo", "more"], "'more' after the suite"),
        (["merge"], "merge needs work folders and -o"),
        (["demo", "--time-budget", "2d"], "is '2d'"),
        (["--list", "--report", "page.md"], "--report is for a suite's run"),
        (["merge", "a", "-o", "b", "--report", "page.md"], "--report is for a suite's run"),
        (["demo", "--dry-run", "--report", "page.md"], "--report is for a suite's run"),
    ],
)
def test_wrong_command_lines(bbqrec, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    done = bbqrec("benchmark", *arguments)
    assert done.status == 2
    assert says in done.err
    assert not any(tmp_path.iterdir())
