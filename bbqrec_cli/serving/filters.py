"""The candidates of a recommendation: --filter attribute=value and --allow FILE. I items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.records import LIST_SEPARATOR, Catalogue
from bbqrec_cli.serving.requests import item_rows


def allowed_items(catalogue: Catalogue, filters: Sequence[str], allow: Path | None) -> np.ndarray | None:
    """(I,) bool: the items that pass --filter and --allow; None: all.

    Raises:
        UsageError: an unknown attribute or value, or no item is left.
    """
    if not filters and allow is None:
        return None
    allowed = np.ones(catalogue.items, dtype=bool)
    for each in filters:
        allowed &= with_attribute(each, catalogue)
    if allow is not None:
        allowed &= items_in_file(allow, catalogue)
    if not allowed.any():
        every = [f"--filter {each}" for each in filters] + (["--allow"] if allow is not None else [])
        raise UsageError(f"no item passes {' and '.join(every)}", "leave one of them out")
    return allowed


def with_attribute(wanted: str, catalogue: Catalogue) -> np.ndarray:
    """(I,) bool: the items that have attribute=value; a list attribute has each of its values."""
    name, equals, value = wanted.partition("=")
    known = catalogue.attributes
    if not equals:
        raise UsageError(f"--filter is {wanted!r}; attribute=value is needed", "quote it if the value has spaces")
    if name not in known:
        has = f"the items have: {', '.join(known)}" if known else "the items of this file have none"
        raise UsageError(f"--filter: no attribute {name!r}{did_you_mean(name, known)}; {has}")
    parts = [[part.strip().casefold() for part in text.split(LIST_SEPARATOR)] for text in known[name]]
    value = value.strip().casefold()
    found = np.array([value in each for each in parts], dtype=bool)
    if not found.any():
        near = did_you_mean(value, {part for each in parts for part in each if part})
        raise UsageError(f"--filter {wanted}: no item has this {name}{near}")
    return found


def items_in_file(path: Path, catalogue: Catalogue) -> np.ndarray:
    """(I,) bool: the items listed in a file, one id per line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a text file of item ids ({error})") from error
    found = np.zeros(catalogue.items, dtype=bool)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found[item_rows(catalogue, [line.strip()], where=f"{path}, line {number}", error=DataError)] = True
    return found
