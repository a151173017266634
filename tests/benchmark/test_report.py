from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bbqrec_cli.benchmark import scores, tables
from bbqrec_cli.benchmark.plots import cost_bars, epoch_panels, score_bars
from bbqrec_cli.benchmark.report import write_report
from bbqrec_cli.benchmark.result import Score
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.errors import DataError, OutputExistsError, UsageError
from bbqrec_cli.pages import provenance
from bbqrec_cli.pages.page import check_page, fence, markdown

VOID = {"meta", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """What a page holds. tables: heading -> rows of cells' texts; bold: the texts in <strong>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self.bold: list[str] = []
        self._open: list[str] = []
        self._heading = ""
        self.feed(text)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "h2":
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self._open and self._open[-1] == "h2":
            self._heading += data
        if self._open and self._open[-1] == "strong":
            self.bold.append(data)
        if {"td", "th"} & set(self._open):
            self.tables[self._heading][-1][-1] += data + {"small": " ", "a": ""}.get(self._open[-1], "\n")


@pytest.fixture
def result(folder, fake):
    """The suite on the fake stages, all done."""

    def make(*changes: tuple[str, str], **options):
        text = (folder / "suite.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "suite.toml").write_text(text)
        config = BenchmarkConfig(suite=str(folder / "suite.toml"), output=folder / "work", device="cpu", **options)
        return run(config)

    return make


def html_of(result, folder: Path) -> Page:
    write_report(folder / "page.html", result, force=True)
    return Page((folder / "page.html").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.drawn
def test_the_page_needs_nothing_from_outside(result, folder):
    write_report(folder / "page.html", result())
    text = (folder / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "video", "base"}, tag
        assert tag != "script" or not attributes, "its own, written out"
        for name, value in attributes.items():
            if name in ("href", "xlink:href", "src", "srcset", "data", "action", "poster"):
                assert value.startswith("#"), (tag, name, value)
            assert not name.startswith("on"), (tag, name)
    assert not re.search(r"@import|url\((?!#)", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {
        value[1:] for _, attributes in page.tags for name, value in attributes.items() if name.endswith("href")
    }
    assert references <= set(ids)
    names = {value for _, attributes in page.tags for name, value in attributes.items() if name.startswith("xmlns")}
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= names, "only the names of SVG's vocabularies, which nobody fetches"
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"; script-src 'sha256-{allowed}'; " in policy


def test_what_a_paper_reports_stands_beside(result, folder):
    page = html_of(
        result(('name = "alone"', 'name = "alone"\nreported = 466'), ("seeds = [0, 1]", "seeds = [0]")), folder
    )
    head, *rows = ([cell.strip() for cell in row] for row in page.tables["Semantic IDs"])
    place = head.index("in its paper")
    assert {row[0].split("\n")[0]: row[place] for row in rows} == {"ids": "–", "alone": "466"}
    assert head[place - 1] == "colliding items"
    assert "Semantic IDs over seeds" not in page.tables, "there is one seed"


def test_what_the_page_says(result, folder):
    page = html_of(result(), folder)
    head, *rows = page.tables["Test results"]
    assert [cell.strip() for cell in head] == ["system", "Recall@5", "Recall@10", "NDCG@5", "NDCG@10"]
    assert [row[0].split("\n")[0] for row in rows] == ["popularity", "sasrec", "ours"]
    # popularity: everybody's target at rank 4. sasrec: at 2 for two thirds. ours: at 1 for one half.
    assert rows[0][1].startswith("1.0000 ± 0.0000\n[1.0000, 1.0000]")
    assert rows[1][1].startswith("0.6667 ± 0.0000\n")
    assert rows[2][4].startswith("0.5000 ± 0.0000\n")
    assert "vs popularity" in rows[1][1]
    assert "vs sasrec" in rows[0][1]
    assert [bold.strip() for bold in page.bold] == [
        "1.0000 ± 0.0000", "1.0000 ± 0.0000", "0.5000 ± 0.0000", "0.5000 ± 0.0000",
    ]  # fmt: skip
    ids = {
        (row[0].split("\n")[0], row[1].strip()): [cell.strip() for cell in row]
        for row in page.tables["Semantic IDs"][1:]
    }
    assert ids.keys() == {("ids", "0"), ("ids", "1"), ("alone", "0"), ("alone", "1")}
    assert ids["ids", "0"][2:6] == ["2", "id, text", "4", "12"]
    assert "in its paper" not in [cell.strip() for cell in page.tables["Semantic IDs"][0]]
    over = {row[0].split("\n")[0]: [cell.strip() for cell in row[1:]] for row in page.tables["Semantic IDs over seeds"]}
    assert over["ids"][:2] == ["2", "0.0 ± 0.0"]
    assert over["ids"][2] == "–", "not known"
    assert over["ids"][4] == "0.3000 ± 0.0000"
    costs = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in page.tables["Time and memory"][1:]}
    assert list(costs) == ["popularity", "sasrec", "ours", "alone"]
    assert costs["sasrec"][2] == "1 of 2"
    assert costs["sasrec"][5] == "1 ± 0", "0.03 s for 30 users"
    assert (costs["alone"][1], costs["alone"][5]) == ("", ""), "a tokenizer alone"
    data = {row[0].strip(): row[1].strip() for row in page.tables["Data"][1:]}
    assert (data["users"], data["items"]) == ("30", "12")
    assert len(data["SHA-256 of ids and sequences"]) == len(data["SHA-256 of features.h5"]) == 64
    origin = {row[0].strip(): row[1].strip() for row in page.tables["Where the numbers come from"][1:]}
    assert (origin["steps"], origin["device"]) == ("16", "cpu")
    assert "Not done" not in page.tables
    plots = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert plots[::2] == [
        "Scores with 95% intervals", "Validation by epoch, plot", "Training loss by epoch, plot",
        "Time and memory, plot",
    ]  # fmt: skip
    assert plots[1::2] == [f"{title}, narrow" for title in plots[::2]], "one for wide screens, one for narrow ones"
    assert 'name = "tiny"' in "".join(page.texts)


def test_failures_and_cells_left_are_on_the_page(result, folder, fake):
    def fail(stage, config):
        if stage == "train" and config.model == "sasrec":
            raise DataError("the loss is nan & <bad>")

    fake.before = fail
    page = html_of(result(), folder)
    assert [[cell.strip() for cell in row] for row in page.tables["Not done"][1:]] == [
        [f"sasrec, seed {seed}", "failed", f"train sasrec, seed {seed}: the loss is nan & <bad>"] for seed in (0, 1)
    ]  # fmt: skip
    assert "2 cells failed" in page.texts
    assert len(page.tables["Test results"]) == 3


@pytest.mark.slow
@pytest.mark.drawn
def test_odd_names_stay_names(result, folder):
    odd = '<b>_x<br> | *y* `z` $1$ & "q" 商'
    made = result(('name = "sasrec"', f"name = '{odd}'\nmodel = 'sasrec'"), ("width = 8", "width = 8 # <script>"))
    page = html_of(made, folder)
    assert page.tables["Test results"][2][0].startswith(odd)
    write_report(folder / "page.md", made)
    text = (folder / "page.md").read_text(encoding="utf-8")
    assert r"\<b\>\_x\<br\> \| \*y\* \`z\` $1$ \& " in text
    same_tables(text, page)


def same_tables(text: str, page: Page) -> None:
    """Every table of a Markdown text holds what that of the HTML page holds, cell by cell."""
    found = re.findall(r"^## (.+)\n\n((?:\|.*\n)+)", text, flags=re.M)
    assert [title for title, _ in found] == list(page.tables)
    for title, table in found:
        heading, rule, *rows = table.splitlines()
        assert set(rule) <= set("|-: ")
        for line, cells in zip([heading, *rows], page.tables[title], strict=True):
            shown = [each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]]
            plain = [re.sub(r"(?<!\\)\*\*", "", each).replace("<br>", " ") for each in shown]
            assert [re.sub(r"\\(.)", r"\1", each).split() for each in plain] == [cell.split() for cell in cells], title


def test_markdown_says_the_same(result, folder):
    made = result(report=folder / "page.md")
    text = (folder / "page.md").read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first.startswith("<!-- Generated by `bbqrec benchmark ")
    assert first.endswith("Do not edit: run it again. -->")
    assert first.count("--") == 2, "two dashes would end the comment"
    assert f"bbqrec benchmark {folder / 'suite.toml'} -o {folder / 'work'} --report {folder / 'page.md'}" in text
    page = html_of(made, folder)
    same_tables(text, page)
    assert "**0.5000 ± 0.0000**" in text
    assert text.rstrip().endswith('tokenizer = "ids"\n```')
    assert "<svg" not in text


def test_the_suites_text_can_hold_fences():
    assert fence("plain") == "```"
    assert fence("a ```` b") == "`````"
    assert markdown("a|b\n c_d") == r"a\|b c\_d"


def test_pages_that_can_not_be_written(tmp_path):
    for name in ("page.pdf", "page", "html"):
        with pytest.raises(UsageError, match=r"ends in \.html or \.md"):
            check_page(tmp_path / name, force=True)
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(OutputExistsError) as caught:
        check_page(tmp_path / "page.html", force=False)
    assert "--report" in caught.value.hint
    check_page(tmp_path / "page.html", force=True)
    with pytest.raises(DataError, match="does not exist"):
        check_page(tmp_path / "none" / "page.md", force=False)


def score(mean: float, **more) -> Score:
    return Score(**({"values": [mean], "mean": mean, "sd": None, "low": mean - 0.1, "high": mean + 0.1} | more))


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        (score(0.5), ("0.5000", "[0.4000, 0.6000]")),
        (score(0.5, sd=0.00126), ("0.5000 ± 0.0013", "[0.4000, 0.6000]")),
        (score(0.5, against="b", p_t=0.00021, p_wilcoxon=0.0514),
         ("0.5000", "[0.4000, 0.6000]", "p <.001 / .051 vs b")),
        (score(0.5, against="b"), ("0.5000", "[0.4000, 0.6000]")),
        (score(0.5, against="b", p_t=0.01, p_wilcoxon=0.0001, holm_t=0.03, holm_wilcoxon=0.0003),
         ("0.5000", "[0.4000, 0.6000]", "p .010 / <.001 vs b", "Holm .030 / <.001")),
        (score(0.5, against="b", p_t=0.0001, p_wilcoxon=0.0001, holm_t=0.0003, holm_wilcoxon=0.0003),
         ("0.5000", "[0.4000, 0.6000]", "p <.001 / <.001 vs b")),
    ],
)  # fmt: skip
def test_a_score_in_lines(made, lines):
    assert scores.score_lines(made, False) == lines


@pytest.mark.parametrize(
    ("p", "difference", "mark"),
    [(0.049, 0.04, "▲ +8.7% on b"), (0.051, 0.04, "+8.7% on b"), (0.049, -0.01, "+8.7% on b")],
)
def test_a_lead_is_marked_where_it_is_significant(p, difference, mark):
    made = score(
        0.5,
        against="b",
        lead=0.04,
        gain=0.0867,
        difference=difference,
        p_t=0.01,
        p_wilcoxon=0.01,
        holm_t=p,
        holm_wilcoxon=0.9,
    )
    assert scores.score_lines(made, False, best=True)[2] == mark


@pytest.mark.parametrize(
    ("value", "least", "text"),
    [(None, False, "–"), (0.04, False, "0.0"), (12.34, True, "≥ 12.3"), (1234.5, False, "1,234")],
)
def test_seconds(value, least, text):
    assert tables.seconds(value, least) == text


def test_several_origins_are_told_apart():
    runs = [{"commit": "a", "device": "cpu", "steps": 1}, {"commit": "b", "device": "cpu", "steps": 3}]
    assert provenance.several(runs, lambda run: run["device"]).lines == ("cpu",)
    assert provenance.several(runs, lambda run: run["commit"]).lines == ("b (3 steps)", "a (1 step)")


def test_the_headline(result):
    made = result()
    assert scores.headline(made) == (
        "Highest test NDCG@10: ours, 0.5000 ± 0.0000; next popularity, 0.4307 ± 0.0000 (paired t-test: p "
        + f"{scores.p_text(made.systems['']['ours']['ndcg@10'].p_t)})."
    )


def test_a_headline_says_what_the_correction_makes_of_it(result):
    made = result()
    (systems,) = made.systems.values()
    ours = dataclasses.replace(systems["ours"]["ndcg@10"], p_t=0.048, holm_t=0.096)
    changed = {**systems, "ours": {**systems["ours"], "ndcg@10": ours}}
    assert scores.headline_of(changed, "ndcg@10", "test").endswith("(paired t-test: p .048, corrected .096).")


def test_a_lead_over_nothing_is_shown(result):
    best = dataclasses.replace(result().systems[""]["ours"]["ndcg@10"], against="b", gain=None, lead=0.15, holm_t=1e-4)
    assert any(line.endswith("+0.1500 on b") for line in scores.score_lines(best, brief=False, best=True))


@pytest.mark.slow
@pytest.mark.drawn
def test_plots_of_any_number_of_systems():
    systems = {f"system {n} {'x' * 40}": {"recall@5": score(0.1 * n), "ndcg@5": score(0.05)} for n in range(12)}
    bars = score_bars(systems, ["recall@5", "ndcg@5"] * 3)
    points = [(epoch, 0.1 * epoch) for epoch in range(1, 4)]
    lines = epoch_panels({f"_{n}": [points, points] for n in range(12)}, "loss", title="Loss", best=True)
    costs = cost_bars({"training, s": {f"_{n}": 3.0**n for n in range(12)}, "ms per user": {"_0": 0.5, "other": 2}})
    for plot in (bars, lines, costs):
        assert plot.count("<svg ") == plot.count('role="img"') == 2, "one for wide screens, one for narrow ones"
        assert "<metadata" not in plot
        assert "var(--ink, #333333)" in plot, "colours are the page's"
    assert score_bars(systems, ["recall@5", "ndcg@5"] * 3) == bars, "the same numbers make the same plot"
    assert "<svg " in epoch_panels({"one": [[(1, 0.5)]]}, "loss", title="One epoch", shared=True)
