"""What stands in somebody's file never steers the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bbqrec_cli.cli.console import Console, fitting, grid, rich_table, table
from bbqrec_cli.pages.tables import Shown, make

HOSTILE = "a\x1b[2Jb\x9b1mc\x07d\u202ee"
CONTROLS = "\x1b\x9b\x07\u202e"


@pytest.mark.parametrize("as_json", [True, False])
def test_control_characters_of_data_are_not_printed(capsys, as_json):
    console = Console(json_output=as_json)
    console.log(HOSTILE)
    console.warn(HOSTILE)
    console.result({"title": HOSTILE}, table(HOSTILE, ["title"], [[HOSTILE]]), HOSTILE)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "a" in text
        assert not set(text) & set(CONTROLS)
    if as_json:
        assert json.loads(out) == {"title": HOSTILE}


def test_tabs_lines_and_other_scripts_stay(capsys):
    Console().result({}, "a\tb\nמשהו 日本 é")
    assert capsys.readouterr().out == "a       b\nמשהו 日本 é\n"


def test_a_task_within_a_task_is_one_more_line(monkeypatch):
    """A terminal has one live display."""
    from io import StringIO

    from rich.console import Console as RichConsole

    console, stream = Console(), StringIO()
    console._err = RichConsole(file=stream, force_terminal=True, width=200)
    with console.task("steps", 2) as outer:
        outer.advance(1, run="train sasrec", rest="about 3 min")
        with console.task("epoch 1", 5) as inner:
            inner.advance(5, loss=0.5)
        assert len(console._bars.tasks) == 1
    assert console._bars is None
    assert "about 3 min" in stream.getvalue()
    assert "epoch 1" in stream.getvalue()


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (44, [20, 9, 15]),
        (43, [19, 9, 15]),
        (36, [12, 9, 15]),
        (30, [12, 9, 9]),
        (24, [8, 9, 7]),
        (6, [2, 2, 2]),
    ],
)
def test_the_widest_column_gives_way_down_to_its_words(room, widths):
    """Its whole width, then words in headers, then words everywhere, then anything."""
    floors = [[12, 9, 15], [12, 9, 7], [1, 1, 1]]
    assert fitting([20, 9, 15], floors, room) == widths


def printed(monkeypatch, capsys, width, made) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    Console().result({}, made)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


WIDE = ["training interactions of the target", "users", "recall@5", "ndcg@5", "mrr@5", "recall@10", "ndcg@10", "mrr@10"]
ROW = ["21 to 100", 101, 0.1485, 0.1042, 0.0898, 0.2277, 0.1292, 0.0997]


def test_a_table_breaks_between_words(monkeypatch, capsys):
    """With its frame where that fits, else without."""
    lines = printed(monkeypatch, capsys, 85, table("", WIDE, [ROW]))
    assert lines[0].startswith("┏━")
    assert [line.split("┃")[1].strip() for line in lines[1:4]] == ["training", "interactions", "of the target"]
    assert "┃ recall@10 ┃" in lines[3]
    assert max(map(len, lines)) <= 85
    assert printed(monkeypatch, capsys, 80, table("", WIDE, [ROW])) == [
        "training",
        "interactions of",
        "the target          users  recall@5  ndcg@5   mrr@5  recall@10  ndcg@10  mrr@10",
        "─" * 80,
        "21 to 100             101    0.1485  0.1042  0.0898     0.2277   0.1292  0.0997",
    ]


def test_numbers_break_after_words(monkeypatch, capsys):
    made = make("of two", ["what it is called", "95% interval"], [["a long name of it", "+0.0008 … +0.0247"]])
    assert printed(monkeypatch, capsys, 30, rich_table(made)) == [
        "", "of two",
        "what it is",
        "called           95% interval",
        "─" * 30,
        "a long      +0.0008 … +0.0247",
        "name of it",
    ]  # fmt: skip


def test_a_word_that_fits_nowhere_is_folded(monkeypatch, capsys):
    assert printed(monkeypatch, capsys, 12, grid([("abcdefghijklmnop", "12")])) == [
        "  abcdef  12",
        "  ghijkl",
        "  mnop",
    ]
    assert printed(monkeypatch, capsys, 12, grid([])) == []


NUMBERS = ("0.0200 ± 0.0000", "p <.001 / <.001")
NAMES = ("popularity", "generator on RQ-VAE's IDs", "an-unbreakably-long-name-of-a-system")


@pytest.mark.parametrize("width", [12, 30, 40, 60, 80, 100, 140])
def test_tables_fit_the_terminal_and_lose_nothing(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    heads = ("system", *(f"Recall@{k}" for k in (5, 10, 20)), "collisions of whole IDs")
    rows = [(name, *(Shown(NUMBERS) for _ in range(3)), 1234567) for name in NAMES]
    note = "A note that is longer than the table is wide."
    Console().result({}, rich_table(make("Title", heads, rows, note=note)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    blocks = sum(line.startswith("─") for line in lines)
    assert blocks == {12: 4, 30: 4, 40: 4, 60: 2, 80: 1, 100: 1, 140: 1}[width]
    if width < 30:  # a name of twelve and a number
        return
    text = " ".join(" ".join(lines).split())
    for words in (*NAMES[0].split(), *NAMES[1].split(), *" ".join(heads).split(), *note.split(), "Title", "1,234,567"):
        assert words in text, "no word is broken"
    assert text.count(NUMBERS[0]) == text.count(NUMBERS[1]) == 9
    assert text.count("1,234,567") == 3


def test_words_get_the_room_that_they_need(monkeypatch, capsys):
    """Columns of words share what there is; short ones keep their width."""
    monkeypatch.setenv("COLUMNS", "60")
    rows = [("demo", "what it shows, in a rather long sentence that goes on", "nothing, or next to nothing")]
    Console().result({}, rich_table(make("Suites", ("suite", "what", "needs"), rows, left=3)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) <= 7
    assert lines[4].startswith("demo ")


def test_text_is_printed_as_it_is(bbqrec, tmp_path):
    """No emoji by their names, and no markup."""
    log = tmp_path / "run[final]:100:.csv"
    log.write_text("user,item,timestamp\n" + "".join(f"shop:100:{u},a:b:{i},{i}\n" for u in range(3) for i in range(4)))
    done = bbqrec("prepare", "table", log, "-o", tmp_path / "d[x].h5")
    assert done.status == 0, done.err
    assert "d[x].h5" in done.out
    assert "d[x].h5" in bbqrec("inspect", tmp_path / "d[x].h5").out
    model = tmp_path / "m.h5"
    assert bbqrec("train", tmp_path / "d[x].h5", "--model", "popularity", "-o", model).status == 0
    assert "shop:100:1" in bbqrec("recommend", model, "--users", 3, "--include-seen").out
    assert "no user 'shop:100:99' (did you mean 'shop:100:" in bbqrec("recommend", model, "--user", "shop:100:99").err


def test_commands_are_not_broken_into_lines(bbqrec, files, tmp_path):
    """They are there to be copied."""
    folder = tmp_path / ("long name " * 12)
    folder.mkdir()
    path = folder / "m.h5"
    path.write_bytes(files["model"].read_bytes())
    done = bbqrec("recommend", path, "--user", "nobody")
    assert "nobody" in done.err
    again = bbqrec("export", path, "--to", "recbole", "-o", folder / "atomic")
    assert again.status == 0, again.err
    assert f"'{folder / 'atomic'}'" in again.out + again.err
    hint = bbqrec("export", path, "--to", "csv", "-o", tmp_path / "no such" / "x.csv").err
    assert f"mkdir -p '{tmp_path / 'no such'}'" in hint


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_write_every_character(encoding, files, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for words in (["--help"], ["inspect", str(files["tokens"])], ["inspect", str(files["tokens"]), "--json"]):
        command = [sys.executable, "-m", "bbqrec_cli", *words]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        done.stdout.decode(encoding)
        if "--json" in words:
            json.loads(done.stdout)
