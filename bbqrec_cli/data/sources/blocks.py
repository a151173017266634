"""Files of interactions as blocks of rows: text, JSON lines, Parquet and Arrow. n rows of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from bbqrec_cli.data.sources.files import JSON_LINES, is_typed, json_lines, lines, quotes, separator, table_rows
from bbqrec_cli.data.sources.opening import plain_suffix
from bbqrec_cli.errors import DataError

ROWS = 1 << 20
"""Rows of a block of typed columns."""
_SLOW_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class Row:
    """A row for a message. where: 'line 7' or 'row 7'; all: its cells; cells: those of the columns that are read."""

    where: str
    all: Any
    cells: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Block:
    """columns: what a column is for -> (n,) cells; row: number of a row -> the row, for a message; floats: the ids that
    are written as floats."""

    columns: dict[str, pl.Series]
    row: Callable[[int], Row]
    floats: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.columns["user"])


@dataclass(frozen=True, eq=False)
class Table:
    """A file of interactions.

    kind: text, json or typed; header: the first line's cells, the first object's keys, or the names of the columns;
    line: the header's line; between: what separates the cells of a text.
    """

    path: Path
    kind: str
    header: list[str]
    line: int = 1
    between: str = ","

    def blocks(self, places: Mapping[str, int], *, nameless: bool = False) -> Iterator[Block]:
        """The rows after the header, in order.

        Args:
            places: what a column is for -> its place in the header.
            nameless: the header is the first row.

        Raises:
            DataError: a row that cannot be read, once the rows before it are given; and the errors of `files.reading`.
        """
        names = {role: self.header[place] for role, place in places.items()}
        if self.kind == "typed":
            return _typed_blocks(self.path, names)
        if self.kind == "json":
            return _json_blocks(self.path, names)
        if quotes(self.between) and self.between.isascii():
            from bbqrec_cli.data.sources.text_blocks import text_blocks

            return text_blocks(self.path, len(self.header), self.between, places, skip=0 if nameless else 1)
        rows = table_rows(self.path, names=False, between=self.between)
        return gathered(islice(rows, 0 if nameless else 1, None), places)


def open_table(path: Path, between: str | None = None) -> Table:
    """The table in a file, whose kind its first bytes and its name tell.

    Args:
        between: what separates cells; None: see `files.separator`.

    Raises:
        DataError: a damaged file; and the errors of `files.reading`.
    """
    if is_typed(path):
        with _typed(path):
            return Table(path, "typed", _scan(path).collect_schema().names())
    if plain_suffix(path.name).endswith(JSON_LINES) or next((line for _, line in lines(path)), "").startswith("{"):
        line, first = next(json_lines(path), (0, {}))
        return Table(path, "json", list(first), line)
    between = separator(path) if between is None else between
    line, header = next(table_rows(path, names=False, between=between), (0, []))
    return Table(path, "text", header, line, between)


def gathered(rows: Iterator[tuple[int, list[str]]], places: Mapping[str, int]) -> Iterator[Block]:
    """Blocks of (line, cells). What the iterator raises is raised once the rows before it are given."""
    for numbers, cells in _chunks(rows):
        yield Block(
            {role: pl.Series([row[place] for row in cells], dtype=pl.String) for role, place in places.items()},
            lambda row, numbers=numbers, cells=cells: Row(  # type: ignore[misc]
                f"line {numbers[row]}", cells[row], {role: cells[row][place] for role, place in places.items()}
            ),
        )


def _chunks(rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[list[int], list[Any]]]:
    raised: DataError | None = None
    while raised is None:
        numbers, cells = [], []
        try:
            for number, row in islice(rows, _SLOW_ROWS):
                numbers.append(number)
                cells.append(row)
        except DataError as error:
            raised = error
        if numbers:
            yield numbers, cells
        elif raised is None:
            return
    raise raised


def _json_blocks(path: Path, names: dict[str, str]) -> Iterator[Block]:
    """Fields of JSON lines as texts; null where there is none, or what is no text and no number."""
    for numbers, objects in _chunks(json_lines(path)):
        values = {role: [row.get(name) for row in objects] for role, name in names.items()}
        columns = {
            role: pl.Series([_json_text(value, whole=role in ("user", "item")) for value in each], dtype=pl.String)
            for role, each in values.items()
        }
        floats = frozenset(r for r in ("user", "item") if any(isinstance(value, float) for value in values[r]))
        yield Block(
            columns,
            lambda row, numbers=numbers, objects=objects: Row(  # type: ignore[misc]
                f"line {numbers[row]}", objects[row], {role: objects[row].get(name) for role, name in names.items()}
            ),
            floats,
        )


def _json_text(value: Any, *, whole: bool) -> str | None:
    if isinstance(value, float) and whole:
        return str(int(value)) if value.is_integer() else None
    return value if isinstance(value, str) else repr(value) if type(value) in (int, float) else None


def _typed_blocks(path: Path, names: dict[str, str]) -> Iterator[Block]:
    first = 0
    with _typed(path):
        rows = _scan(path).select(list(dict.fromkeys(names.values())))
        for frame in rows.collect_batches(chunk_size=ROWS, maintain_order=True):
            columns = {role: frame[name] for role, name in names.items()}

            def row(row: int, first: int = first, columns: dict[str, pl.Series] = columns) -> Row:
                cells = {role: column[row] for role, column in columns.items()}
                return Row(f"row {first + row + 1}", cells, cells)

            yield Block(columns, row, frozenset(r for r in ("user", "item") if columns[r].dtype.is_float()))
            first += len(frame)


def read_typed(path: Path) -> pl.DataFrame:
    """A whole Parquet or Arrow file without its columns of bytes. Raises: DataError: a damaged file."""
    with _typed(path):
        return _scan(path).select(pl.exclude(pl.Binary)).collect()


def _scan(path: Path) -> pl.LazyFrame:
    with open(path, "rb") as stream:
        start = stream.read(6)
    if start == b"ARROW1":
        return pl.scan_ipc(path)
    if path.name.endswith(".parquet") or start.startswith(b"PAR1"):
        return pl.scan_parquet(path, glob=False)
    return pl.read_ipc_stream(path).lazy()


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        kind = "Parquet" if path.name.endswith(".parquet") else "Arrow"
        what = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: not a readable {kind} file ({what})", "make or copy it again") from error
