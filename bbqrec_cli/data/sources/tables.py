"""Files of interactions, whatever their kind: text, JSON lines, Parquet and Arrow. n rows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from bbqrec_cli.data.sources.blocks import Block, Row, chunks, gathered
from bbqrec_cli.data.sources.files import (
    JSON_LINES,
    is_typed,
    json_lines,
    lines,
    quotes,
    separator,
    table_rows,
    whole,
)
from bbqrec_cli.data.sources.opening import plain_suffix
from bbqrec_cli.data.sources.text_blocks import text_blocks
from bbqrec_cli.data.sources.typed import damage_of, scan
from bbqrec_cli.errors import DataError

ROWS = 1 << 20
"""Rows of a block of typed columns."""


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
        with damage_of(path):
            return Table(path, "typed", scan(path).collect_schema().names())
    start = next((line for _, line in lines(path)), "")
    if start == "[" or start.startswith("[{"):
        hint = f"such as: jq -c '.[]' {shlex.quote(str(path))} > interactions.jsonl"
        raise DataError(f"{path}: a JSON array; one object per line is needed", hint)
    if plain_suffix(path.name).endswith(JSON_LINES) or start.startswith("{"):
        line, first = next(json_lines(path), (0, {}))
        return Table(path, "json", list(first), line)
    between = separator(path) if between is None else between
    line, header = next(table_rows(path, names=False, between=between), (0, []))
    return Table(path, "text", header, line, between)


def _json_blocks(path: Path, names: dict[str, str]) -> Iterator[Block]:
    """Fields of JSON lines as texts; null where there is none, or what is no text and no number."""
    for numbers, objects in chunks(json_lines(path)):
        values = {role: [row.get(name) for row in objects] for role, name in names.items()}
        columns = {
            role: pl.Series([_json_text(value, is_id=role in ("user", "item")) for value in each], dtype=pl.String)
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


def _json_text(value: Any, *, is_id: bool) -> str | None:
    if isinstance(value, float) and is_id:
        return str(found) if isinstance(found := whole(value), int) else None
    if isinstance(value, str):
        return value if value.isascii() or _encodes(value) else None
    return repr(value) if type(value) in (int, float) else None


def _encodes(text: str) -> bool:
    """Whether it has no half of a surrogate pair."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _typed_blocks(path: Path, names: dict[str, str]) -> Iterator[Block]:
    first = 0
    with damage_of(path):
        rows = scan(path).select(list(dict.fromkeys(names.values())))
        for frame in rows.collect_batches(chunk_size=ROWS, maintain_order=True):
            columns = {role: frame[name] for role, name in names.items()}

            def row(row: int, first: int = first, columns: dict[str, pl.Series] = columns) -> Row:
                cells = {role: column[row] for role, column in columns.items()}
                return Row(f"row {first + row + 1}", cells, cells)

            yield Block(columns, row, frozenset(r for r in ("user", "item") if columns[r].dtype.is_float()))
            first += len(frame)
