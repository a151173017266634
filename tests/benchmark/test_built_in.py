"""The suites of the paper's tables and figures, on data of the command line, and several suites as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbqrec_cli.benchmark import published
from bbqrec_cli.benchmark.files import built_in, given_data
from bbqrec_cli.benchmark.graph import Machine, make_graph
from bbqrec_cli.benchmark.suite import load_suite, method_of
from bbqrec_cli.config import stored
from bbqrec_cli.errors import MissingFileError, UsageError
from bbqrec_cli.recipes import names, recipe

PAPER = ("table2", "table3", "table4", "table5", "table6", "figure3", "figure4")


def load(name: str, files: dict[str, Path], **more):
    return load_suite(name, data=[f"beauty={files['features']}"], **more)


def test_there_is_a_suite_for_every_table():
    assert set(built_in()) == {*PAPER, "paper", "demo"}


@pytest.mark.parametrize("name", [*PAPER, "paper"])
def test_they_load_and_their_rows_exist(name, files, tmp_path):
    suite = load(name, files)
    assert (suite.name, suite.data[0].published) == (name, "beauty")
    graph = make_graph(suite, Machine(folder=tmp_path))
    assert {cell.data for cell in graph.cells} == {"beauty"}
    assert suite.seeds == (0, 1, 2)
    known = {each.name for each in suite.systems} | set(suite.tokenizers)
    for layout in suite.layouts:
        assert {name for _, name in layout.rows} <= known
        assert layout.data == ("beauty",)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_rows_have_the_papers_names(name, files):
    """So its numbers stand in their cells."""
    place = {"table2": "Table 2", "table3": "Table 3", "table4": "Table 4", "table5": "Table 5", "table6": "Table 6"}
    suite = load(name, files)
    rows = {each.name for each in suite.systems} | set(suite.tokenizers)
    named = {each["system"] for each in published._values()["published"] if each["source"] == "bbqrec"
             and each["place"].split(",")[0] == place.get(name)}  # fmt: skip
    assert named <= rows


def test_what_is_varied_is_varied(files):
    def options(suite, name):
        return method_of(suite.tokenizers[name].config)

    three = load("table3", files)
    assert [options(three, f"BBQRec's IDs{each}").mim for each in ("", " ¬MIM")] == [True, False]
    assert [options(three, f"BBQRec's IDs{each}").rec for each in ("", " ¬Rec")] == [True, False]
    assert [options(three, f"BBQRec's IDs{each}").shared_codebook for each in ("", " ¬U")] == [True, False]
    four = {each.name: method_of(each.config).variant for each in load("table4", files).systems}
    assert four == {"BBQRec": "full", "BBQRec_S": "no-similarity", "BBQRec_E": "inherit"}
    five = load("table5", files)
    assert [options(five, f"{name} L={n}").levels for name in ("RQ-VAE", "LETTER", "BBQRec") for n in (2, 3, 4)] == [
        2, 3, 4,
    ] * 3  # fmt: skip
    assert five.tokenizers["LETTER L=3"].after == {"collaborative": "SASRec"}
    assert five.tokenizers["LETTER L=3, regrouped"].config.on_collision == "regroup"
    six = {each.name: each.evaluate[0].beam for each in load("table6", files).systems}
    assert {six[f"{name}, {beam} beams"] - beam for name in ("TIGER", "LETTER", "BBQRec") for beam in (50, 100)} == {0}
    figure3 = load("figure3", files)
    assert [options(figure3, f"BBQRec's IDs, dim={n}").dim for n in (32, 64, 128, 256)] == [32, 64, 128, 256]
    buckets = {each.name: method_of(each.config).similarity_buckets for each in figure3.systems}
    assert [buckets[f"BBQRec, similarity_buckets={n}"] for n in (10, 50, 100, 200)] == [10, 50, 100, 200]
    figure4 = {each.name: figure4_signals(load("figure4", files), each.tokenizer) for each in
               load("figure4", files).systems}  # fmt: skip
    assert figure4["BBQRec ¬text"] == ("id", "image")


def figure4_signals(suite, tokenizer):
    return method_of(suite.tokenizers[tokenizer].config).signals


def test_table_2_has_the_recipes(files):
    """Every system with a recipe of its name."""
    systems = {each.name.lower(): each.config for each in load("table2", files).systems}
    shared = systems.keys() & {*names()}
    assert {"hstu", "bert4rec", "tiger"} <= shared
    for name in shared:
        made = stored(systems[name]) | stored(method_of(systems[name]))
        assert {key: made[key] for key in recipe(name, "train")} == recipe(name, "train")


def test_all_of_the_paper_computes_what_is_common_once(files, tmp_path):
    paper = load("paper", files)
    titles = [layout.title for layout in paper.layouts]
    assert [title.split(":")[0] for title in titles] == [
        *["Table 2"] * 3, *["Table 3"] * 2, "Table 4", "Table 5", "Table 6", *["Figure 3"] * 4, "Figure 4",
    ]  # fmt: skip
    two = next(layout for layout in paper.layouts if layout.title == "Table 2: systems")
    assert [name for _, name in two.rows] == [each.name for each in load("table2", files).systems]
    steps = {step.label for step in make_graph(paper, Machine(folder=tmp_path)).steps.values() if step.stage == "train"}
    assert "BBQRec, levels=3, beauty, seed 0" not in steps, "L = 3 is the default"
    assert "BBQRec, levels=4, beauty, seed 0" in steps


def test_the_limit_of_training_is_for_all(files):
    suite = load("table4", files, train_minutes=2.5)
    assert {each.config.minutes for each in suite.systems} == {2.5}
    assert {each.config.minutes for each in load("table4", files).systems} == {0.0}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("beauty", "NAME=PATH is needed"),
        ("=x.h5", "NAME=PATH is needed"),
        ("beauty=raw.csv", "beauty: raw.csv is no .h5 file"),
        ("beauty=s3rek:raw", "is no .h5 file"),
    ],
)
def test_data_of_another_form(data, says):
    with pytest.raises(UsageError, match=says):
        load_suite("table4", data=[data])


def test_data_of_the_command_line(files, folder, monkeypatch):
    assert given_data(["mine=table:a.csv,b.csv", "toys=t.h5"]) == [
        {"name": "mine", "source": ["table", "a.csv", "b.csv"]}, {"name": "toys", "published": "toys", "file": "t.h5"},
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"the suite table4 needs data \(features; text at least\)"):
        load_suite("table4")
    with pytest.raises(MissingFileError, match=r"none\.h5 is not there"):
        load_suite("table4", data=["x=none.h5"])
    monkeypatch.chdir(files["features"].parent)
    suite = load_suite(str(folder / "suite.toml"), data=["a=features.h5", "b=dataset.h5"])
    assert [(each.name, each.kind) for each in suite.data] == [("a", "features"), ("b", "dataset")]


INNER = '[[system]]\nname = "sasrec"\n[[table]]\ntitle = "T"\ncolumns = ["recall@5"]\n'


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (
            INNER.replace('name = "sasrec"', 'name = "sasrec"\nwidth = 16'),
            r"its \[\[system\]\] 'sasrec' is another one",
        ),
        (INNER + "[evaluate]\nbeam = 3\n", r"it has \[evaluate\]"),
        (INNER + "[tune]\ntrials = 3\n", r"it has \[tune\]"),
        ("sedes = [1]\n", "unknown key 'sedes'"),
        (INNER.replace("[[system]]", "[system]"), "inner.toml: system is one table"),
        (INNER.replace('"sasrec"', '"sasrec"\ntokenizer = ["a"]'), r"tokenizer is \['a'\]; a name is needed"),
        ('suites = ["inner.toml"]\n' + INNER, "inner.toml: this suite is made of itself"),
        ('suites = ["outer.toml"]\n' + INNER, "outer.toml: this suite is made of itself"),
    ],
)
def test_suites_that_do_not_go_together(folder, inner, says):
    (folder / "inner.toml").write_text('name = "inner"\n' + inner)
    (folder / "outer.toml").write_text(
        'name = "outer"\nsuites = ["inner.toml"]\n[data]\nfile = "features.h5"\n[[system]]\nname = "sasrec"\n'
    )
    with pytest.raises(UsageError, match=says):
        load_suite(str(folder / "outer.toml"))


def test_suites_of_the_same_system(folder):
    (folder / "inner.toml").write_text('name = "inner"\n' + INNER)
    (folder / "outer.toml").write_text(
        'name = "outer"\nsuites = ["inner.toml"]\n[data]\nfile = "features.h5"\n[[system]]\nname = "sasrec"\n'
        '[[system]]\nname = "popularity"\n'
    )
    suite = load_suite(str(folder / "outer.toml"))
    assert [each.name for each in suite.systems] == ["sasrec", "popularity"]
    assert [layout.rows for layout in suite.layouts] == [(("sasrec", "sasrec"),)], "all of its own suite"
    listed = INNER.replace('rows = "all"', 'rows = ["all"]')
    (folder / "inner.toml").write_text(
        'name = "inner"\n' + listed + '[[sweep]]\nname = "W"\nsystem = "sasrec"\noption = "width"\nvalues = [4]\n'
    )
    (layout,) = load_suite(str(folder / "outer.toml")).layouts
    assert [name for _, name in layout.rows] == ["sasrec", "sasrec, width=4"], "as alone: its sweep, too"
    assert "# ---- inner.toml ----" in suite.text


def test_numbers_that_two_suites_report_alike_stand_there_once(folder):
    number = '[[published]]\nsystem = "VQ-Rec"\nsource = "A"\nmetrics = { "ndcg@10" = 0.1 }\n'
    for name in ("one", "two"):
        (folder / f"{name}.toml").write_text(f'name = "{name}"\n{number}')
    text = (
        'name = "outer"\nsuites = ["one.toml", "two.toml"]\n[data]\nfile = "features.h5"\n[[system]]\nname = "sasrec"\n'
    )
    (folder / "outer.toml").write_text(text)
    assert len(load_suite(str(folder / "outer.toml")).published) == 1
