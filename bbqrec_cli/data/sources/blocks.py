"""Rows of a log in blocks, and where each comes from. n rows of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl

from bbqrec_cli.errors import DataError

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


def gathered(rows: Iterator[tuple[int, list[str]]], places: Mapping[str, int]) -> Iterator[Block]:
    """Blocks of (line, cells); see `chunks`."""
    for numbers, cells in chunks(rows):
        yield Block(
            {role: pl.Series([row[place] for row in cells], dtype=pl.String) for role, place in places.items()},
            lambda row, numbers=numbers, cells=cells: Row(  # type: ignore[misc]
                f"line {numbers[row]}", cells[row], {role: cells[row][place] for role, place in places.items()}
            ),
        )


def chunks(rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[list[int], list[Any]]]:
    """Some numbers and rows at a time. What the iterator raises is raised once the rows before it are given."""
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
