"""Tables: interactions (user, item, time [, rating]) with any separator, items as tables, JSON lines or JSON."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources import times as clock
from bbqrec_cli.data.sources.base import Interactions, Items, by_user, without_duplicates
from bbqrec_cli.data.sources.columns import USUAL, Columns, find, plain_name
from bbqrec_cli.data.sources.divided import parts_of_names, say_order
from bbqrec_cli.data.sources.files import (
    SEPARATORS,
    TABLES,
    as_field,
    as_id,
    check_header,
    fields_of,
    find_file,
    find_pictures,
    list_pictures,
    read_items,
    read_pictures,
    separator,
    table_rows,
)
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.registry import published_source
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import PARTS

ITEM_FILES = (*TABLES, ".jsonl", ".jsonl.gz", ".json", ".json.gz")
PICTURE_FIELDS = ("image", "picture", "image_path", "poster")
"""Fields that may hold a picture's path, relative to the items file; used unless --images names a folder."""
_EXAMPLE = "it should start like this: user,item,timestamp and, on the next line, u1,i1,978300019"
_TIMES = "seconds, milliseconds, … since 1970, or dates such as 2014-07-01 or 2014-07-01 12:00:00"


class InteractionTable:
    """PATH: the interactions file, or a folder with interactions.csv (.tsv, .gz), items.* and a folder of pictures; or
    three files, the training, validation and test part of a split.

    Raises:
        UsageError: neither one path nor three.
        MissingFileError, DataError: no interactions in the folder, or several files of them.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: TableOptions, *, seed: int, progress: Progress) -> None:
        if len(paths) not in (1, 3):
            hint = "bbqrec prepare table interactions.csv --items items.csv; for data that are split already, bbqrec "
            hint += "prepare table train.csv valid.csv test.csv --split given"
            raise UsageError(f"prepare table needs one path; there are {len(paths)}", hint)
        if len(paths) == 3 and options.split_column:
            raise UsageError("--split-column needs one file; there are 3, which name their parts", "leave it out")
        folder = paths[0] if paths[0].is_dir() and len(paths) == 1 else None
        table = _interactions_of(folder) if folder else paths[0]
        if options.order == "file" and options.duplicates == "drop":
            raise UsageError("--duplicates drop compares times, and --order file reads none", "--duplicates first")
        self._table, self._options, self._seed, self._progress = table, options, seed, progress
        self._tables, self.divided = [table, *paths[1:]], len(paths) == 3 or options.split_column is not None
        self._items = options.items or (find_file(folder, "items", ITEM_FILES) if folder else None)
        if folder and not self._items and (beside := table.with_suffix(".item")).is_file():
            self._items = beside
        self._images = options.images or find_pictures(folder)
        self._item_name: str | None = None
        self.files = [*self._tables, *([self._items] if self._items else [])]

    def interactions(self) -> Interactions:
        """Each user's interactions by time, or with --order file as they stand.

        Raises:
            DataError: a missing column, a malformed line, an empty file.
        """
        options = self._options
        users, items, values, parts = [], [], [], []
        kinds = set()
        for name, table in zip(PARTS, self._tables, strict=False):
            self._table = table
            for user, item, time, part in self._rows():
                users.append(user)
                items.append(item)
                values.append(time)
                parts.append(part or name)
            kinds.add(self._dates)
        self._table = self._tables[0]
        if len(kinds) > 1:
            raise DataError("times are dates in some of the three files and numbers in others", _TIMES)
        if not users:
            minimum = options.min_rating
            rated, hint = ("", _EXAMPLE) if minimum is None else (f" rated {minimum:g} or better", "lower --min-rating")
            raise DataError(f"{self._table}: no interactions{rated} in it", hint)
        division = parts_of_names(parts, self._table, options.split_column or "part") if self.divided else None
        if options.order == "file":
            made = by_user(users, items, parts=division)
        else:
            found = clock.resolved(values, dates=self._dates, unit=options.time_unit)
            self._say_times(found, users, items)
            made = by_user(
                users, items, found.values, per_second=found.per_second, ties=options.ties, seed=self._seed,
                parts=division,
            )  # fmt: skip
        say_order(made, self._table.name, self._progress)
        return without_duplicates(made, options.duplicates, self._table.name, self._progress)

    def _say_times(self, found: clock.Times, users: list[str], items: list[str]) -> None:
        name, span = self._table.name, found.span
        years = f", of the year{'' if span.isdecimal() else 's'} {span}" if span else ""
        self._progress.log(f"{name}: times are read as {found.what}{years}")
        strange = found.implausible()
        if count := int(strange.sum()):
            row = int(strange.argmax())
            unit = "" if self._dates else "; is --time-unit right?"
            self._progress.warn(
                f"{name}: {count:,} of {len(strange):,} times are of implausible years, the first of "
                f"{found.years[row]} (user {users[row]}, item {items[row]}){unit}"
            )

    def _rows(self) -> Iterator[tuple[str, str, int | float, str]]:
        """(user, item, time, part) of each row; the time is 0 with --order file, the part '' without --split-column."""
        options = self._options
        columns, header, rows = self._columns()
        at = [columns.found[role] for role in ("user", "item")]
        time_at, rating_at, part_at = (columns.found.get(role) for role in ("time", "rating", "split"))
        self._dates = False
        for count, (number, row) in enumerate(rows):
            user, item = (as_id(row[i]) for i in at)
            if not user or not item:
                what = f"{self._table}, line {number}: no {header[at[0] if not user else at[1]]} in {row}"
                raise DataError(what, "correct or remove the line")
            if time_at is None:
                time: int | float = 0
            else:
                if count == 0:
                    self._dates = clock.date(row[time_at]) is not None and clock.number(row[time_at]) is None
                time = self._time(number, header[time_at], row[time_at])
            rating = math.inf if rating_at is None else self._number(number, header[rating_at], row[rating_at])
            if options.min_rating is None or rating >= options.min_rating:
                yield user, item, time, "" if part_at is None else row[part_at] or " "

    def _columns(self) -> tuple[Columns, list[str], Iterator[tuple[int, list[str]]]]:
        """The columns, their names, and the rows that follow. Says what is not plain."""
        options, rows = self._options, table_rows(self._table, names=False)
        number, header = next(rows, (0, []))
        if not header:
            raise DataError(f"{self._table}: empty; a line with the names of the columns is needed first", _EXAMPLE)
        named = {"user": options.user_column, "item": options.item_column}
        named |= {} if options.order == "file" else {"time": options.time_column}
        named |= {} if options.min_rating is None else {"rating": options.rating_column}
        named |= {"split": options.split_column} if options.split_column else {}
        columns = find(header, named)
        if columns.missing:
            raise self._lacking(header, columns.missing)
        if columns.nameless:
            order = ", ".join(f"{columns.found[role] + 1} {role}" for role in columns.found)
            self._progress.warn(
                f"{self._table.name}: no line of names; its columns are read as {order}; "
                "--user-column 2 --item-column 1 would swap the first two"
            )
            return columns, [str(place + 1) for place in range(len(header))], chain([(number, header)], rows)
        check_header(self._table, number, header)
        self._item_name = plain_name(header[columns.found["item"]])
        between = separator(self._table)
        if [header[place] for place in columns.found.values()] != [
            USUAL.get(role, ("",))[0] for role in columns.found
        ] or (between not in ",\t"):
            read = ", ".join(f"{header[place]} ({role})" for role, place in columns.found.items())
            self._progress.log(f"{self._table.name}: columns, separated by {SEPARATORS[between]}: {read}")
        return columns, header, rows

    def _lacking(self, header: list[str], missing: tuple[str, ...]) -> DataError:
        """The error that lists all columns that are missing, with one command to paste."""
        between = SEPARATORS[separator(self._table)]
        first = ", ".join(repr(name[:40]) for name in header[:20])
        what = f"no column for {', '.join(missing)}; split at {between}, the first line has {first}"
        command = f"bbqrec prepare table {shlex.quote(str(self._table))}"
        flags = [f"--{role}-column NAME" for role in missing]
        hint = " ".join([command, *flags])
        if "time" in missing:
            others = [flag for flag in flags if not flag.startswith("--time")]
            hint += f"; without times: {' '.join([command, *others, '--order file'])}"
        return DataError(f"{self._table}, line 1: {what}", hint)

    def _time(self, line: int, column: str, text: str) -> int | float:
        value = clock.date(text) if self._dates else clock.number(text)
        if value is None or value < 0:
            kind = "a date like the first one" if self._dates else "a number or a date"
            negative = value is not None or text.strip().startswith("-")
            what = "1970 or later is needed" if negative else f"{kind} is needed"
            raise DataError(f"{self._table}, line {line}: {column} is {text!r}; {what}", _TIMES)
        return value

    def _number(self, line: int, column: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            what = f"{self._table}, line {line}: {column} is {text!r}; a number is needed"
            raise DataError(what, "correct or remove the line")
        return value

    def items(self, item_ids: list[str]) -> Items:
        """Fields of the items file; pictures from the folder, or from the paths in the items file."""
        fields, images, pictures = {}, [], dict[str, Path]()
        if self._items:
            known = read_items(self._items, id_column=self._options.item_column or self._item_name)
            pictures = {} if self._images else named_pictures(known, self._items, self._progress)
            fields = fields_of(item_ids, known, self._items, self._progress)
            if pictures:
                images = read_pictures(pictures, item_ids, self._items, self._progress)
        if self._images:
            pictures = list_pictures(self._images)
            images = read_pictures(pictures, item_ids, self._images, self._progress)
        return Items(fields=fields, images=images, pictures=[*pictures.values()])

    def named_files(self) -> list[Path]:
        """Pictures that the items file names."""
        if not self._items or self._images:
            return []
        known = read_items(self._items, id_column=self._options.item_column)
        return list(named_pictures(known, self._items, SILENT).values())


def _interactions_of(folder: Path) -> Path:
    """The interactions file of a folder: interactions.csv and the like, or its one .inter file.

    Raises:
        MissingFileError: there is none; the hint names the tables that there are.
        DataError: there are several.
    """
    if found := find_file(folder, "interactions", TABLES):
        return found
    atomic = sorted(folder.glob("*.inter"))
    if len(atomic) == 1:
        return atomic[0]
    if source := published_source(folder):
        what = f"{folder}: no interactions.csv in it; it looks like what prepare {source} reads"
        raise MissingFileError(what, f"bbqrec prepare {source} {shlex.quote(str(folder))}")
    there = [path for path in sorted(folder.iterdir()) if path.name.endswith((*TABLES, ".inter", ".dat", ".parquet"))]
    hint = f"bbqrec prepare table {shlex.quote(str(there[0]))}" if there else "give the file"
    if len(there) > 1:
        hint = f"name one of {', '.join(path.name for path in there[:5])}: bbqrec prepare table FILE --items FILE"
    raise MissingFileError(f"{folder}: no interactions.csv, .tsv, .csv.gz, .tsv.gz and no .inter in it", hint)


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
