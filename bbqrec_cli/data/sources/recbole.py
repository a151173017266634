"""RecBole's atomic files: tables with typed columns (`item_id:token`, `genre:token_seq`, `vector:float_seq`).

X.inter holds all interactions; X.train.inter, X.valid.inter and X.test.inter (RecBole's `benchmark_filename`) hold a
split of them, each target with the items before it as `item_id_list:token_seq`, or without: then a user's rows of a
file are ordered by their times, if there are any. I items, d width.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bbqrec_cli.config import flag
from bbqrec_cli.data.sources import columns
from bbqrec_cli.data.sources import times as clock
from bbqrec_cli.data.sources.base import Interactions, Items, by_user
from bbqrec_cli.data.sources.divided import say_order
from bbqrec_cli.data.sources.exported import MAP
from bbqrec_cli.data.sources.files import (
    as_id,
    between,
    check_header,
    fields_of,
    open_text,
    read_items,
    read_json,
    separator,
    table_rows,
)
from bbqrec_cli.data.sources.options.recbole import RecBoleOptions
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.paths import only_path
from bbqrec_cli.data.sources.pictures import find_pictures, pictures_of
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.data.sources.vectors import as_vector, features_of
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import LIST_SEPARATOR

TYPES = ("token", "token_seq", "float", "float_seq")
SPLITS = ("train", "valid", "test")
"""RecBole's names of the parts of a split, in the order of time."""
LIST_SUFFIX = "_list"
"""Ends the name of the column with the items before the target."""
_IGNORED = (".user", ".kg", ".link", ".net")
_EXAMPLE = "it should start like this: user_id:token<TAB>item_id:token<TAB>timestamp:float"
_SPLIT = "bbqrec makes its own split of whole sequences, the last item of each user for test: give X.inter instead"


class _Row(NamedTuple):
    """A row of a part of a split. before: the items before the target, None: it does not say; time: '' without."""

    user: str
    part: int
    line: int
    before: list[str] | None
    item: str
    time: str


class RecBole:
    """PATH: a folder with X.inter and, optionally, X.item; or with X.train.inter, X.valid.inter and X.test.inter; or
    one of these files.

    Raises:
        UsageError: not one path; options for ratings, or for equal times, with a split.
        MissingFileError, DataError: no such files, or those of several data sets.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: RecBoleOptions, *, seed: int, progress: Progress) -> None:
        path = only_path(paths, "recbole", "bbqrec prepare recbole FOLDER")
        folder, name, self._parts = _layout(path)
        self._options, self._progress = options, progress
        names = [each for each, _ in _header(self._parts[0])]
        place = columns.find(names, {"item": options.item_column}).found.get("item")
        self._item_name = "item_id" if place is None else names[place]
        beside = folder / f"{name}.item"
        self._items = options.items or (beside if beside.is_file() else None)
        self.images = options.images or find_pictures(path)
        mapped = folder / f"{name}{MAP}"
        self._map = _names(mapped) if mapped.is_file() else {}
        self.files = [*self._parts, *filter(None, [self._items]), *([mapped] if self._map else [])]
        if len(self._parts) > 1 and (given := _beside_defaults(options)):
            raise UsageError(f"{', '.join(map(flag, given))}: no effect on a split in three files", "leave it out")
        self._table = None if len(self._parts) > 1 else self._log(seed)
        ignored = [f"{name}{end}" for end in _IGNORED if (folder / f"{name}{end}").is_file()]
        if ignored:
            progress.log(f"{', '.join(ignored)}: not read; only interactions and items are used")

    def _log(self, seed: int) -> InteractionTable:
        """The reader of X.inter; without a column of times, the order is that of the lines."""
        given = {f.name: getattr(self._options, f.name) for f in dataclasses.fields(self._options)}
        names = [name for name, _ in _header(self._parts[0])]
        columns_of_time = columns.find(names, {"time": self._options.time_column}).found
        if given["order"] == "time" and self._options.time_column is None and not columns_of_time:
            self._progress.log(f"{self._parts[0].name}: no column of times; the order is that of the lines")
            given |= {"order": "file", "time_unit": "auto"}
        return InteractionTable(self._parts, TableOptions(**given), seed=seed, progress=self._progress)

    def interactions(self) -> Interactions:
        """Each user's interactions by time, or as the split's rows have them.

        Raises:
            DataError: a malformed line; a split that is not leave-last-out.
        """
        made = self._table.interactions() if self._table else self._joined()
        user_ids, item_ids = self._own("users", made.user_ids), self._own("items", made.item_ids)
        return dataclasses.replace(made, user_ids=user_ids, item_ids=item_ids)

    def _own(self, kind: str, written: list[str]) -> list[str]:
        """The ids that the map has for written ones."""
        return [self._map.get(kind, {}).get(name, name) for name in written]

    def _joined(self) -> Interactions:
        """The interactions whose leave-last-out split the three files are."""
        every = [row for part in range(len(self._parts)) for row in self._rows_of_part(part)]
        rows: dict[str, list[_Row]] = {}
        for row in every:
            rows.setdefault(row.user, []).append(row)
        sequences = {user: _sequence(user, of_user, self._parts) for user, of_user in rows.items()}
        count = sum(map(len, sequences.values()))
        names = ", ".join(path.name for path in self._parts)
        self._progress.log(f"{names}: {count:,} interactions; the last item of each user is the test target")
        times = self._times(every)
        if times is None:
            users = [user for user, items in sequences.items() for _ in items]
            return by_user(users, [item for items in sequences.values() for item in items])
        parts = np.array([row.part for row in every], np.uint8)
        users, items = [row.user for row in every], [row.item for row in every]
        made = by_user(users, items, times.values, per_second=times.per_second, parts=parts)
        say_order(made, names, self._progress)
        return dataclasses.replace(made, parts=None, moments=None)

    def _times(self, rows: list[_Row]) -> clock.Times | None:
        """The times of the rows of a split; None where they have none, or where lists say what was before.

        Raises:
            DataError: a time that is none, or before 1970.
        """
        if not any(row.time for row in rows) or any(row.before is not None for row in rows):
            return None
        values, dates = clock.of_texts([row.time for row in rows])
        if (wrong := clock.first_wrong(values)) is not None:
            row = rows[wrong]
            what = f"{self._parts[row.part]}, line {row.line}: the time is {row.time!r}"
            raise DataError(f"{what}; 1970 or later is needed", "correct it, or --order file, which reads no times")
        found = clock.resolved(values, dates=dates, unit=self._options.time_unit)
        self._progress.log(f"{self._parts[0].name} …: times are read as {found.what}")
        return found

    def _rows_of_part(self, part: int) -> Iterator[_Row]:
        """The rows of one part of a split."""
        path, options = self._parts[part], self._options
        names = [name for name, _ in _header(path)]
        wanted = {"user": options.user_column, "item": options.item_column}
        wanted |= {} if options.order == "file" else {"time": options.time_column}
        found = columns.find(names, wanted)
        missing = [role for role in found.missing if role != "time" or options.time_column]
        if missing:
            flags = " ".join(f"--{role}-column NAME" for role in missing)
            raise DataError(f"{path}, line 1: no column for {', '.join(missing)} among {', '.join(names)}", flags)
        user_at, item_at, time_at = (found.found.get(role) for role in ("user", "item", "time"))
        assert user_at is not None
        assert item_at is not None
        before = names[item_at] + LIST_SUFFIX
        list_at = names.index(before) if before in names else None
        for number, row in _rows(path):
            user, item = as_id(row[user_at]), as_id(row[item_at])
            if not user or not item:
                raise DataError(f"{path}, line {number}: no user or no item in {row}", "correct or remove the line")
            listed = None if list_at is None else row[list_at].split()
            yield _Row(user, part, number, listed, item, "" if time_at is None else row[time_at].strip())

    def items(self, item_ids: list[str]) -> Items:
        """Fields of X.item: those of type float_seq are precomputed features.

        Raises:
            DataError: a malformed line, a feature of different widths.
        """
        fields, features = {}, {}
        if self._items and self._items.name.endswith(".item"):
            known, vectors = self._typed_items(self._items)
            fields = fields_of(item_ids, known, self._items, self._progress)
            features = features_of(item_ids, vectors, str(self._items))
        elif self._items:
            known = read_items(self._items, id_column=self._item_name)
            fields = fields_of(item_ids, known, self._items, self._progress)
        return Items(fields=fields, images=pictures_of(self.images, item_ids, self._progress), features=features)

    def _typed_items(self, path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, np.ndarray]]]:
        """Item id -> fields; feature -> item id -> vector."""
        header = _header(path)
        names = [name for name, _ in header]
        place = columns.usual(names, (self._item_name, *columns.ITEM_ID))
        if place is None:
            raise DataError(f"{path}, line 1: no column of item ids among {', '.join(names)}", "--item-column NAME")
        own = self._map.get("fields", {})
        known: dict[str, dict[str, Any]] = {}
        vectors: dict[str, dict[str, np.ndarray]] = {}
        for number, row in _rows(path, self._progress):
            item = self._own("items", [as_id(row[place])])[0]
            if not item or item in known:
                what = "no item id" if not item else f"item {item!r} appears twice"
                raise DataError(f"{path}, line {number}: {what}", "keep one line per item")
            fields = known.setdefault(item, {})
            for at, (name, kind) in enumerate(header):
                name, cell = own.get(name, name), row[at]
                if at == place or not cell.strip():
                    continue
                if kind == "float_seq":
                    vectors.setdefault(name, {})[item] = _floats(cell, f"{path}, line {number}: {name}")
                else:
                    # RecBole's own sets have titles as sequences of words.
                    listed = kind == "token_seq" and between(name) == LIST_SEPARATOR
                    fields[name] = cell.split() if listed else cell
        return known, vectors


def _beside_defaults(options: RecBoleOptions) -> list[str]:
    """The options about ratings and equal rows that were given."""
    names = ("duplicates", "ties", "rating_column", "min_rating")
    return [name for name in names if getattr(options, name) != getattr(RecBoleOptions(), name)]


def _layout(path: Path) -> tuple[Path, str, list[Path]]:
    """(folder, X, its interaction files): X.inter, or else the three of a split."""
    if not path.exists():
        raise MissingFileError(f"{path}: no such file or folder", "check the name, or give it in full")
    folder = path if path.is_dir() else path.parent
    found = sorted(folder.glob("*.inter")) if path.is_dir() else [path]
    named = {each.name.removesuffix(".inter"): each for each in found}
    whole = {name: each for name, each in named.items() if not name.endswith(tuple(f".{part}" for part in SPLITS))}
    names = list(whole) or list(dict.fromkeys(name.rpartition(".")[0] for name in named))
    if not names:
        raise MissingFileError(f"{path}: no X.inter in it", "give the folder of RecBole's atomic files")
    if len(names) > 1:
        raise DataError(f"{path}: holds the data sets {', '.join(names)}", f"name one: {folder / names[0]}.inter")
    name = names[0]
    if whole:
        return folder, name, [whole[name]]
    parts = [folder / f"{name}.{part}.inter" for part in SPLITS]
    if missing := [each.name for each in parts if not each.is_file()]:
        raise MissingFileError(f"{folder}: no {', '.join(missing)}, and no {name}.inter", _SPLIT)
    return folder, name, parts


def _names(path: Path) -> dict[str, dict[str, str]]:
    """The map of written names to own ones."""
    example = '{"users": {"0": "…"}, "items": {}, "fields": {}}'
    found = read_json(path, example)
    for kind, names in found.items():
        if not isinstance(names, dict) or not all(isinstance(own, str) for own in names.values()):
            raise DataError(f"{path}: {kind!r} does not map names to names", example)
    return found


def _header(path: Path) -> list[tuple[str, str]]:
    """(name, type) of each column. Raises: DataError: an empty file, or a column without one of RecBole's types."""
    number, cells = next(table_rows(path), (0, []))
    if not cells:
        raise DataError(f"{path}: empty", _EXAMPLE)
    made = [(columns.plain_name(cell), cell.strip().rpartition(":")[2]) for cell in cells]
    for name, kind in made:
        if kind not in TYPES:
            what = f"{path}, line {number}: the column {name[:40]!r} has none of the types {', '.join(TYPES)}"
            raise DataError(what, f"{_EXAMPLE}; a table without types: bbqrec prepare table {shlex.quote(str(path))}")
    check_header(f"{path}, line {number}", [name for name, _ in made])
    return made


def _rows(path: Path, progress: Progress = SILENT) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the rows, with quotes as pandas reads them; as plain text where they are not balanced."""
    try:
        for _ in table_rows(path):
            pass
        rows = table_rows(path)
    except DataError:
        rows = _plain_rows(path)
        progress.log(f"{path.name}: double quotes in it are read as plain text")
    next(rows, None)
    yield from rows


def _plain_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    gap, width = separator(path), 0
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            row = line.rstrip("\r\n").split(gap)
            if not line.strip():
                continue
            width = width or len(row)
            if len(row) != width:
                raise DataError(f"{path}, line {number}: {len(row)} columns; the header has {width}", "correct it")
            yield number, row


def _floats(cell: str, where: str) -> np.ndarray:
    try:
        return as_vector(cell.split())
    except ValueError as error:
        raise DataError(f"{where} is {cell[:60]!r}; numbers with spaces between are needed") from error


def _sequence(user: str, rows: list[_Row], paths: list[Path]) -> list[str]:
    """A user's whole sequence.

    Raises:
        DataError: other than one validation and one test target after everything else, or items before a target that
            are not those of the sequence.
    """
    held = [sum(row.part == number for row in rows) for number in (1, 2)]
    made = [*(rows[0].before or []), *(row.item for row in rows)]
    # Of a user with fewer than three interactions, nothing is held out in either program.
    if held != [1, 1] and not (held == [0, 0] and len(made) < 3):
        what = f"user {user!r} has {held[0]} validation and {held[1]} test targets"
        raise DataError(f"{paths[2].parent}: {what}; one each is needed (leave-last-out)", _SPLIT)
    if held == [1, 1] and len(made) < 3:
        raise DataError(f"{paths[2].parent}: user {user!r} has a test target but no training item", _SPLIT)
    start = len(rows[0].before or [])
    for place, row in enumerate(rows, start=start):
        if row.before is not None and row.before != made[max(0, place - len(row.before)) : place]:
            what = f"the items before the target of user {user!r} are not those of the user's earlier rows"
            raise DataError(f"{paths[row.part]}, line {row.line}: {what}; no sequence can be made of them", _SPLIT)
    return made
