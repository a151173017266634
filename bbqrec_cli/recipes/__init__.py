"""Recipes: named settings of a tokenizer and a model, each a TOML file with the tables [tokenize] and [train].

A recipe sets the method or model and options of it and of the stage. Other options override it. Those in this folder go
by name, others by the path of their file.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.config import did_you_mean, field_name, load_toml
from bbqrec_cli.errors import UsageError

FOLDER = Path(__file__).parent
TABLES = ("tokenize", "train")


def names() -> tuple[str, ...]:
    """All recipes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def describe_recipe(name: str) -> str:
    """A recipe's head: what it is, what in it is as published, and what is not; lines as in its file."""
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    return "\n".join(line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


def recipe(name: str | Path, command: str) -> dict[str, Any]:
    """The options that a recipe gives a command, 'tokenize' or 'train'.

    name: a built-in one, or the path of a .toml file.

    Raises:
        MissingFileError: no such file.
        UsageError: an unknown recipe, one without settings for the command, or not a recipe.
    """
    if not isinstance(name, (str, Path)):
        raise UsageError(f"--recipe is {name!r}; a name or a path is needed", "your own settings: --recipe FILE.toml")
    name = str(name)
    of_users = name.endswith(".toml")
    if not of_users and name not in names():
        known = f"known: {', '.join(names())}{did_you_mean(name, names())}"
        raise UsageError(f"--recipe is {name!r}; {known}", "your own settings: --recipe FILE.toml")
    values, _ = load_toml(Path(name) if of_users else FOLDER / f"{name}.toml", "recipe")
    for key, value in values.items():
        if key not in TABLES or not isinstance(value, dict):
            raise UsageError(f"{name}: {key} is not a table of a recipe{did_you_mean(key, TABLES)}", "[train]")
    if command not in values:
        tables = " and ".join(f"bbqrec {table}" for table in TABLES if table in values)
        raise UsageError(f"--recipe {name} has no settings for bbqrec {command}", f"it is for {tables}")
    return {field_name(key): value for key, value in values[command].items()}


def as_toml(head: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """A recipe file's text: a comment of one paragraph, then each table, without None, which TOML does not have."""
    parts = ["".join(f"# {line}\n" for line in head.splitlines())]
    for name, values in tables.items():
        lines = [f"{key} = {literal(value)}\n" for key, value in values.items() if value is not None]
        parts.append(f"[{name}]\n" + "".join(lines))
    return "".join(parts)


def literal(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
