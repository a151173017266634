"""Recipes: named settings of a tokenizer and a model, each a TOML file with the tables [tokenize] and [train].

A recipe sets the method or model and options of it and of the stage. Other options override it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bbqrec_cli.config import did_you_mean, load_toml
from bbqrec_cli.errors import UsageError

FOLDER = Path(__file__).parent
TABLES = ("tokenize", "train")


def names() -> tuple[str, ...]:
    """All recipes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def describe_recipe(name: str) -> str:
    """A recipe's description: the first paragraph of its file's comment, as one line."""
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    head = lines[: next((number for number, line in enumerate(lines) if not line.startswith("# ")), len(lines))]
    return " ".join(line.removeprefix("#").strip() for line in head)


def recipe(name: str, command: str) -> dict[str, Any]:
    """The options that a recipe gives a command, 'tokenize' or 'train'.

    Raises:
        UsageError: an unknown recipe, or one without settings for the command.
    """
    if name not in names():
        known = f"known: {', '.join(names())}{did_you_mean(name, names())}"
        raise UsageError(f"--recipe is {name!r}; {known}", "put your own settings into a file for --config")
    values, _ = load_toml(FOLDER / f"{name}.toml", "recipe")
    if command not in values:
        tables = " and ".join(f"bbqrec {table}" for table in TABLES if table in values)
        raise UsageError(f"--recipe {name} has no settings for bbqrec {command}", f"it is for {tables}")
    return {key.replace("-", "_"): value for key, value in values[command].items()}
