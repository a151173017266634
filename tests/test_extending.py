"""docs/extending.md: its files, put into a copy of the package, are all that a new method, source and suite take.

The whole chain runs with them, and nothing else of the package was touched.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bbqrec_cli

PACKAGE = Path(bbqrec_cli.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
RATINGS = "".join(
    f"{user}::{10 * ((user + step) % 7)}::{1 if step == 3 else 5}::{100 * step}\n"
    for user in range(20)
    for step in range(7)
)
CHAIN = [
    "prepare colons ratings.txt --least 2 --json",
    "tokenize dataset.h5 --method numbers --levels 2 --codebook-size 8 --json",
    "collisions --json",
    "train --epochs 1 --width 8 --layers 1 --decoder-layers 1 --variant no-similarity --device cpu --json",
    "evaluate --device cpu --json",
    "train dataset.h5 --model transitions --popularity 0.1 -o transitions.h5 --device cpu --json",
    "evaluate transitions.h5 -o transitions-metrics.h5 --split validation --device cpu --json",
    "recommend transitions.h5 --user 3 --top 2 --include-seen --device cpu --json",
    "inspect transitions.h5 --json",
    "benchmark toy --device cpu --json",
]
RUN = """
import contextlib, io, json, sys
from bbqrec_cli.cli import app
found = []
for line in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            app.main(line.split())
        except SystemExit as stop:
            found.append([stop.code or 0, out.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the extended package and the raw data."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, folder / "bbqrec_cli", ignore=shutil.ignore_patterns("__pycache__"))
    for path, code in FILES.items():
        assert not (folder / path).exists(), f"{path} is there already"
        (folder / path).write_text(code, encoding="utf-8")
    (folder / "ratings.txt").write_text(RATINGS)
    return folder


def run(place: Path, lines: list[str]) -> list[tuple[int, str]]:
    """(exit status, stdout) of each command line, all in one process that sees only the extended package."""
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(lines), cwd=place, capture_output=True, text=True, check=False,
        env={"PATH": "", "PYTHONPATH": str(place), "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [(status, out) for status, out in json.loads(done.stdout.splitlines()[-1])]
    for line, (status, _) in zip(lines, found, strict=True):
        assert status == 0, f"bbqrec {line}: {done.stderr}"
    return found


def test_the_promised_numbers_of_files():
    """As the page's first table has them, less tests and recipes, of which the example shows none."""
    kinds = {"/models/": 2, "/tokenizers/": 2, "/data/sources/": 2, "/benchmark/suites/": 1}
    assert {kind: sum(kind in path for path in FILES) for kind in kinds} == kinds
    promised = dict(re.findall(r"^\| (\w[^|]*?) \| (\d+) \|", PAGE, re.MULTILINE))
    assert {key: promised[key] for key in ("model", "tokenizer", "raw format", "table or figure")} == {
        "model": "4", "tokenizer": "4", "raw format": "3", "table or figure": "1",
    }  # fmt: skip


@pytest.mark.slow
def test_the_whole_chain_runs_with_them(place):
    found = [json.loads(out) for _, out in run(place, CHAIN)]
    prepared, tokens, collisions, trained, judged, counted, followed, recommended, inspected, benchmark = found
    assert (prepared["users"], prepared["items"], prepared["interactions"]) == (20, 7, 120), "six rated 5 each"
    assert (tokens["method"], tokens["items"], tokens["colliding_items"]) == ("numbers", 7, 0)
    assert collisions["distinct"] == 7
    assert (trained["model"], judged["users"]) == ("bbqrec", 20)
    assert counted["model"] == "transitions"
    assert followed["recall@5"] == 1, "the next item follows from the last one"
    assert len(recommended["items"]) == 2
    assert inspected["config"]["options"] == {"popularity": 0.1}
    assert benchmark["systems"].keys() == {"what follows", "generator"}
    assert not benchmark["failed"]


def test_help_and_completion_know_them(place):
    asked = ["prepare --help", "prepare colons --help", "tokenize --method numbers --help", "train --help"]
    asked += ["train --model transitions --help"]
    sources, source, tokenizer, models, model = (" ".join(out.split()) for _, out in run(place, asked))
    assert (
        "colons: Lines of user::item::rating::seconds. Example: bbqrec prepare colons ratings.txt --least 4" in sources
    )
    assert "--least" in source
    assert "Options of numbers" in tokenizer
    assert "transitions: What most often follows the last item" in models
    assert "--popularity" in model
    code = (
        "from bbqrec_cli.cli.completion import completer; "
        "print(completer('models')('tr'), completer('tokenizers')('nu'), completer('sources')('co'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(place)},
    )  # fmt: skip
    assert done.stdout.strip() == "['transitions'] ['numbers'] ['colons']"


def test_what_is_wrong_is_said_as_everywhere(place):
    (place / "broken.dat").write_text("7::30::5::200\n7::10::3\n")
    line = "prepare colons broken.dat -o broken.h5"
    done = subprocess.run(
        [sys.executable, "-m", "bbqrec_cli", *line.split()], cwd=place, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(place)},
    )  # fmt: skip
    assert (done.returncode, "line 2" in done.stderr) == (3, True)
