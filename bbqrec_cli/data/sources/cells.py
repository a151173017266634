"""Cells of a column, of whatever type, as ids, times and numbers; and ids as rows. n cells.

What is certain is read by polars. Every other cell goes through the functions of `times`, once per distinct text, so
that the values are those that they give.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from bbqrec_cli.data.sources import times as clock
from bbqrec_cli.data.sources.files import EXACT, EXACT_IN_32, as_id
from bbqrec_cli.data.sources.typed import as_written

_WHOLE = r"^[0-9]{1,18}$"
_DECIMAL = r"^[0-9]{1,15}(\.[0-9]{1,15})?$"
_DATE_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-5][0-9]:[0-5][0-9]$"


def ids(column: pl.Series) -> pl.Series:
    """(n,) texts: integers, and floats and decimals that are whole, in decimal; null for what is no id."""
    kind = column.dtype
    if kind.is_float():
        whole = (column == column.floor()) & (column.abs() < (EXACT if kind == pl.Float64 else EXACT_IN_32))
        return column.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
    if kind.is_decimal():
        whole = column.cast(pl.Int64, strict=False)
        return whole.set((whole.cast(kind, strict=False) != column).fill_null(True), None).cast(pl.String)
    if kind == pl.Binary:
        return pl.Series(column.name, [_decoded(cell) for cell in column], pl.String)
    if kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum):
        return column.cast(pl.String, strict=False)
    return pl.Series(column.name, [None] * len(column), pl.String)


def _decoded(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def numbers(column: pl.Series) -> np.ndarray:
    """(n,) int64 if all are whole, else float64, NaN for what is no number. They may be negative or infinite."""
    kind = column.dtype
    if kind.is_decimal() and not kind.scale:  # type: ignore[attr-defined]
        column = column.cast(pl.Int64, strict=False)
    elif kind == pl.String:
        return _of_texts(column, _WHOLE, lambda texts: texts.cast(pl.Int64), _float)
    elif not kind.is_numeric():
        return np.full(len(column), math.nan)
    if kind == pl.Float32:
        column = as_written(column.to_frame()).to_series()
    if column.dtype.is_integer() and not column.null_count():
        small = column.dtype != pl.UInt64 or not len(column) or column.max() <= clock.LATEST  # type: ignore[operator]
        if small:
            return column.cast(pl.Int64).to_numpy()
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def times(column: pl.Series, *, dates: bool) -> tuple[np.ndarray, int]:
    """(n,) int64 or float64, and how many of them are a second (1 for numbers, whose unit is not known yet).

    NaN for what is no time; what is before 1970 is negative, or NaN. dates: whether texts are dates.
    """
    kind = column.dtype
    if kind == pl.Date or kind == pl.Datetime:
        unit = kind.time_unit if kind == pl.Datetime and kind.time_unit == "ns" else "us"  # type: ignore[attr-defined]
        since = column.cast(pl.Datetime("ns" if unit == "ns" else "us")).to_physical()
        return _nan_for_null(since), clock.UNITS[unit]
    if kind != pl.String:
        return numbers(column), 1
    if not dates:
        return _of_texts(column, _WHOLE, lambda texts: texts.cast(pl.Int64), clock.number, _DECIMAL), 1
    return _of_texts(column, _DATE_TIME, _date_times, clock.date), clock.UNITS["us"]


def _date_times(texts: pl.Series) -> pl.Series:
    made = texts.str.replace("T", " ", literal=True).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    since = made.to_physical()
    return since.set((since < 0).fill_null(False), None)  # the year 0 is no date in Python


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _of_texts(
    column: pl.Series, certain: str, read: Callable[[pl.Series], pl.Series], one: Callable, decimal: str = ""
) -> np.ndarray:
    """Values of texts: by `read` those that match `certain`, as floats those that match `decimal`, by `one` others."""
    column = column.fill_null("")
    sure = column.str.contains(certain)
    if sure.all() and not (made := read(column)).null_count():
        return made.to_numpy()
    if decimal and column.str.contains(decimal).all():
        return column.cast(pl.Float64).to_numpy()
    distinct = column.unique()
    values = _array([one(text) for text in distinct.to_list()])
    known = pl.DataFrame({"text": distinct, "place": np.arange(len(distinct))})
    places = pl.DataFrame({"text": column}).join(known, on="text", how="left", maintain_order="left")["place"]
    return values[places.to_numpy()]


def _array(values: list[int | float | None]) -> np.ndarray:
    """(n,) int64 if all are ints, else float64 with NaN for None."""
    return np.asarray([math.nan if value is None else value for value in values])


def _nan_for_null(column: pl.Series) -> np.ndarray:
    return (column.cast(pl.Float64).fill_null(math.nan) if column.null_count() else column).to_numpy()


class Ids:
    """Texts -> rows, spaces folded as in `as_id`. Texts are compared by polars; only distinct ones become Python's."""

    def __init__(self) -> None:
        self._categories = pl.Categories.random(physical=pl.UInt32)
        self._kind = pl.Categorical(self._categories)
        self._kept = pl.Series([], dtype=self._kind)  # as long as it lives, the categories do
        self._found: dict[str, int] = {}
        self._row_of = np.empty(0, np.int32)
        self._known = 0

    @property
    def names(self) -> list[str]:
        """The ids in the order of their rows, which is any."""
        return list(self._found)

    @property
    def row_of_nothing(self) -> int:
        """The row of '', which is no id; -1 if it never came."""
        return self._found.get("", -1)

    def rows(self, texts: pl.Series) -> np.ndarray:
        """(n,) int32: the row of each text, without null."""
        codes = texts.cast(self._kind).to_physical().to_numpy()
        count = int(codes.max()) + 1 if len(codes) else 0
        if count > self._known:
            if count > len(self._row_of):
                self._row_of = np.resize(self._row_of, max(1024, 2 * count))
            for code in range(self._known, count):
                name = as_id(str(self._categories[code]))
                self._row_of[code] = self._found.setdefault(name, len(self._found))
            self._known = count
        return self._row_of[codes]
