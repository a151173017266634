"""README and docs/ are complete and up to date; test_snippets.py runs what they show."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import bbqrec_cli
from bbqrec_cli import errors
from bbqrec_cli.cli.options import COMMANDS
from bbqrec_cli.data.sources.registry import SOURCES
from bbqrec_cli.hdf5.schema import KINDS, Field
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.tokenizers.registry import TOKENIZERS

ROOT = Path(__file__).parents[1]
PAGES = {p.relative_to(ROOT).as_posix(): p for p in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))}


RESULTS = "docs/results/README.md"


def page(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """Cells of every table row, without backticks."""
    found = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("`", "") for cell in row] for row in found]
    return [row for row in cells if not set("".join(row)) <= {"-"}]


def load(path: Path) -> ModuleType:
    """A Python file outside any package."""
    spec = importlib.util.spec_from_file_location(f"tested_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


# What is made from the program


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return load(ROOT / "docs" / "generate.py").files()


def test_generated_files_are_up_to_date(generated):
    stale = [path.name for path, text in generated.items() if not path.exists() or path.read_text("utf-8") != text]
    assert not stale, f"python docs/generate.py makes {', '.join(stale)} anew"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command, bbqrec, monkeypatch):
    """The reference is what --help prints."""
    monkeypatch.setenv("COLUMNS", "300")
    text = page("docs/cli.md")
    said = section(text, command) + section(text, "Options of every command")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", said))
    shown = set(re.findall(r"^│\s+(--[a-z-]+)", bbqrec(command, "--help").out, re.MULTILINE))
    assert "--json" in shown
    assert not shown - options
    assert f"| `bbqrec {command}` |" in page("README.md")


def test_help_shows_defaults(bbqrec, monkeypatch):
    """rich would take what stands in square brackets for a style."""
    monkeypatch.setenv("COLUMNS", "300")
    assert "[default: model.h5]" in bbqrec("train", "--help").out
    assert "bbqrec[offline-text]" in bbqrec("embed", "--help").out


# What is written by hand


@pytest.mark.parametrize(
    ("name", "command", "option"),
    [
        *((name, "train", "--model") for name in MODELS),
        *((name, "tokenize", "--method") for name in TOKENIZERS),
        *((name, "prepare", "SOURCE") for name in SOURCES),
    ],
)
def test_every_name_is_in_readme_and_help(name, command, option, bbqrec, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    if option == "SOURCE":
        assert f"bbqrec prepare {name}" in page("README.md")
    else:
        assert [name] in [row[:1] for row in rows(section(page("README.md"), "Compare"))]
    shown = bbqrec(command, "--help").out
    here = re.search(rf"^│ {option} .*\[default: {name}\]|^╭─ Options of {name} ", shown, re.MULTILINE)
    listed = re.search(rf"^ {name}: \w", shown, re.MULTILINE)
    assert here or listed, f"the help of {command} does not name {name}"


@pytest.mark.parametrize("name", SOURCES)
def test_the_example_of_every_source_is_in_the_page_of_data(name):
    """`prepare --help` shows it."""
    example = SOURCES.config(name).example
    assert example.split()[:3] == ["bbqrec", "prepare", name]
    assert example in page("docs/data.md")


PARTS = {
    "The catalogue": ("dataset", "features", "tokens", "model"),
    "Features": ("dataset", "features", "model"),
    "Codes": ("tokens", "model"),
}
"""Sections of docs/file-formats.md that belong to several kinds."""
MAY_ATTRIBUTES = {
    "features", "encoder_inputs", "exclude_seen", "lists", "splitting", "earlier", "curves", "alike", "suffix",
    "items",
}  # fmt: skip
"""Attributes that the schema does not demand."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_dataset_and_attribute_is_documented(kind):
    text, schema = page("docs/file-formats.md"), KINDS[kind]
    titles = [title for title, kinds in PARTS.items() if kind in kinds] + [f"Kind {kind}"]
    listed = [row for title in titles for row in rows(section(text, title))]
    fields = {row[0]: row[1:4] for row in listed if len(row) == 5 and row[0] != "path"}
    assert fields == {f.path: described(kind, f) for f in schema.fields}
    attributes = {row[0]: row[2] for row in listed if len(row) == 4 and row[0] != "attribute"}
    codes = {row[0] for row in rows(section(text, "Codes")) if len(row) == 4}
    needed = {name for name in attributes if not (kind == "model" and name in codes)} - MAY_ATTRIBUTES
    assert needed == set(schema.attributes)
    assert {name for name, must in attributes.items() if must != "MUST"} <= MAY_ATTRIBUTES
    made = section(text, f"Kind {kind}").split("\n\n")[0].replace("\n", " ").replace("`", "")
    assert made.strip().startswith(f"Version {schema.version}, made by {schema.made_by}")


def described(kind: str, f: Field) -> list[str]:
    """Type, shape, MUST or MAY; in the part that kinds share, a model's codes stand as those of a tokens file."""
    must = f.required
    if kind == "model":
        must = next((other.required for other in KINDS["tokens"].fields if other.path == f.path), must)
    shape = "…" if f.shape == ("...",) else f"({', '.join(f.shape)})"
    return [f.type, shape, "MUST" if must else "MAY"]


def test_every_error_is_documented():
    table = [row for row in rows(section(page("docs/scripting.md"), "Exit codes")) if len(row) == 3]
    listed = {row[0]: int(row[1]) for row in table[1:]}
    family = [errors.BBQRecError]
    for each in family:
        family += each.__subclasses__()
    assert listed == {error.code: error.exit_code for error in family}
    assert set(listed) == set(errors.CODES)


@pytest.fixture
def answers(files, bbqrec, tmp_path) -> Callable[[str], dict]:
    """command -> what it prints with --json."""
    index = tmp_path / "index.json"
    index.write_text(json.dumps({f"i{item}": [f"<a_{item // 4}>", f"<b_{item % 4}>"] for item in range(12)}))
    arguments = {
        "prepare": ["demo", "--size", "small"],
        "embed": [files["dataset"], "--modalities", "image"],
        "tokenize": [files["features"], "--method", "published", "--index", index],
        "collisions": [files["tokens"]],
        "train": [files["dataset"], "--model", "popularity"],
        "evaluate": [files["model"]],
        "compare": [files["metrics"], tmp_path / "other.h5"],
        "tune": [files["dataset"], "--model", "popularity"],
        "recommend": [files["model"], "--user", "u0"],
        "inspect": [files["model"]],
        "export": [files["dataset"], "--to", "csv"],
    }

    (tmp_path / "other.h5").write_bytes(files["metrics"].read_bytes())

    def ask(command: str) -> dict:
        if command == "tune":
            pytest.importorskip("optuna")
        writes = command in ("prepare", "embed", "tokenize", "train", "evaluate", "tune", "export")
        done = bbqrec(command, *arguments[command], *(["-o", tmp_path / "out.h5"] if writes else []), "--json")
        assert done.status == 0, done.err
        return json.loads(done.out)

    return ask


def test_the_attributes_of_every_file_are_documented(answers, tmp_path):
    import h5py

    listed = [row for row in rows(section(page("docs/file-formats.md"), "Attributes of every file")) if row[2]]
    musts, mays = ({row[0] for row in listed if row[2] == must} for must in ("MUST", "MAY"))
    assert mays == {"origin"}
    answers("evaluate")
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file.attrs) - set(KINDS["metrics"].attributes) - MAY_ATTRIBUTES == musts | mays


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "benchmark"])
def test_every_json_key_is_documented(command, answers):
    """And none that is not there. What stands in brackets is inside the key before it."""
    listed = {row[0]: row[1] for row in rows(section(page("docs/scripting.md"), "Output"))}
    named = listed[command]
    while "(" in named:
        named = re.sub(r"\([^()]*\)", "", named)
    named = named.partition(";")[0].replace(", one key per metric ,", ",")
    found = answers(command)
    metrics = {key for key in found if "@" in key}
    assert {key.strip() for key in named.split(",")} == set(found) - metrics
    assert bool(metrics) == (command == "evaluate")


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", page(name)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (PAGES[name].parent / path) if path else PAGES[name]
        assert found.exists(), f"{name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in slugs, f"{name} links to {target}"


@pytest.mark.parametrize("name", [name for name in PAGES if name == RESULTS or not name.startswith("docs/results/")])
def test_lines_fit_120_columns(name):
    """Tables, code, what cannot be broken and generated pages excepted."""
    text = re.sub(r"^```.*?^```", "", page(name), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 120 and line[0] not in "|<"]
    assert not [line for line in long if " " in line[:120].strip("-* ")]


def test_every_page_is_linked_from_the_readme_or_a_linked_page():
    linked, todo = set(), ["README.md"]
    while todo:
        name = todo.pop()
        linked.add(name)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page(name)):
            near = os.path.normpath(Path(name).parent / target)
            todo += [near] if near in PAGES and near not in linked else []
    lost = {name for name in set(PAGES) - linked if not name.startswith("docs/results/")}
    assert not lost


def test_no_machine_paths():
    """Nothing in what users read or copy names a place on somebody's machine."""
    texts = {".md", ".py", ".sh", ".toml", ".html", ".csv", ".json"}
    paths = [path for name in ("docs", "examples") for path in (ROOT / name).rglob("*.*") if path.suffix in texts]
    paths += [ROOT / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", ".ci/run")]
    for path in paths:
        found = re.search(r"(?<![\w.])/(work|home|root|tmp|Users|mnt|opt)/", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found[0] if found else ''}"


def test_the_architecture_names_what_there_is():
    text, package = page("docs/architecture.md"), Path(bbqrec_cli.__file__).parent
    for path in package.iterdir():
        if path.name.startswith("_"):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert name in text, f"{name} is not in docs/architecture.md"
    known = {path.name for path in (*package.rglob("*.py"), *(ROOT / "tests").rglob("*.py"))}
    assert set(re.findall(r"`(?:[\w/]+/)?([a-z_0-9]+\.py)`", text)) <= known


def test_the_changelog_names_this_version():
    assert f"## [{bbqrec_cli.__version__}]" in page("CHANGELOG.md")
