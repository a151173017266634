"""The candidates of a recommendation: --filter attribute=value, --allow FILE and --deny FILE. I items."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.sources.files import as_id
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import LIST_SEPARATOR, Catalogue
from bbqrec_cli.serving.requests import item_rows

Listed: TypeAlias = "Path | Sequence[str] | None"
"""A file of item ids, one per line, or the ids themselves; None: no list."""


def allowed_items(
    catalogue: Catalogue, filters: Sequence[str], allow: Listed, deny: Listed, progress: Progress
) -> np.ndarray | None:
    """(I,) bool: the items that pass --filter, --allow and --deny; None: all.

    Raises:
        UsageError: an unknown attribute or value, or no item is left; the errors of `listed_items`.
    """
    if not filters and allow is None and deny is None:
        return None
    allowed = np.ones(catalogue.items, dtype=bool)
    for each in filters:
        allowed &= with_attribute(each, catalogue)
    if allow is not None:
        allowed &= listed_items(allow, catalogue, name="allow", progress=progress)
    if deny is not None:
        allowed &= ~listed_items(deny, catalogue, name="deny", progress=progress)
    if not allowed.any():
        every = [f"--filter {each}" for each in filters]
        every += [f"--{name}" for name, listed in (("allow", allow), ("deny", deny)) if listed is not None]
        raise UsageError(f"no item passes {' and '.join(every)}", "leave one of them out")
    return allowed


def with_attribute(wanted: str, catalogue: Catalogue) -> np.ndarray:
    """(I,) bool: the items that have attribute=value; a list attribute has each of its values, `attribute=` none."""
    name, equals, value = wanted.partition("=")
    known = catalogue.attributes
    if not equals:
        raise UsageError(f"--filter is {wanted!r}; attribute=value is needed", "quote it if the value has spaces")
    if name not in known:
        has = f"the items have: {', '.join(known)}" if known else "the items of this file have none"
        raise UsageError(f"--filter: no attribute {name!r}{did_you_mean(name, known)}; {has}")
    parts = [[folded(part) for part in text.split(LIST_SEPARATOR)] for text in known[name]]
    value = folded(value)
    found = np.array([value in each for each in parts], dtype=bool)
    if not found.any():
        near = did_you_mean(value, {part for each in parts for part in each if part})
        raise UsageError(f"--filter {wanted}: no item has this {name}{near}")
    return found


def folded(text: str) -> str:
    """A value as it is compared: without case and spaces around it, accents as one character or two alike."""
    return unicodedata.normalize("NFC", text).strip().casefold()


def listed_items(listed: Path | Sequence[str], catalogue: Catalogue, *, name: str, progress: Progress) -> np.ndarray:
    """(I,) bool: the items of a list; a warning for ids of no item, as of what was added to a shop since.

    Raises:
        UsageError, of a file DataError: ids of --allow, and none of an item.
        MissingFileError, DataError: no text file.
    """
    file = isinstance(listed, Path)
    ids, where = (_lines(listed), str(listed)) if isinstance(listed, Path) else (list(map(as_id, listed)), name)
    rows = catalogue.item_ids.rows(ids)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown) and len(unknown) == len(ids) and name == "allow":
        item_rows(catalogue, ids, where=where, error=DataError if file else UsageError)
    if len(unknown):
        progress.warn(f"{where}: {len(unknown):,} of {len(ids):,} ids are of no item, first {ids[unknown[0]]!r}")
    found = np.zeros(catalogue.items, dtype=bool)
    found[rows[rows >= 0]] = True
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a text file of item ids ({error})") from error
    return [as_id(line) for line in lines if line.strip()]
