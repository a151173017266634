"""Folders that `bbqrec export` wrote: the rows of their items, which are in the order of the file that was exported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from bbqrec_cli.data.sources.base import Interactions
from bbqrec_cli.data.sources.files import as_id, read_json, table_rows, typed_rows

RECORD = "export.json"
"""The file in an exported folder that says what it was made from and which files it has."""
MAP = ".map.json"
"""Ends the name of the file that says what ids and fields are called in bbqrec, where RecBole needs other names."""


def recorded_files(folder: Path) -> list[str]:
    """The files that the record of an exported folder names, and the record; none without a record."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return [*map(str, record["files"]), RECORD] if str(record["format"]).startswith("bbqrec export ") else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def in_exported_order(made: Interactions, files: list[Path]) -> Interactions:
    """The interactions with their items in the rows of the exported file. files: `files_of_order`, some."""
    places = {item: row for row, item in enumerate(_item_order(*files))}
    order = sorted(range(len(made.item_ids)), key=lambda row: places.get(made.item_ids[row], len(places)))
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    return dataclasses.replace(made, item_ids=[made.item_ids[row] for row in order], items=rows[made.items])


def files_of_order(paths: list[Path]) -> list[Path]:
    """What says the order of an exported folder's items, or of those of a file's folder: its items table, the names in
    RecBole's, and the record; [] for any other paths."""
    if len(paths) != 1:
        return []
    given = paths[0]
    folder = given if given.is_dir() else given.parent
    files = recorded_files(folder)
    named = (each for each in files if each in ("items.csv", "items.parquet") or each.endswith(".item"))
    table = folder / Path(next(named, "")).name
    if not table.is_file() or (given != folder and given.name not in files):
        return []
    mapped = table.with_suffix(MAP)
    return [table, *([mapped] if table.suffix == ".item" and mapped.is_file() else []), folder / RECORD]


def _item_order(table: Path, *others: Path) -> list[str]:
    """The item ids of the table of `files_of_order`."""
    if table.suffix == ".parquet":
        return [as_id(str(next(iter(row.values())))) for _, row in typed_rows(table)]
    written = [as_id(row[0]) for _, row in table_rows(table)][1:]
    own = read_json(others[0], "{}").get("items", {}) if len(others) == 2 else {}
    return [own.get(item, item) for item in written]
