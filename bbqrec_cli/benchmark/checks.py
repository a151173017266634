"""What every table of a suite file is checked for: its keys, its name, and the paths in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.errors import MissingFileError, UsageError

LONGEST_NAME = 60


def table(value: Any, where: str) -> dict[str, Any]:
    """A table, its keys with `_` for `-`. Raises: UsageError: it is none, or has a key twice."""
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {value!r}; a table is needed")
    made = {key.replace("-", "_"): each for key, each in value.items()}
    if twice := next((key for key in value if "-" in key and key.replace("-", "_") in value), ""):
        raise UsageError(f"{where}: {twice} and {twice.replace('-', '_')} are one key")
    return made


def tables(values: Mapping[str, Any], key: str, path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every `[[key]]` table, and what an error calls it. Raises: UsageError: it is a single table."""
    every = values.get(key, [])
    if not isinstance(every, list):
        raise UsageError(f"{path}: {key} is one table; write [[{key}]]")
    for number, each in enumerate(every, 1):
        where = f"{path}: [[{key}]] number {number}"
        yield table(each, where), where


def named(values: Mapping[str, Any], key: str, path: Path) -> dict[str, dict[str, Any]]:
    """Name -> the rest of every `[[key]]` table.

    Raises:
        UsageError: a name that is missing, odd or given twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for each, where in tables(values, key, path):
        name = each.pop("name", None)
        if not isinstance(name, str) or not name:
            raise UsageError(f"{where} has no name")
        if not name.isprintable() or "/" in name or len(name) > LONGEST_NAME:
            what = f"a line of at most {LONGEST_NAME} characters without '/' is needed"
            raise UsageError(f"{where}: name is {name!r}; {what}")
        if name in found:
            raise UsageError(f"{path}: two [[{key}]] tables are named {name!r}")
        found[name] = each
    return found


def only(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raises: UsageError: a key that is none of `known`."""
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}")


def chosen(
    value: Any, known: Collection[str], where: str, *, several: bool = True, optional: bool = False
) -> tuple[str, ...]:
    """One of the `known` names, or a list of them; optional: it may be empty.

    Raises:
        UsageError: another name, with the nearest.
    """
    names = value if isinstance(value, list) and several else [value]
    if not names and not optional:
        raise UsageError(f"{where} is []; known: {', '.join(map(repr, known))}")
    for name in names:
        if name not in tuple(known):  # a list has no place in a set
            there = ", ".join(map(repr, known)) or "there is none"
            raise UsageError(f"{where} is {name!r}; known: {there}{did_you_mean(str(name), known)}")
    return tuple(names)


def there(name: str, where: str, folder: Path) -> Path:
    """The path `name` of a suite file in `folder`: so the same command works from anywhere.

    Raises:
        MissingFileError: nothing is there.
    """
    path = folder / name
    if not path.exists():
        raise MissingFileError(
            f"{where}: {path} is not there",
            "paths are relative to the suite file's folder, in a built-in suite to the current one",
        )
    return path
