"""Times, orders and estimates before a run."""

from __future__ import annotations

import json

import pytest

from bbqrec_cli.benchmark import planning
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "minutes"), [("2h", 120), ("90m", 90), ("120s", 2), ("90", 90), ("1.5h", 90), ("", 0), ("1e-9", 1e-9)]
)
def test_times(text, minutes):
    assert planning.minutes_of(text) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["2d", "h", "-5", "two", "inf", "nan"])
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


def test_estimates_are_of_the_same_step(graph):
    made = graph()
    train = {step.label: step for step in made.steps.values() if step.stage == "train"}
    records = [
        {"stage": "train", "label": "sasrec, seed 5", "status": "done", "seconds": seconds} for seconds in (10, 20, 90)
    ]
    records += [{"stage": "train", "label": "ours, seed 0", "status": "done", "seconds": 7.0}]
    records += [{"stage": "train", "label": "popularity, toys, seed 0", "status": "done", "seconds": 5.0}]
    records += [{"stage": "train", "label": "popularity, seed 0", "status": "failed", "seconds": 99.0}]
    estimates = planning.Estimates.of(records)
    assert estimates.seconds(train["sasrec, seed 0"]) == 20, "the median"
    assert estimates.seconds(train["ours, seed 1"]) == 7
    assert estimates.seconds(train["popularity, seed 0"]) is None, "other data, and one that failed"
    more = estimates.plus({"stage": "train", "label": "ours, seed 9", "status": "done", "seconds": 9.0})
    assert (more.seconds(train["ours, seed 0"]), estimates.seconds(train["ours, seed 0"])) == (8, 7)
    assert estimates.plus({"status": "interrupted", "error": "interrupted"}).took == estimates.took
    assert estimates.total([train["sasrec, seed 0"], train["ours, seed 1"], train["popularity, seed 0"]]) == (27, 1)


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
    assert rows["figure4"] == {
        "name": "figure4", "about": "The paper's Figure 4: BBQRec without id, text and pictures",
        "needs": "features of text and pictures", "seconds": None,
    }  # fmt: skip
    assert "what it shows" in bbqrec("benchmark", "--list").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a suite is needed"),
        (["demo", "more"], "'more' after the suite"),
        (["merge"], "merge needs work folders and -o"),
        (["demo", "--time-budget", "2d"], "is '2d'"),
    ],
)
def test_wrong_command_lines(bbqrec, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    done = bbqrec("benchmark", *arguments)
    assert done.status == 2
    assert says in done.err
    assert not any(tmp_path.iterdir())
