"""Numbers of others from published.toml beside ours: only where data and protocol are theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bbqrec_cli.benchmark import published, scores
from bbqrec_cli.benchmark.layouts import COLUMNS
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.errors import UsageError

TINY = """
[sources]
bbqrec = "The paper"
other = "Somebody 2024"
[data]
beauty = { users = 30, items = 12, interactions = %d }
[[published]]
system = "sasrec"
source = "bbqrec"
place = "Table 2"
exclude_seen = "not said"
data.beauty = { "recall@10" = 0.25, "recall@50" = 0.9 }
[[published]]
system = "sasrec"
source = "other"
exclude_seen = true
data.beauty = { "recall@10" = 0.5 }
[[published]]
system = "sasrec"
source = "other"
place = "cross-entropy"
exclude_seen = false
data.beauty = { "recall@10" = 0.375 }
[[published]]
system = "alone"
source = "bbqrec"
exclude_seen = "not said"
data.beauty = { "colliding_items" = 1234 }
"""


@pytest.fixture
def result(folder, fake, catalogue, monkeypatch):
    """The tiny suite with a book of its own. interactions: those that the book speaks of."""

    def make(*changes: tuple[str, str], more: str = "", interactions: int = len(catalogue.sequences.items), **options):
        (folder / "book.toml").write_text(TINY % interactions)
        monkeypatch.setattr(published, "FILE", folder / "book.toml")
        for each in (published._values, published.known_data):
            each.cache_clear()
        text = (folder / "suite.toml").read_text().replace("[data]", '[data]\npublished = "beauty"')
        for old, new in changes:
            text = text.replace(old, new)
        (folder / "changed.toml").write_text(text + more)
        return run(BenchmarkConfig(suite=str(folder / "changed.toml"), output=folder / "work", device="cpu", **options))

    yield make
    monkeypatch.undo()
    for each in (published._values, published.known_data):
        each.cache_clear()


def cell(made, system: str, column: str):
    (table,) = scores.tables_of(made)
    place = [str(each) for each in table.columns].index(column)
    return next(row[place] for row in table.rows if row[0].lines[0] == system), table


def test_the_papers_number_and_the_best_other_one_stand_in_the_cell(result, folder):
    made = result(report=folder / "page.html")
    shown, table = cell(made, "sasrec", "Recall@10")
    assert shown.lines[-2:] == ("paper 0.2500°", "others 0.3750")
    assert "paper: The paper, Table 2, seen items: not said" in shown.title
    assert "others: Somebody 2024, cross-entropy, seen items kept" in shown.title
    assert re.match(r"seed 0: sasrec-seed-0-\w{16}\.metrics\.h5, bbqrec ", shown.title)
    assert "seed 1: sasrec-seed-1-" in shown.title
    assert "° does not say whether seen items were in the ranking" in table.note
    assert "Somebody 2024, cross-entropy)" in table.note
    assert 'title="seed 0: sasrec-seed-0-' in (folder / "page.html").read_text(encoding="utf-8")
    assert not any("0.5" in line for line in shown.lines[-2:]), "that one is of the other protocol"
    assert "paper" not in "".join(cell(made, "popularity", "Recall@10")[0].lines)


def test_both_protocols(result):
    shown, _ = cell(result(("seeds", 'exclude_seen = "both"\nseeds')), "sasrec", "Recall@10 unseen")
    assert shown.lines[-1] == "others 0.5000"


def test_collisions(result):
    more = '[[table]]\ntitle = "IDs"\nrows = "tokenizers"\ncolumns = ["colliding_items"]\n'
    shown, table = cell(result(more=more), "alone", "colliding items")
    assert shown.lines[-1] == "paper 1,234"
    assert table.note.endswith("paper: what the BBQRec paper reports.")


def test_other_data_of_the_same_name(result, catalogue, folder):
    made = result(interactions=7, report=folder / "page.md")
    here = len(catalogue.sequences.items)
    said = f"Numbers published for beauty are left out: this data set has {here:,} interactions, that 7 interactions."
    assert made.notes == (said,)
    assert "paper" not in "".join(cell(made, "sasrec", "Recall@10")[0].lines)
    assert said in (folder / "page.md").read_text(encoding="utf-8")


def test_another_split_than_the_reported_one(result):
    made = result(("[data]", 'split = "validation"\n[data]'))
    assert made.notes == (
        "Metrics published for beauty are left out: they are of each user's last item, and this is split validation.",
    )
    assert "others" not in "".join(cell(made, "sasrec", "Recall@10")[0].lines)


def test_collisions_depend_on_no_target(result):
    more = '[[table]]\ntitle = "IDs"\nrows = "tokenizers"\ncolumns = ["colliding_items"]\n'
    made = result(("[data]", 'split = "validation"\n[data]'), more=more)
    assert cell(made, "alone", "colliding items")[0].lines[-1] == "paper 1,234"


def test_data_that_nobody_reports_for(folder):
    text = (folder / "suite.toml").read_text().replace("[data]", '[data]\npublished = "beuty"')
    (folder / "suite.toml").write_text(text)
    with pytest.raises(UsageError, match=r"published is 'beuty'.*did you mean 'beauty'"):
        load_suite(str(folder / "suite.toml"))


def test_the_book_itself():
    """Every number has a source and a place where a suite can show it, and the paper's are the paper's."""
    values = published._values()
    for each in values["published"]:
        assert each["source"] in values["sources"]
        assert each["exclude_seen"] in (True, False, "not said")
        assert set(each["data"]) <= set(values["data"])
        for numbers in each["data"].values():
            for name, value in numbers.items():
                assert (name in COLUMNS and isinstance(value, int)) or (re.match(r"(recall|ndcg)@(5|10)$", name))
                assert name in COLUMNS or 0 < value < 0.2
    of = {(each["system"], each["source"], each.get("place")): each["data"] for each in values["published"]}
    assert of["BBQRec", "bbqrec", "Table 2"]["toys"] == {
        "recall@5": 0.0968, "recall@10": 0.1299, "ndcg@5": 0.0693, "ndcg@10": 0.0800,
    }  # fmt: skip
    assert of["BBQRec ¬Rec", "bbqrec", "Table 3"]["beauty"]["recall@10"] == 0.1061
    assert of["RQ-VAE L=2", "bbqrec", "Table 5"]["clothing"] == {"colliding_items": 6014}
    assert len([each for each in values["published"] if each.get("place") == "Table 2"]) == 11
    assert Path(published.FILE).name == "published.toml"
