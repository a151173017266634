"""What stands in somebody's file never steers the terminal."""

from __future__ import annotations

import json

import pytest

from bbqrec_cli.cli.console import Console, table

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
