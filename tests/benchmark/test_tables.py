"""Several data sets, sweeps, options of evaluate for a system, published numbers, and tables as data."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bbqrec_cli.benchmark import report, scores, tables
from bbqrec_cli.benchmark.costs import costs_table
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.suite import load_suite, method_of
from bbqrec_cli.errors import UsageError
from bbqrec_cli.recipes import recipe

TWO = '[[data]]\nname = "toys"\nfile = "features.h5"\n[[data]]\nname = "games"\nfile = "games.h5"\n'
ONE = '[data]\nfile = "features.h5"\n'
SWEEP = '[[sweep]]\nname = "levels"\ntokenizer = "ids"\nsystem = "ours"\noption = "levels"\nvalues = [1, 2, 3]\n'
PUBLISHED = """
[[published]]
system = "sasrec"
metrics = { "recall@5" = 0.1234, "ndcg@10" = 0.0567 }
exclude_seen = true
source = "Somebody 2024, Table 2"
[[published]]
system = "VQ-Rec"
metrics = { "recall@10" = 0.2 }
source = "Somebody 2024, Table 3"
"""
TABLE = '[[table]]\ntitle = "Mine"\nrows = ["ours", "popularity"]\ncolumns = ["recall@10", "ms_per_user"]\n'


@pytest.fixture
def suite(folder, files):
    """`suite((old, new), more="[[table]]…")`: the path of the tiny suite, changed and with more tables."""

    def write(*changes: tuple[str, str], more: str = "") -> str:
        (folder / "games.h5").write_bytes(files["features"].read_bytes() + b"\0")
        text = (folder / "suite.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "changed.toml").write_text(text + more)
        return str(folder / "changed.toml")

    return write


@pytest.fixture
def result(suite, folder, fake):
    """The same, run on the fake stages."""

    def make(*changes: tuple[str, str], more: str = "", **options):
        return run(BenchmarkConfig(suite=suite(*changes, more=more), output=folder / "work", device="cpu", **options))

    return make


def rows(table) -> list[tuple[str, ...]]:
    """The first line of every place."""
    return [tuple(each.lines[0] for each in row) for row in table.rows]


# Several data sets


def test_every_system_on_every_data_set(graph):
    made = graph((ONE, TWO))
    names = [f"{name}, {data}, seed 0" for data in ("toys", "games") for name in ("popularity", "sasrec", "ours")]
    names[3:3], names[7:] = ["tokenizer alone, toys, seed 0"], ["tokenizer alone, games, seed 0"]
    assert [cell.name for cell in made.cells[:8]] == names
    assert [cell.seed for cell in made.cells] == [0] * 8 + [1] * 8, "seed by seed"
    assert {step.label for step in made.cells[1].steps} == {"sasrec, toys, seed 0"}


@pytest.fixture
def graph(graph, folder, files):
    (folder / "games.h5").write_bytes(files["features"].read_bytes() + b"\0")
    return graph


def test_each_data_set_has_steps_of_its_own(graph):
    made = graph((ONE, TWO))
    assert len(made.steps) == 32
    same = graph((ONE, TWO.replace("games.h5", "features.h5")))
    assert len(same.steps) == 16, "the same data under two names are computed on once"


def test_what_is_for_some_data_sets_only(graph, suite):
    with pytest.raises(UsageError, match=r"\[\[tokenizer\]\] 'ids': data is 'toy'.*did you mean 'toys'"):
        load_suite(suite((ONE, TWO), ('name = "ids"', 'name = "ids"\ndata = "toy"')))
    toys, games = ((f'name = "{name}"', f'name = "{name}"\ndata = {data}') for name, data in
                   (("ids", '"toys"'), ("alone", '["games"]')))  # fmt: skip
    cells = {cell.name for cell in graph((ONE, TWO), toys, games).cells if cell.seed == 0}
    assert {name for name in cells if name.startswith(("ours", "tokenizer"))} == {
        "ours, toys, seed 0", "tokenizer alone, games, seed 0",
    }  # fmt: skip


@pytest.mark.slow
def test_the_protocol_is_said(result):
    told = "Full ranking over all items"
    assert f"{told}, split test." in report.summary(result())
    assert f"{told} but those of the history, split test." in report.summary(
        result((ONE, f"exclude_seen = true\n{ONE}"))
    )
    both = result((ONE, f'exclude_seen = "both"\n{ONE}'))
    assert f"{told}, with and without the history's, split test." in report.summary(both)


def test_a_sweeps_rows_say_what_they_lack(result):
    sweep = '[[sweep]]\nname = "W"\nsystem = "sasrec"\noption = "width"\nvalues = [4, 2]\n'
    table = '[[table]]\ntitle = "t"\nrows = "W"\ncolumns = ["recall@5"]\n'
    made = result((ONE, f"exclude_seen = true\n{ONE}"), more=sweep + table)
    (table,) = scores.tables_of(made)
    assert [row[0].lines for row in table.rows] == [("4", "seen items excluded"), ("2", "seen items excluded")]
    ((_, systems),) = made.layouts
    for of in systems[""].values():
        of["recall@5"] = dataclasses.replace(of["recall@5"], values=of["recall@5"].values[:1])
    (table,) = scores.tables_of(made)
    assert [row[0].lines[1] for row in table.rows] == ["1 of 2 seeds, seen items excluded"] * 2


@pytest.mark.slow
def test_results_of_two_data_sets(result, folder):
    made = result((ONE, TWO), report=folder / "page.html")
    said = json.loads(json.dumps(made.to_json()))
    assert said["systems"].keys() == said["data"].keys() == {"toys", "games"}
    assert said["systems"]["games"]["sasrec"]["recall@5"]["values"] == pytest.approx([2 / 3, 2 / 3])
    assert [table.title for table in scores.tables_of(made)] == ["Test results, toys", "Test results, games"]
    assert scores.headline(made).count("Highest test NDCG@10 on ") == 2
    assert "30 users and 12 items of toys; 30 users and 12 items of games" in report.summary(made)
    made.data["toys"] |= {"evaluated": 20, "targets": 20}
    made.data["games"] |= {"evaluated": 20, "targets": 45}
    said = (
        "30 users and 12 items of toys, 20 of them evaluated; 30 users and 12 items of games, 20 of them evaluated on "
    )
    assert f"{said}45 targets. Full ranking" in report.summary(made)
    assert tables.data_table(made).columns == ("what", "toys", "games")
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "Scores, toys" in page
    assert [line for row in costs_table(made).rows for line in row[0].lines if row[0].lines[0] == "sasrec"] == [
        "sasrec", "toys", "sasrec", "games",
    ]  # fmt: skip


def test_data_sets_need_names(suite):
    with pytest.raises(UsageError, match=r"\[\[data\]\] number 2 has no name"):
        load_suite(suite((ONE, TWO.replace('name = "games"\n', ""))))


# Sweeps


def test_a_sweep_of_a_tokenizer_with_a_system(graph):
    made = graph(('[[system]]\nname = "popularity"', f'{SWEEP}[[system]]\nname = "popularity"'))
    cells = {cell.name: cell for cell in made.cells}
    for levels in (1, 2, 3):
        cell = cells[f"ours, levels={levels}, seed 0"]
        assert (cell.tokenizer, cell.step("train").config.model) == (f"ids, levels={levels}", "tiger")
        assert cell.step("tokenize").config.options["levels"] == levels
    assert cells["ours, levels=2, seed 0"].last.key == cells["ours, seed 0"].last.key, "what is the same runs once"
    assert "tokenizer ids, levels=1, seed 0" not in cells


@pytest.mark.parametrize(
    ("sweep", "where"),
    [
        ('tokenizer = "ids"\noption = "codebook-size"\nvalues = [4, 8]',
         lambda cells: [method_of(cells[f"tokenizer ids, codebook_size={n}, seed 1"].last.config).codebook_size
                        for n in (4, 8)]),
        ('system = "sasrec"\noption = "layers"\nvalues = [4, 8]',
         lambda cells: [method_of(cells[f"sasrec, layers={n}, seed 1"].step("train").config).layers for n in (4, 8)]),
        ('system = "sasrec"\noption = "evaluate.beam"\nvalues = [4, 8]',
         lambda cells: [cells[f"sasrec, evaluate.beam={n}, seed 1"].last.config.beam for n in (4, 8)]),
    ],
    ids=["tokenizer", "system", "evaluate"],
)  # fmt: skip
def test_sweeps_of_one_thing(graph, sweep, where):
    made = graph(
        ('[[system]]\nname = "popularity"', f'[[sweep]]\nname = "x"\n{sweep}\n[[system]]\nname = "popularity"')
    )
    assert where({cell.name: cell for cell in made.cells}) == [4, 8]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('tokenizer = "ids"', 'tokenizer = "idz"', "tokenizer is 'idz'; known: 'ids', 'alone' (did you mean 'ids'?)"),
        ('tokenizer = "ids"\nsystem = "ours"\n', "", "needs a tokenizer or a system, an option and a list of values"),
        ("values = [1, 2, 3]", "values = 3", "needs a tokenizer or a system, an option and a list of values"),
        ("values = [1, 2, 3]", "values = [0]", "[[tokenizer]] 'ids, levels=0': --levels is 0"),
        ('option = "levels"', 'option = "levles"', "did you mean 'levels'"),
        ('name = "levels"', 'name = "ours"', "a tokenizer or system has that name already"),
        ('name = "levels"', 'name = "levels"\nvalue = 3', "did you mean 'values'"),
    ],
)
def test_sweeps_that_do_not_fit(suite, old, new, says):
    assert old in SWEEP
    with pytest.raises(UsageError) as caught:
        load_suite(suite(more=SWEEP.replace(old, new)))
    assert says in caught.value.message


def test_two_sweeps_that_would_give_one_name_to_two_systems(suite):
    """The table of one would show the numbers of the other."""
    epochs = SWEEP.replace("levels", "epochs")
    both = epochs + epochs.replace('name = "epochs"\ntokenizer = "ids"\n', 'name = "more"\n')
    with pytest.raises(UsageError, match=r"'more': there is another system of the name 'ours, epochs=1'"):
        load_suite(suite(more=both))
    load_suite(suite(more=epochs + epochs.replace('name = "epochs"', 'name = "again"')))


# Options of evaluate, recipes


def test_two_evaluations_of_one_training(graph):
    wide = '[[system]]\nname = "wide"\nmodel = "tiger"\ntokenizer = "ids"\nevaluate = { beam = 100 }\n'
    made = graph(
        ('[[system]]\nname = "sasrec"', f'{wide}[[system]]\nname = "sasrec"'),
        ("[data]", "[evaluate]\nbatch_size = 16\n[data]"),
    )
    cells = {cell.name: cell for cell in made.cells}
    ours, other = cells["ours, seed 0"], cells["wide, seed 0"]
    assert other.step("train") == ours.step("train")
    assert other.last.key != ours.last.key
    assert [(each.last.config.beam, each.last.config.batch_size) for each in (ours, other)] == [(None, 16), (100, 16)]


def test_seen_items_left_out(graph):
    """In the evaluation and in the validation of the training."""
    made = graph(("seeds", "exclude_seen = true\nseeds"))
    for cell in (each for each in made.cells if each.system):
        assert [step.config.exclude_seen for step in cell.own if step.stage in ("train", "evaluate")] == [True, True]


def test_both_protocols(graph, result):
    """One training, two evaluations, the metrics of both side by side; published numbers where they belong."""
    made = graph(("seeds", 'exclude_seen = "both"\nseeds'))
    for cell in (each for each in made.cells if each.system):
        assert [step.config.exclude_seen for step in cell.evaluations] == [False, True]
        assert not cell.step("train").config.exclude_seen
    more = PUBLISHED + '[[table]]\ntitle = "Both"\ncolumns = ["ndcg@10", "ndcg@10-unseen", "mrr@5"]\n'
    found = result(more=more)
    (table,) = scores.tables_of(found)
    assert [str(each) for each in table.columns] == ["system", "NDCG@10", "NDCG@10 unseen", "MRR@5"]
    assert [row[0].lines[0] for row in table.rows] == ["popularity", "sasrec", "sasrec", "ours"]
    assert rows(table)[2] == ("sasrec", "–", "0.0567", "–")
    assert rows(table)[0][3] == "0.2500 ± 0.0000", "rank 4 for everybody"
    assert "unseen: items of the history left out" in table.note
    assert scores.headline(found).startswith("Highest test NDCG@10: ")
    assert {"ndcg@10", "ndcg@10-unseen"} <= found.systems[""]["sasrec"].keys()
    assert found.cells[0]["exclude_seen"] == [False, True]


def test_keys_with_either_dash(suite):
    assert load_suite(suite(("seeds", 'exclude-seen = "both"\nseeds'))).exclude_seen == (False, True)
    for where, twice in (("seeds", "exclude-seen = true\nexclude_seen = true"), ("width", "top-k = 1\ntop_k = 2")):
        path = suite((where, f"{twice}\n{where}"))
        with pytest.raises(UsageError, match="are one key"):
            load_suite(path)


def test_a_protocol_that_is_none(suite):
    with pytest.raises(UsageError, match="exclude-seen is 'maybe'"):
        load_suite(suite(("seeds", 'exclude_seen = "maybe"\nseeds')))


def test_an_option_of_evaluate_that_is_none(suite):
    with pytest.raises(UsageError, match=r"\[\[system\]\] 'sasrec', evaluate: unknown option 'baem'.*'beam'"):
        load_suite(suite(("width = 8", "width = 8\nevaluate = { baem = 3 }")))
    with pytest.raises(UsageError, match="evaluate: k is set by the benchmark"):
        load_suite(suite(("width = 8", "width = 8\nevaluate = { k = [3] }")))


def test_recipes_are_as_on_the_command_line(suite, graph):
    """Their options, less those that the table has; the name alone changes no key."""
    text = suite(('method = "rqvae"\ncodebook_size = 4\nlevels = 2', 'recipe = "tiger"\nlevels = 2'),
                 ('model = "tiger"', 'recipe = "tiger"'))  # fmt: skip
    made = load_suite(text)
    config = made.tokenizers["ids"].config
    options = method_of(config)
    assert (config.method, config.on_collision, options.levels, options.restart_dead_codes) == (
        "rqvae",
        "suffix",
        2,
        False,
    )
    assert made.systems[2].config.model == "tiger"
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in recipe("tiger", "train").items())
    suffix = ("levels = 2", 'levels = 2\non_collision = "suffix"')
    spelled = graph(suffix, ("width = 8", "width = 8\nepochs = 2"), ('model = "tiger"', settings))
    named = graph(suffix, ('model = "tiger"', 'recipe = "tiger"'))
    assert spelled.cells[2].last.key == named.cells[2].last.key
    with pytest.raises(UsageError, match=r"\[\[tokenizer\]\] 'ids': --recipe is 'tigre'.*did you mean 'tiger'"):
        load_suite(suite(("levels = 2", 'recipe = "tigre"')))


# Published numbers and tables


def test_published_numbers_stand_beside_ours(result):
    made = result(more=PUBLISHED)
    (table,) = scores.tables_of(made)
    assert [row[0].lines for row in table.rows] == [
        ("popularity", "popularity, seen items kept"),
        ("sasrec", "sasrec, seen items kept, behind popularity in NDCG@10"),
        ("sasrec", "published: Somebody 2024, Table 2", "seen items excluded"),
        ("ours", "tiger on ids, seen items kept"),
        ("VQ-Rec", "published: Somebody 2024, Table 3", "seen items: not said"),
    ]
    assert rows(table)[2] == ("sasrec", "0.1234", "–", "–", "0.0567")
    assert rows(table)[4] == ("VQ-Rec", "–", "0.2000", "–", "–")
    assert not any(each.best for row in (table.rows[2], table.rows[4]) for each in row)
    (brief,) = scores.tables_of(made, brief=True)
    assert brief.rows[2][0].lines == ("sasrec", "published, seen items excluded"), "ours keep them"
    assert made.to_json()["published"][0]["source"] == "Somebody 2024, Table 2"


@pytest.mark.slow
def test_published_numbers_of_both_protocols(result):
    """Of one table of a paper: in the same columns they have a row each, in columns of their own one row."""
    other = PUBLISHED.replace("exclude_seen = true", "exclude_seen = false").replace("0.1234", "0.0999")
    more = PUBLISHED + other.split('[[published]]\nsystem = "VQ-Rec"')[0]
    (table,) = scores.tables_of(result(more=more))
    found = {row[0].lines[-1]: tuple(each.lines[0] for each in row) for row in table.rows[2:4]}
    assert found == {
        "seen items excluded": ("sasrec", "0.1234", "–", "–", "0.0567"),
        "seen items kept": ("sasrec", "0.0999", "–", "–", "0.0567"),
    }
    (table,) = scores.tables_of(result(("seeds", 'exclude_seen = "both"\nseeds'), more=more))
    (row,) = (row for row in table.rows if "published: Somebody 2024, Table 2" in row[0].lines)
    assert row[0].lines[-1] == "seen items excluded, seen items kept"
    assert [each.lines[0] for each in row].count("–") == 4


def test_who_is_behind_a_model_without_training(result):
    """popularity's NDCG@10 is 0.43, sasrec's 0.42, ours 0.5."""
    (table,) = scores.tables_of(result())
    about = [row[0].lines[1] for row in table.rows if len(row[0].lines) > 1]
    assert about == ["sasrec, behind popularity in NDCG@10", "tiger on ids"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"recall@5" = 0.1234', '"recall@50" = 0.1', "metrics is 'recall@50'; known: 'recall@5'"),
        ('"recall@5" = 0.1234', '"recall@5" = "a"', "recall@5 is 'a'; a number is needed"),
        ("exclude_seen = true", 'exclude_seen = "maybe"', 'true, false or "not said" is needed'),
        ('source = "Somebody 2024, Table 2"', "", "source is None; a text is needed"),
        ("exclude_seen = true", 'data = "toys"', "data is 'toys'"),
        ("exclude_seen = true", "data = []", "data is []"),
    ],
)
def test_published_numbers_that_do_not_fit(suite, old, new, says):
    assert old in PUBLISHED
    with pytest.raises(UsageError) as caught:
        load_suite(suite(more=PUBLISHED.replace(old, new, 1)))
    assert says in caught.value.message


def test_a_published_number_that_stands_there_twice(suite):
    twice = PUBLISHED + PUBLISHED.split("[[published]]")[1].join(["[[published]]", ""])
    with pytest.raises(UsageError, match="ndcg@10 of sasrec in 'Somebody 2024, Table 2' stands there twice"):
        load_suite(suite(more=twice))


@pytest.mark.parametrize("where", ["system", "tokenizer"])
def test_no_data_set_at_all(suite, where):
    """It would run nowhere, and nothing would be said of it."""
    name = {"system": 'name = "popularity"', "tokenizer": 'name = "ids"'}[where]
    with pytest.raises(UsageError, match=r"data is \[\]"):
        load_suite(suite((ONE, TWO), (name, f"{name}\ndata = []")))


def test_a_table_as_data(result, folder):
    made = result(more=TABLE, report=folder / "page.md")
    (table,) = scores.tables_of(made)
    assert (table.title, table.columns) == ("Mine", ("system", "Recall@10", "ms per user"))
    assert rows(table) == [("ours", "0.5000 ± 0.0000", "1 ± 0"), ("popularity", "1.0000 ± 0.0000", "1 ± 0")]
    page = (folder / "page.md").read_text(encoding="utf-8")
    titles = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert titles == ["Mine", "Time and memory", "Data", "Where the numbers come from", "The suite"], (
        "in place of the usual ones"
    )


def test_the_best_and_the_tests_are_among_the_systems_of_the_table(result):
    made = result(more=TABLE.replace("popularity", "sasrec"))
    (table,) = scores.tables_of(made)
    ours, sasrec = (row[1] for row in table.rows)
    assert (ours.best, sasrec.best) == (False, True), "popularity, which is better, is in no row"
    assert sasrec.lines[-1].endswith("vs ours"), "of two systems, the better one has the test"
    assert len(ours.lines) == len(sasrec.lines) - 2
    assert sasrec.lines[2] == "▲ +33.3% on ours", "2/3 to 1/2"
    assert made.systems[""]["ours"]["recall@10"].against == "popularity"


@pytest.mark.slow
def test_a_table_over_data_sets(result):
    more = TABLE.replace('"ms_per_user"', '"colliding_items"')
    (table,) = scores.tables_of(result((ONE, TWO), ("seeds = [0, 1]", "seeds = [0]"), more=more))
    assert table.columns == (
        "system", "toys: Recall@10", "toys: colliding items", "games: Recall@10", "games: colliding items",
    )  # fmt: skip
    assert rows(table) == [("ours", "0.5000", "0", "0.5000", "0"), ("popularity", "1.0000", "–", "1.0000", "–")]
    (one,) = scores.tables_of(result((ONE, TWO), more=f'{TABLE}data = "games"\n'))
    assert one.columns == ("system", "Recall@10", "ms per user")


@pytest.mark.slow
def test_a_table_of_a_sweep(result):
    more = SWEEP + '[[table]]\ntitle = "Levels"\nrows = "levels"\ncolumns = ["ndcg@10", "distinct", "train_seconds"]\n'
    (table,) = scores.tables_of(result(more=more))
    assert table.columns == ("levels", "NDCG@10", "distinct IDs", "train, s")
    assert [row[:3] for row in rows(table)] == [(n, "0.5000 ± 0.0000", "12.0 ± 0.0") for n in ("1", "2", "3")]


SWEEPS = "".join(
    f'[[sweep]]\nname = "{name}"\nsystem = "{system}"\noption = "{option}"\nvalues = {values}\n'
    for name, system, option, values in (("W", "sasrec", "width", [4, 8]), ("L", "ours", "layers", [1, 8]))
)
OF_SWEEPS = '[[table]]\ntitle = "Both"\nrows = ["W", "L"]\ncolumns = ["ndcg@10"]\n'


def test_a_table_of_two_sweeps_names_the_systems(suite):
    names = ("sasrec, width=4", "sasrec, width=8", "ours, layers=1", "ours, layers=8")
    for claim, row in ((names[1], names[1]), ("4", names[0]), ("", "")):
        (layout,) = load_suite(suite(more=f'{SWEEPS}{OF_SWEEPS}claim = "{claim}"\n')).layouts
        assert layout.rows == tuple(zip(names, names, strict=True))
        assert (layout.head, layout.sweep, layout.claim) == ("system", False, row)


def test_a_claim_that_several_rows_fit(suite):
    with pytest.raises(UsageError, match="claim is '8', a value of several rows") as caught:
        load_suite(suite(more=f'{SWEEPS}{OF_SWEEPS}claim = "8"\n'))
    assert caught.value.hint == 'one of "sasrec, width=8", "ours, layers=8"'


def test_a_table_of_tokenizers(result):
    more = (
        '[[table]]\ntitle = "IDs"\nrows = "tokenizers"\ncolumns = ["colliding_items", "colliding_reported", "usage"]\n'
    )
    made = result(('name = "alone"', 'name = "alone"\nreported = 466'), ("seeds = [0, 1]", "seeds = [0]"), more=more)
    (table,) = scores.tables_of(made)
    assert table.columns[0] == "tokenizer"
    assert [row[:3] for row in rows(table)] == [("ids", "0", "–"), ("alone", "0", "466")]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('title = "Mine"', "", "[[table]] number 1 needs a title and columns"),
        ('"ours"', '"theirs"', "rows is 'theirs'; known: 'ids', 'alone', 'popularity'"),
        ('"ms_per_user"', '"ms_per_usr"', "(did you mean 'ms_per_user'?)"),
        ('"recall@10"', '"recall@20"', "columns is 'recall@20'"),
        ("columns", 'data = "toys"\ncolumns', "data is 'toys'"),
        ("columns", "cloumns = 3\ncolumns", "did you mean 'columns'"),
    ],
)
def test_tables_that_do_not_fit(suite, old, new, says):
    assert old in TABLE
    with pytest.raises(UsageError) as caught:
        load_suite(suite(more=TABLE.replace(old, new, 1)))
    assert says in caught.value.message
