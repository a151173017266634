"""Files of interactions together as one log. n interactions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from bbqrec_cli.data.sources import cells
from bbqrec_cli.data.sources import times as clock
from bbqrec_cli.data.sources.blocks import Block, Row
from bbqrec_cli.data.sources.cells import Ids
from bbqrec_cli.data.sources.columns import USUAL, Columns, find, plain_name
from bbqrec_cli.data.sources.divided import NO_PART, parts_of_names
from bbqrec_cli.data.sources.files import called, check_header
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.tables import Table, open_table
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import Progress

Named = tuple[list[str], np.ndarray]
"""Distinct ids, and the row (n,) of each interaction's among them."""
_EXAMPLE = "it should start like this: user,item,timestamp and, on the next line, u1,i1,978300019"
_TIMES = "seconds, milliseconds, … since 1970, or dates such as 2014-07-01 or 2014-07-01 12:00:00"
_FLOAT = re.compile(r"[0-9]+\.0")
_COMMA = re.compile(r"[0-9]+,[0-9]+")
_DAY_FIRST = re.compile(r"[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}\b")
_CORRECT = "correct or remove the line"


class Log:
    """The interactions of some files.

    name: the files, for messages; item_column: the name of the items' column, once it is known; low: interactions that
    are left out for their rating; divided: whether the files are the parts of a split.

    Raises:
        UsageError: a separator that cannot be one.
    """

    def __init__(self, paths: list[Path], options: TableOptions, progress: Progress) -> None:
        self._paths, self._options, self._progress = paths, options, progress
        self._between = {"tab": "\t", "\\t": "\t"}.get(options.separator or "", options.separator)
        if self._between is not None and (not self._between or set(self._between) & set('"\r\n')):
            raise UsageError(f"--separator {self._between!r} cannot separate cells", "--separator ';'")
        self.name = paths[0].name + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")
        self.item_column: str | None = None
        self.low = 0
        self.divided = False
        self._ids: dict[str, Ids] = {}
        self._part_names = Ids()
        self._dates: bool | None = None
        self._floats: set[str] = set()

    def read(self) -> tuple[Named, Named, clock.Times | None, np.ndarray | None]:
        """Users, items, times (None with --order file) and parts of a split ((n,) uint8, or None if the data name none)
        in the order of the files and their lines.

        Raises:
            DataError: a missing column, other columns than the first file's, a malformed line, no interactions.
        """
        self._ids, self._dates, self.low = {"user": Ids(), "item": Ids()}, None, 0
        rows: dict[str, list[np.ndarray]] = {"user": [], "item": [], "split": []}
        values: list[np.ndarray] = []
        units: list[int] = []
        for place, (table, columns) in enumerate(self._tables()):
            for block in filter(len, table.blocks(columns.found, nameless=columns.nameless)):
                found, times, per_second = self._checked(table, columns, block)
                if self.divided:
                    found["split"] = np.full(len(times), place, np.uint8)
                for role, part in found.items():
                    rows[role].append(part)
                values.append(times)
                units.append(per_second)
        if not sum(map(len, rows["user"])):
            minimum = self._options.min_rating
            rated, hint = ("", _EXAMPLE) if minimum is None else (f" rated {minimum:g} or better", "lower --min-rating")
            raise DataError(f"{self._paths[0]}: no interactions{rated} in it", hint)
        users, items = ((ids.names, np.concatenate(rows.pop(role))) for role, ids in self._ids.items())
        parts = np.concatenate(rows["split"]) if rows["split"] else None
        self._ids = {}  # as large as all distinct ids
        self._say_floats(users[0], items[0])
        if self._options.order == "file":
            return users, items, None, parts
        if not self._dates:
            found_times = clock.resolved(np.concatenate(values), dates=False, unit=self._options.time_unit)
            return users, items, found_times, parts
        finest = max(units)  # files may have other parts of a second
        for place, unit in enumerate(units):
            if unit < finest:
                values[place] = values[place] * (finest // unit)
        clock.check_no_unit(self._options.time_unit)
        return users, items, clock.Times(np.concatenate(values), finest, "dates"), parts

    def _say_floats(self, users: list[str], items: list[str]) -> None:
        for role, names in (("user", users), ("item", items)):
            if all(map(_FLOAT.fullmatch, names)):
                self._progress.warn(
                    f"{self.name}: the ids of {role}s look like {names[0]}, as pandas writes whole numbers beside "
                    "missing ones; they are kept as they are, and other files must have the same"
                )

    def say_times(self, times: clock.Times, users: Named, items: Named) -> None:
        """Say how times were read, and warn of implausible ones."""
        span = times.span
        years = f", of the year{'' if span.isdecimal() else 's'} {span}" if span else ""
        self._progress.log(f"{self.name}: times are read as {times.what}{years}")
        strange = times.implausible()
        if count := int(strange.sum()):
            row = int(strange.argmax())
            (user_ids, user_rows), (item_ids, item_rows) = users, items
            unit = "" if self._dates else "; is --time-unit right?"
            self._progress.warn(
                f"{self.name}: {count:,} of {len(strange):,} times are of implausible years, the first of "
                f"{times.year(times.values[row].item())} (user {user_ids[user_rows[row]]}, "
                f"item {item_ids[item_rows[row]]}){unit}"
            )

    # One block

    def _checked(self, table: Table, columns: Columns, block: Block) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
        """Rows of users and items, and parts if a column has them, of the interactions that are kept, their times
        (zeros without), and what is a second.

        Raises:
            DataError: the first row with a cell that is missing or cannot be read.
        """
        bad: dict[str, np.ndarray] = {}
        rows: dict[str, np.ndarray] = {}
        for role, ids in self._ids.items():
            texts = cells.ids(block.columns[role])
            rows[role] = ids.rows(texts.fill_null(""))
            bad[role] = rows[role] == ids.row_of_nothing
        times, per_second = np.zeros(len(block), np.int64), 1
        if "time" in block.columns:
            times, per_second, bad["time"] = self._times(block.columns["time"])
        if "split" in block.columns:
            names = self._part_names.rows(cells.ids(block.columns["split"]).fill_null(""))
            rows["split"] = parts_of_names(self._part_names.names)[names]
            bad["split"] = rows["split"] == NO_PART
        keep: np.ndarray | slice = slice(None)
        if "rating" in block.columns:
            ratings = cells.numbers(block.columns["rating"])
            bad["rating"] = ~np.isfinite(ratings)
            keep = ratings >= self._options.min_rating
            self.low += int((~keep).sum())
        found = [(int(wrong.argmax()), place, role) for place, (role, wrong) in enumerate(bad.items()) if wrong.any()]
        if found:
            row, _, role = min(found)
            raise self._wrong(table, columns, block.row(row), role, times[row])
        for role in block.floats - self._floats:
            name = _names(table, columns)[columns.found[role]]
            self._progress.log(f"{table.path.name}: {name} holds floats; an id such as 12.0 is read as 12")
            self._floats.add(role)
        return {role: part[keep] for role, part in rows.items()}, times[keep], per_second

    def _times(self, column: pl.Series) -> tuple[np.ndarray, int, np.ndarray]:
        """Times, how many are a second, and where there is none of the kind of the first one: (n,) each."""
        dated = column.dtype.is_temporal()
        if self._dates is None:
            first = column[0]
            plain = isinstance(first, str)
            self._dates = clock.date(first) is not None and clock.number(first) is None if plain else dated
        values, per_second = cells.times(column, dates=bool(self._dates))
        bad = ~(values >= 0) | (values >= 2.0**63)
        if column.dtype != pl.String and dated != self._dates:
            bad[:] = True
        return values, per_second, bad

    def _wrong(self, table: Table, columns: Columns, row: Row, role: str, time: float) -> DataError:
        """The error for a cell that cannot be read."""
        name, cell = _names(table, columns)[columns.found[role]], row.cells[role]
        where, shown = f"{table.path}, {row.where}", "empty" if cell is None else repr(cell)
        if role in self._ids and (cell is None or not str(cell).strip()):
            return DataError(f"{where}: no {name} in {row.all}", _CORRECT)
        if role in self._ids and isinstance(cell, pl.Series):
            hint = f"bbqrec prepare huggingface {shlex.quote(str(table.path))} reads a row per user"
            return DataError(f"{where}: {name} holds lists; a row per interaction is needed", hint)
        if role in self._ids:
            return DataError(f"{where}: {name} is {shown}; an id is a text or a whole number", _CORRECT)
        if role == "split":
            needed = "train, valid (validation, dev) or test is needed, in any case"
            return DataError(f"{where}: {name} is {shown}; {needed}", _CORRECT)
        if role == "rating":
            comma = _COMMA.fullmatch(str(cell).strip())
            hint = f"{str(cell).strip().replace(',', '.')} with a point, in all lines, or leave --min-rating out"
            return DataError(f"{where}: {name} is {shown}; a number is needed", hint if comma else _CORRECT)
        kind = "a date like the first one" if self._dates else "a number or a date"
        if _DAY_FIRST.match(str(cell).strip()):
            turn = r"where days come first, sed -E 's/([0-9]{2})[./]([0-9]{2})[./]([0-9]{4})/\3-\2-\1/'"
            return DataError(f"{where}: {name} is {shown}; {kind} is needed", f"the year first; {turn}")
        negative = time < 0 or str(cell).strip().startswith("-")
        return DataError(f"{where}: {name} is {shown}; {'1970 or later' if negative else kind} is needed", _TIMES)

    # Columns

    def named_item(self) -> str | None:
        """The name of the items' column by the first file's header; None without names. Raises: DataError."""
        next(self._tables(), None)
        return self.item_column

    def _tables(self) -> Iterator[tuple[Table, Columns]]:
        """Each file with its columns. Says what is not plain in the first one."""
        first: Table | None = None
        nameless = False
        for path in self._paths:
            table = open_table(path, self._between)
            if not table.header:
                what = "empty; a line with the names of the columns is needed first"
                raise DataError(f"{path}: {what}", _EXAMPLE)
            columns = self._columns(table)
            if first is None:
                self._say_columns(table, columns)
                self._say_ratings(table, columns)
            elif (odd := _differ(first, table, columns, nameless=nameless)) is not None:
                hint = "all files need the same columns; leave it out, or rename its columns"
                raise DataError(f"{path}: {odd} of {first.path.name}", hint)
            first = first or table
            nameless = columns.nameless
            yield table, columns

    def _columns(self, table: Table) -> Columns:
        """What the columns are. Raises: DataError: one that is missing."""
        options = self._options
        named = {"user": options.user_column, "item": options.item_column}
        named |= {} if options.order == "file" else {"time": options.time_column}
        named |= {} if options.min_rating is None else {"rating": options.rating_column}
        named |= {"split": options.split_column} if options.split_column else {}
        columns = find(table.header, named)
        if columns.nameless and table.kind != "text":
            columns = Columns({}, tuple(named))
        if columns.missing:
            raise self._lacking(table, columns.missing, named)
        for place, header in enumerate(table.header):
            roles = [role for role, of in columns.found.items() if of == place]
            if len(roles) > 1:
                what = f"{table.path}: the column {header[:40]!r} is read as {' and '.join(roles)}"
                raise UsageError(what, " ".join(f"--{role}-column NAME" for role in roles))
        if not columns.nameless:
            check_header(f"{table.path}, line {table.line}", table.header)
        return columns

    def _say_columns(self, table: Table, columns: Columns) -> None:
        name, header, found = table.path.name, table.header, columns.found
        if columns.nameless:
            order = ", ".join(f"{place + 1} {role}" for role, place in found.items())
            self._progress.warn(
                f"{name}: no line of names; its columns are read as {order}; "
                "--user-column 2 --item-column 1 would swap the first two"
            )
            return
        self.item_column = plain_name(header[found["item"]])
        usual = [header[place] for place in found.values()] == [USUAL.get(role, ("",))[0] for role in found]
        if not usual or table.between not in ",\t":
            read = ", ".join(f"{header[place]} ({role})" for role, place in found.items())
            split = f", separated by {called(table.between)}" if table.kind == "text" else ""
            self._progress.log(f"{name}: columns{split}: {read}")

    def _say_ratings(self, table: Table, columns: Columns) -> None:
        """Say that there are ratings, where no option uses them."""
        rated = find(table.header, {"rating": self._options.rating_column}).found.get("rating")
        if rated is not None and "rating" not in columns.found:
            what = f"its ratings (column {_names(table, columns)[rated]}) are not used: every rating is an interaction"
            self._progress.log(f"{table.path.name}: {what}; --min-rating leaves out lower ones")

    def _lacking(self, table: Table, missing: tuple[str, ...], named: Mapping[str, str | None]) -> DataError:
        """The error that lists all columns that are missing, with one command to paste. named: as of `find`."""
        names = ", ".join(repr(name[:40]) for name in table.header[:20])
        lacking = ", ".join(f"{role} ({named[role]!r})" if named[role] else role for role in missing)
        lacking = f"no column for {lacking}"
        there = {
            "text": f", line 1: {lacking}; split at {called(table.between)}, the first line has",
            "json": f", line {table.line}: {lacking}; the first object has",
            "typed": f": {lacking}; the columns are",
        }[table.kind]
        command = f"bbqrec prepare table {shlex.quote(str(table.path))}"
        flags = [f"--{role}-column {shlex.quote(name)}" for role, name in named.items() if name and role not in missing]
        flags += [f"--{role}-column NAME" for role in missing]
        hint = " ".join([command, *flags])
        if len(table.header) == 1 and table.kind == "text":
            return DataError(f"{table.path}{there} {names}", f"{command} --separator CHARACTERS")
        if "time" in missing:
            others = [flag for flag in flags if not flag.startswith("--time")]
            hint += f"; without times: {' '.join([command, *others, '--order file'])}"
        if len(missing) == 3 and called(table.between) == "spaces":
            hint += f"; lines of a user and its items: bbqrec prepare s3rec {shlex.quote(str(table.path))}"
        return DataError(f"{table.path}{there} {names}", hint)


def _names(table: Table, columns: Columns) -> list[str]:
    return [str(place + 1) for place in range(len(table.header))] if columns.nameless else table.header


def _differ(first: Table, table: Table, columns: Columns, *, nameless: bool) -> str | None:
    """What is odd about the columns of a further file; None if they are those of the first one. nameless: whether the
    first one has no line of names."""
    if "json" in (first.kind, table.kind):
        return None  # objects may lack fields
    if columns.nameless != nameless:
        return f"has {'no' if columns.nameless else 'a'} line of names, unlike the columns"
    if columns.nameless:
        counts = len(table.header), len(first.header)
        return None if counts[0] == counts[1] else f"has {counts[0]} columns, not the {counts[1]}"
    ours, theirs = (set(map(plain_name, each.header)) for each in (table, first))
    if ours == theirs:
        return None
    odd = {"lacks": sorted(theirs - ours), "has": sorted(ours - theirs)}
    parts = [f"{what} {', '.join(map(repr, names[:5]))}" for what, names in odd.items() if names]
    return f"{' and '.join(parts)}, unlike the columns"
