"""Tables: interactions (user, item, time [, rating]) as text or typed columns, items as tables, JSON lines or JSON."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources.base import Interactions, Items, by_rows
from bbqrec_cli.data.sources.divided import check_order, parts_of_files, say_order
from bbqrec_cli.data.sources.files import (
    TABLES,
    TYPED,
    as_field,
    fields_of,
    read_items,
)
from bbqrec_cli.data.sources.opening import COMPRESSED, expanded
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.paths import find_file
from bbqrec_cli.data.sources.pictures import find_pictures, pictures_of, read_pictures
from bbqrec_cli.data.sources.registry import published_source
from bbqrec_cli.data.sources.table_log import Log
from bbqrec_cli.errors import MissingFileError, UsageError
from bbqrec_cli.progress import SILENT, Progress

LOG_FILES = (*TABLES, *(f".jsonl{more}" for more in ("", *COMPRESSED)), *TYPED)
ITEM_FILES = (*LOG_FILES, *(f".json{more}" for more in ("", *COMPRESSED)))
PICTURE_FIELDS = ("image", "picture", "image_path", "poster")
"""Fields that may hold a picture's path, relative to the items file; used unless --images names a folder."""


class InteractionTable:
    """PATHS: files of interactions, or a folder with interactions.csv (.parquet, …), items.* and a folder of pictures.

    Raises:
        UsageError: no path, or a folder and more.
        MissingFileError, DataError: no such file, or a pattern that fits none; no interactions in the folder, or
            several files of them.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: TableOptions, *, seed: int, progress: Progress) -> None:
        found = expanded(paths)
        folder = next((path for path in found if path.is_dir()), None)
        if not found or (folder and len(found) > 1):
            what = f"prepare table needs files, or one folder; there are {len(found)} paths"
            raise UsageError(what, "bbqrec prepare table interactions.csv --items items.csv")
        for path in found:
            if not path.exists():
                raise MissingFileError(f"{path}: no such file", "check the name, or give it in full")
        self._tables = [_interactions_of(folder)] if folder else found
        self._log = Log(self._tables, options, progress)
        self._options, self._seed, self._progress = options, seed, progress
        self.divided = options.split_column is not None
        self._items = options.items or (find_file(folder, "items", ITEM_FILES) if folder else None)
        if folder and not self._items and (beside := self._tables[0].with_suffix(".item")).is_file():
            self._items = beside
        self.images = options.images or find_pictures(folder)
        self.files = [*self._tables, *([self._items] if self._items else [])]

    def divide(self) -> None:
        """Read the three files as the training, validation and test part of a split.

        Raises:
            UsageError: there are not three, or their names say another order.
        """
        check_order(self._tables)
        self._log.divided = self.divided = True

    def interactions(self) -> Interactions:
        """Each user's interactions by time, or with --order file as they stand.

        Raises:
            DataError: a missing column, a malformed line, an empty file.
        """
        options, log = self._options, self._log
        if not self.divided and parts_of_files(self._tables):
            names = ", ".join(path.name for path in self._tables)
            self._progress.warn(f"{names} are read as one log; --split given reads them as the parts of a split")
        users, items, times, parts = log.read()
        if times is None:
            made = by_rows(users, items, parts=parts)
        else:
            log.say_times(times, users, items)
            made = by_rows(
                users, items, times.values, per_second=times.per_second, ties=options.ties, seed=self._seed,
                parts=parts,
            )  # fmt: skip
        say_order(made, log.name, self._progress)
        return dataclasses.replace(made, left_out={"ratings": log.low}) if log.low else made

    def items(self, item_ids: list[str]) -> Items:
        """Fields of the items file; pictures from the folder, or from the paths in the items file."""
        fields: dict[str, list[str]] = {}
        images: Sequence[bytes] = []
        if self._items:
            known = read_items(self._items, id_column=self._options.item_column or self._log.item_column)
            pictures = {} if self.images else named_pictures(known, self._items, self._progress)
            fields = fields_of(item_ids, known, self._items, self._progress)
            if pictures:
                images = read_pictures(pictures, item_ids, self._items, self._progress)
        if self.images:
            images = pictures_of(self.images, item_ids, self._progress)
        return Items(fields=fields, images=images)

    def named_files(self) -> list[Path]:
        """Pictures that the items file names."""
        if not self._items or self.images:
            return []
        known = read_items(self._items, id_column=self._options.item_column or self._log.named_item())
        return list(named_pictures(known, self._items, SILENT).values())


def _interactions_of(folder: Path) -> Path:
    """The interactions file of a folder: interactions.csv and the like, or its one .inter file.

    Raises:
        MissingFileError: there is none; the hint names the tables that there are.
        DataError: there are several.
    """
    if found := find_file(folder, "interactions", LOG_FILES):
        return found
    atomic = sorted(folder.glob("*.inter"))
    if len(atomic) == 1:
        return atomic[0]
    if source := published_source(folder):
        what = f"{folder}: no interactions.csv in it; it looks like what prepare {source} reads"
        raise MissingFileError(what, f"bbqrec prepare {source} {shlex.quote(str(folder))}")
    there = [path for path in sorted(folder.iterdir()) if path.name.endswith((*LOG_FILES, ".inter", ".dat"))]
    hint = f"bbqrec prepare table {shlex.quote(str(there[0]))}" if there else "give the file"
    if len(there) > 1:
        hint = f"name one of {', '.join(path.name for path in there[:5])}: bbqrec prepare table FILE --items FILE"
        hint += f"; or all: bbqrec prepare table {shlex.quote(f'{folder}/*{there[0].suffix}')}"
    raise MissingFileError(f"{folder}: no interactions.csv, .tsv, .parquet, … and no .inter in it", hint)


def named_pictures(known: dict[str, dict[str, Any]], file: Path, progress: Progress) -> dict[str, Path]:
    """Item id -> picture, by the paths in the items file `file`, relative to it; the field is removed from `known`."""
    names = sorted({name for row in known.values() for name in row if name.casefold() in PICTURE_FIELDS})
    names.sort(key=lambda name: PICTURE_FIELDS.index(name.casefold()))
    column = next((c for c in names if any(as_field(row.get(c)) for row in known.values())), None)
    if column is None:
        return {}
    paths = {item: path for item, row in known.items() if (path := as_field(row.get(column)))}
    if any("://" in path for path in paths.values()):
        progress.warn(f"{file.name}: its field {column!r} holds URLs; pictures are not downloaded")
        return {}
    for row in known.values():
        row.pop(column, None)
    if any(path.startswith("data:") for path in paths.values()):
        progress.warn(f"{file.name}: its field {column!r} holds pictures, not their paths; it is left out")
        return {}
    return {item: file.parent / path for item, path in paths.items()}
