"""Tables: interactions as CSV or TSV (user, item, timestamp [, rating]), items as CSV, TSV, JSON lines or JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources.base import Interactions, Items, by_user
from bbqrec_cli.data.sources.files import (
    TABLES,
    as_field,
    fields_of,
    find_file,
    find_pictures,
    list_pictures,
    read_items,
    read_pictures,
    table_rows,
)
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import SILENT, Progress

ITEM_FILES = (*TABLES, ".jsonl", ".jsonl.gz", ".json", ".json.gz")
PICTURE_FIELDS = ("image", "picture", "image_path", "poster")
"""Fields that may hold a picture's path, relative to the items file; used unless --images names a folder."""
_LATEST = 2.0**53
_EXAMPLE = "it should start like this: user,item,timestamp and, on the next line, u1,i1,978300019"
_SECONDS = "seconds since 1970 are needed; convert dates"


class InteractionTable:
    """PATH: the interactions file, or a folder with interactions.csv (.tsv, .gz), items.* and a folder of pictures.

    Raises:
        UsageError: not one path.
        MissingFileError, DataError: no interactions in the folder, or several files of them.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: TableOptions, *, seed: int, progress: Progress) -> None:
        if len(paths) != 1:
            hint = "bbqrec prepare table interactions.csv --items items.csv"
            raise UsageError(f"prepare table needs one path; there are {len(paths)}", hint)
        folder = paths[0] if paths[0].is_dir() else None
        table = find_file(folder, "interactions", TABLES) if folder else paths[0]
        if table is None:
            raise MissingFileError(f"{folder}: no interactions.csv, .tsv, .csv.gz or .tsv.gz in it", "give the file")
        self._table, self._options, self._progress = table, options, progress
        self._items = options.items or (find_file(folder, "items", ITEM_FILES) if folder else None)
        self._images = options.images or find_pictures(folder)
        self.files = [self._table, *([self._items] if self._items else [])]

    def interactions(self) -> Interactions:
        """Each user's interactions by time; equal times keep the file's order.

        Raises:
            DataError: a missing column, a malformed line, an empty file.
        """
        users, items, times = [], [], []
        for user, item, time in self._rows():
            users.append(user)
            items.append(item)
            times.append(time)
        if not users:
            minimum = self._options.min_rating
            rated, hint = ("", _EXAMPLE) if minimum is None else (f" rated {minimum:g} or better", "lower --min-rating")
            raise DataError(f"{self._table}: no interactions{rated} in it", hint)
        return by_user(users, items, times)

    def _rows(self) -> Iterator[tuple[str, str, float]]:
        options, rows = self._options, table_rows(self._table)
        _, header = next(rows, (0, []))
        if not header:
            raise DataError(f"{self._table}: empty; a line with the names of the columns is needed first", _EXAMPLE)
        columns = [options.user_column, options.item_column, options.time_column]
        columns += [options.rating_column] if options.min_rating is not None else []
        for column in columns:
            if column not in header:
                what = f"{self._table}, line 1: no column {column!r}; the first line has {', '.join(map(repr, header))}"
                raise DataError(what, "name it with --user-column, --item-column, --time-column or --rating-column")
        at = [header.index(column) for column in columns]
        for number, row in rows:
            user, item, time, *rating = (row[i] for i in at)
            if not user or not item:
                what = f"{self._table}, line {number}: no {columns[0] if not user else columns[1]} in {row}"
                raise DataError(what, "correct or remove the line")
            seconds = self._number(number, options.time_column, time, _SECONDS)
            if not 0 <= seconds <= _LATEST:
                what = f"{self._table}, line {number}: {options.time_column} is {time}"
                raise DataError(f"{what}; 0 or more is needed", _SECONDS)
            if rating and self._number(number, options.rating_column, rating[0]) < float(options.min_rating or 0):
                continue
            yield user, item, seconds

    def _number(self, line: int, column: str, text: str, hint: str = "correct or remove the line") -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{self._table}, line {line}: {column} is {text!r}; a number is needed", hint)
        return value

    def items(self, item_ids: list[str]) -> Items:
        """Fields of the items file; pictures from the folder, or from the paths in the items file."""
        fields, images = {}, []
        if self._items:
            known = read_items(self._items, id_column=self._options.item_column)
            pictures = {} if self._images else named_pictures(known, self._items, self._progress)
            fields = fields_of(item_ids, known, self._items, self._progress)
            if pictures:
                images = read_pictures(pictures, item_ids, self._items, self._progress)
        if self._images:
            images = read_pictures(list_pictures(self._images), item_ids, self._images, self._progress)
        return Items(fields=fields, images=images)

    def named_files(self) -> list[Path]:
        """Pictures that the items file names."""
        if not self._items or self._images:
            return []
        known = read_items(self._items, id_column=self._options.item_column)
        return list(named_pictures(known, self._items, SILENT).values())


def named_pictures(known: dict[str, dict[str, Any]], file: Path, progress: Progress) -> dict[str, Path]:
    """Item id -> picture, by the paths in the items file `file`, relative to it; the field is removed from `known`."""
    column = next((c for c in PICTURE_FIELDS if any(as_field(row.get(c)) for row in known.values())), None)
    if column is None:
        return {}
    paths = {item: path for item, row in known.items() if (path := as_field(row.get(column)))}
    if any("://" in path for path in paths.values()):
        progress.warn(f"{file.name}: its field {column!r} holds URLs; pictures are not downloaded")
        return {}
    for row in known.values():
        row.pop(column, None)
    return {item: file.parent / path for item, path in paths.items()}
