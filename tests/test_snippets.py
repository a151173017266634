"""Every command and every piece of code that README and docs/ show works as it stands."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bbqrec_cli import errors
from bbqrec_cli.cli.options import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = {p.relative_to(ROOT).as_posix(): p for p in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))}
RUN = ("README.md", "docs/quickstart.md", "docs/scripting.md", "docs/export.md")
"""Pages whose snippets are run from top to bottom in one folder."""


def page(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def shell_lines(text: str) -> Iterator[str]:
    """Lines of a script: continued ones joined, bodies of here-documents and comments left out."""
    end = None
    for line in text.replace("\\\n", " ").splitlines():
        if end:
            end = None if line.strip() == end else end
            continue
        found = re.search(r"<<-?\s*'?(\w+)'?", line)
        end = found[1] if found else None
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def invocations(line: str) -> Iterator[list[str]]:
    """Arguments of every `bbqrec …` in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found: list[str] | None = None
    for token in [*lexer, ";"]:
        if set(token) <= set("();|&<>"):
            if found:
                yield found
            found = None
        elif found is not None:
            found.append(token)
        elif token == "bbqrec":
            found = []


def blocks(name: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)


def test_the_reader_of_shell_reads_shell():
    text = (
        "cat > x <<'END'\nbbqrec no\nEND\necho 'a b' | bbqrec recommend --stdin > out && bbqrec inspect \\\n x # so\n"
    )
    found = [each for line in shell_lines(text) for each in invocations(line)]
    assert found == [["recommend", "--stdin"], ["inspect", "x"]]


SHOWN = sorted(
    {
        (name, tuple(arguments))
        for name in PAGES
        for block in blocks(name)
        for line in shell_lines(block)
        for arguments in invocations(line)
    }
)


class Reached(errors.BBQRecError):
    """The stage would start now."""


@pytest.fixture
def starts(bbqrec, monkeypatch) -> Callable[[list[str]], None]:
    """Checks that a command line is accepted, up to the point where its stage would start."""

    def check(arguments: list[str]) -> None:
        seen = []

        def stop(config, *_, **__):
            seen.append(config)
            raise Reached("far enough")

        with monkeypatch.context() as patched:
            for name in COMMANDS:
                module = importlib.import_module(f"bbqrec_cli.cli.{name}")
                more = {"tokenize": ("fitting", "append"), "benchmark": ("speed",)}.get(name, ())
                stages = [getattr(module, each) for each in more]
                for stage in stages if name == "tokenize" else [module, *stages]:
                    patched.setattr(stage, "run", stop)
            done = bbqrec(*arguments)
        if not {"--help", "--version"} & set(arguments):
            assert seen, f"bbqrec {' '.join(arguments)}: {done.err}"

    return check


@pytest.mark.parametrize(("name", "arguments"), SHOWN)
def test_commands_that_are_shown_are_accepted(name, arguments, starts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text("")  # docs/scripting.md writes one
    starts(list(arguments))


def test_the_check_of_shown_commands_can_fail(starts):
    for wrong in ("train --epoch 3", "tokenize --method bbqrek", "train --model popularity --epochs 3", "embed --k 2"):
        with pytest.raises((AssertionError, errors.UsageError)):
            starts(wrong.split())


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_sentences_exist(name):
    for shown in re.findall(r"`bbqrec ([a-z][^`]*)`", page(name)):
        command, *arguments = shown.split()
        assert command in COMMANDS or command == "benchmark", f"{name}: bbqrec {shown}"
        known = set(re.findall(r"--[a-z][a-z-]*", page("docs/cli.md"))) | {"--help"}
        for option in arguments:
            assert not option.startswith("--") or option.split("=")[0] in known, f"{name}: bbqrec {shown}"


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= targets
    for name in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page(name), re.MULTILINE):
            assert target in targets, f"{name}: make {target}"


@pytest.fixture
def folder(tmp_path, dataset, quick_python) -> Path:
    """Commands for the snippets (a small bbqrec, pip and make that do nothing) and the data that README speaks of."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    small = f'exec {shlex.quote(quick_python)} {shlex.quote(str(ROOT / "tests" / "tiny_bbqrec.py"))} "$@"\n'
    python = f'exec {shlex.quote(sys.executable)} "$@"\n'
    for name, text in {"bbqrec": small, "python": python, "pip": "exit 0\n", "make": "exit 0\n"}.items():
        (stubs / name).write_text(f"#!/bin/sh\n{text}")
        (stubs / name).chmod(0o755)
    place = tmp_path / "place"
    raw_data(place, dataset)
    os.symlink(ROOT / "examples", place / "examples")
    return place


def raw_data(place: Path, dataset) -> None:
    """interactions.csv, items.csv and pictures/ (for `table`), sequences/ (for `s3rec`), of the tiny catalogue."""
    catalogue = dataset.catalogue
    for name in ("pictures", "sequences"):
        (place / name).mkdir(parents=True)
    lines, taken = ["user,item,timestamp"], []
    for user, rows in zip(catalogue.user_ids, catalogue.sequences, strict=True):
        lines += [f"{user},i{row},{100 + step}" for step, row in enumerate(rows)]
        taken.append(" ".join([user, *(f"i{row}" for row in rows)]))
    (place / "interactions.csv").write_text("\n".join(lines) + "\n")
    titles = dict(zip(catalogue.item_ids, catalogue.titles, strict=True))
    table = ["id,title,group", *(f"{item},{title},shelf" for item, title in titles.items())]
    (place / "items.csv").write_text("\n".join(table) + "\n")
    (place / "sequences" / "sequences.txt").write_text("\n".join(taken) + "\n")
    items = {item: {"title": title} for item, title in titles.items()}
    (place / "sequences" / "items.json").write_text(json.dumps(items))
    for item, picture in zip(catalogue.item_ids, dataset.images, strict=True):
        if picture:
            (place / "pictures" / f"{item}.png").write_bytes(picture)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_snippets_run(name, folder):
    script = "set -euo pipefail\n" + "\n".join(blocks(name))
    environment = os.environ | {"PATH": f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}", "CI": "true"}
    done = subprocess.run(
        ["bash", "-x"], input=script, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def first_hour() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_hour", ROOT / "docs" / "first_hour.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_first_hour_is_what_its_script_runs():
    made = first_hour()
    script = [*made.demo(), *made.own()]
    commands = [line.split(" ", 1)[1] for line in script if line.startswith(("$ ", "^C "))]
    assert re.findall(r"^\$ (.*)$", page("docs/first-hour.md"), re.MULTILINE) == commands
    text = " ".join(page("docs/first-hour.md").split())
    assert not [line for line in script if not line.startswith(("$ ", "^C ")) and line not in text]


def test_what_changes_from_run_to_run_is_left_out():
    made = first_hour()
    said = "epoch 1/9  loss 5.1  3.2 s, at most 26 s left\nm.h5: x, 144 s, 7.72 ms per user\nat 2026-01-02 03:04:05 UTC"
    assert made.stable(said) == "epoch 1/9  loss 5.1  … s\nm.h5: x, … s, … ms per user\nat … UTC\n"
    lines = ["a", *(f"epoch {n}/9  x" for n in range(1, 10)), "b"]
    assert list(made.shortened(lines)) == ["a", lines[1], lines[2], "…", lines[9], "b"]
    assert list(made.shortened(lines[:5])) == lines[:5]


@pytest.mark.slow
def test_the_tables_of_the_first_hour(folder, monkeypatch):
    """The chain before them is README's, which is run above."""
    made = first_hour()
    monkeypatch.setattr(made, "demo", lambda: ["$ bbqrec prepare demo"])
    text = made.transcript(folder, folder.parent / "bin")
    assert text.count("\nerror: ") == 2, "the table without times, and the option that markov lacks"
    assert len(re.findall(r"evaluated_users +│ +300", text)) == 5 + 1
    assert "recommended" in text
