"""Suite files: where they lie, what they are made of, and data sets from the command line in their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.checks import only, table, tables
from bbqrec_cli.benchmark.published import known_data
from bbqrec_cli.benchmark.sweeps import JOINED, join
from bbqrec_cli.config import did_you_mean, load_toml
from bbqrec_cli.errors import MissingFileError, UsageError

BUILT_IN = Path(__file__).parent / "suites"
HEAD = ("name", "about", "needs", "seeds", "split", "k", "exclude_seen", "suites")
KEYS = (*HEAD, "data", "evaluate", "tokenizer", "system", "sweep", "published", "table", "tune")


def built_in() -> tuple[str, ...]:
    """The names of the suites that come with the program."""
    return tuple(sorted(path.stem for path in BUILT_IN.glob("*.toml")))


def suite_file(name: str) -> tuple[Path, Path]:
    """The suite's file, and the folder that paths in it are relative to. Raises: MissingFileError: there is none."""
    path = Path(name)
    if path.suffix or path.is_file():
        return path, path.parent
    if name not in built_in():
        known = f"({', '.join(built_in())}){did_you_mean(name, built_in())}"
        raise MissingFileError(f"{name}: neither a suite file nor a built-in suite {known}")
    return BUILT_IN / f"{name}.toml", Path()


def read_suite(path: Path, within: tuple[Path, ...] = ()) -> tuple[dict[str, Any], str]:
    """A suite file's tables, with those of the suites that it is made of, and its text with theirs.

    within: the suites that are made of it. Raises: UsageError: it is made of itself, or does not fit.
    """
    if path.resolve() in within:
        raise UsageError(f"{path}: this suite is made of itself")
    within = (*within, path.resolve())
    values, text = load_toml(path, "suite")
    values = table(values, str(path))
    only(values, KEYS, str(path))
    for key in JOINED:
        for each, where in tables(values, key, path):
            for name in ("name", "tokenizer"):
                if not isinstance(each.get(name, ""), str):
                    raise UsageError(f"{where}: {name} is {each[name]!r}; a name is needed")
    names = values.pop("suites", [])
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise UsageError(f"{path}: suites is {names!r}; a list of suites is needed")
    for name in names:
        inner, folder = suite_file(str(path.parent / name) if name.endswith(".toml") else name)
        if folder not in (Path(), path.parent):
            raise UsageError(f"{path}: the suite {name} lies in another folder", "paths in it would mean others")
        more, said = read_suite(inner, within)
        join(values, more, f"{path}: suite {name}")
        text += f"\n# ---- {name} ----\n{said}"
    return values, text


def given_data(given: Sequence[str]) -> list[dict[str, Any]]:
    """The `[[data]]` tables of NAME=PATH, for each: PATH a dataset, features or tokens file, or raw data as
    SOURCE:PATH[,PATH…] (see `bbqrec prepare`). A name of published.toml brings its published numbers.

    Raises: UsageError: another form.
    """
    from bbqrec_cli.data.sources.registry import SOURCES

    made = []
    for each in given:
        name, _, path = each.partition("=")
        if not name or not path:
            raise UsageError(f"--data is {each!r}; NAME=PATH is needed", "--data beauty=beauty-features.h5")
        source, _, paths = path.partition(":")
        own: dict[str, Any] = {"name": name} | ({"published": name} if name in known_data() else {})
        if path.endswith(".h5"):
            own["file"] = path
        elif source in SOURCES:
            own["source"] = [source, *filter(None, paths.split(","))]
        else:
            what = f"--data {name}: {path} is no .h5 file; raw data are given as SOURCE:PATH"
            raise UsageError(what, f"--data {name}=table:{path}; sources: {', '.join(SOURCES)}")
        made.append(own)
    return made
