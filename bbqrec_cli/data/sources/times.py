"""Times of a log: numbers since 1970 in a unit that is recognised, or dates. n rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from bbqrec_cli.errors import UsageError

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Unit of a number -> units per second."""
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
LATEST = 2**63 - 1
_FROM_MEDIAN = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": math.inf}
"""Unit -> where the next finer one begins: 1e11 s are the year 5138, 1e11 ms are 1973."""
_COUNTER = 1e7
"""Numbers that all stay below count rows: as seconds, they would end in April 1970."""
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Digits of a date without separators -> its form."""
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d|\d{8})(?:[ T](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?"
)
_FIRST_YEAR = 1990
_PART = 1 << 20
"""Times that are looked up at once."""
_FAR = 10**15
"""Seconds that NumPy can still turn into a year."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, eq=False)
class Times:
    """values (n,) int64 or float64, `per_second` of them per second since 1970; what: how they were read."""

    values: np.ndarray
    per_second: int
    what: str

    def year(self, time: int | float) -> int:
        """The year (UTC) of a time, also far beyond those of `datetime`."""
        seconds = np.datetime64(min(int(time // self.per_second), _FAR), "s")
        return int(seconds.astype("datetime64[Y]").astype(np.int64)) + 1970

    @property
    def span(self) -> str:
        """The years from the first to the last; '' for a counter."""
        if self.what == "a counter":
            return ""
        first, last = self.year(self.values.min().item()), self.year(self.values.max().item())
        return f"{first}" if first == last else f"{first} to {last}"

    def implausible(self) -> np.ndarray:
        """(n,) bool: the times before 1990 or after next year; none of a counter."""
        if self.what == "a counter":
            return np.zeros(len(self.values), bool)
        first, last = (
            int(datetime(year, 1, 1, tzinfo=timezone.utc).timestamp()) * self.per_second
            for year in (_FIRST_YEAR, datetime.now(tz=timezone.utc).year + 2)
        )
        return (self.values < first) | (self.values >= last)


def number(text: str) -> int | float | None:
    """A number since 1970, whole ones exactly; None if it is none, or is negative or beyond LATEST."""
    text = text.strip()
    with suppress(ValueError):
        value = int(text) if text.isdecimal() else float(text)
        return value if 0 <= value <= LATEST else None
    return None


def date(text: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 date or time (UTC where it names no zone); None if it is none."""
    plain = text.strip().removesuffix(" UTC")
    if plain[4:5] == plain[7:8] == "/":
        plain = plain.replace("/", "-", 2)
    for form in (str, _for_310):
        with suppress(ValueError):
            return _since(datetime.fromisoformat(form(plain)))
    return None


def of_texts(texts: Sequence[str]) -> tuple[list[Any], bool]:
    """What the texts (n > 0) of a column say, as numbers or, where the first is none, as dates, None where one is not
    of that kind; whether as dates."""
    dates = number(texts[0]) is None
    return [(date if dates else number)(text) for text in texts], dates


def first_wrong(values: Sequence[Any]) -> int | None:
    """The place of the first value that is no time, or none since 1970; None if all are."""
    return next((n for n, value in enumerate(values) if value is None or not 0 <= value <= LATEST), None)


def _for_310(text: str) -> str:
    """An ISO 8601 time in the form that Python reads before 3.11, too; another text as it is."""
    if (parts := _ISO.fullmatch(text)) is None:
        return text
    day, hour, minute, second, fraction, zone = (part or "" for part in parts.groups())
    day = day if "-" in day else f"{day[:4]}-{day[4:6]}-{day[6:]}"
    zone = "+0000" if zone == "Z" else zone.replace(":", "")
    zone = zone and f"{zone[:3]}:{zone[3:] or '00'}"
    return f"{day}T{hour or '00'}:{minute or '00'}:{second or '00'}.{fraction[:6]:0<6}{zone}"


def _since(found: datetime) -> int:
    zoned = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return (zoned - _EPOCH) // _MICROSECOND


def check_no_unit(unit: str) -> None:
    """Raises: UsageError: a unit of numbers for dates."""
    if unit != "auto":
        raise UsageError(f"--time-unit {unit}: the times are dates, not numbers", "leave --time-unit out")


def resolved(values: Sequence[int | float] | np.ndarray, *, dates: bool, unit: str = "auto") -> Times:
    """The times of a log.

    Args:
        values: what `number` or, with `dates`, `date` made of each row (n > 0).
        unit: a key of UNITS, or auto: dates without separators (20140701), or the unit that the median suggests.

    Raises:
        UsageError: a unit of numbers for dates.
    """
    made = np.asarray(values)
    if dates:
        check_no_unit(unit)
        return Times(made, UNITS["us"], "dates")
    if unit == "auto":
        if (compact := _compact_dates(made)) is not None:
            return Times(compact, UNITS["us"], "dates such as " + str(values[0]))
        if made.max() < _COUNTER:
            return Times(made, 1, "a counter")
        middle = float(np.median(made))
        unit = next(name for name, limit in _FROM_MEDIAN.items() if middle < limit)
    return Times(made, UNITS[unit], f"{NAMES[unit]} since 1970")


def _compact_dates(values: np.ndarray) -> np.ndarray | None:
    """(n,) int64 microseconds since 1970, if all values are dates of one form from 1990 to 2099; else None."""
    if values.dtype.kind != "i":
        return None
    form = _COMPACT.get(len(str(values.max())))
    if form is None or len(str(values.min())) != len(str(values.max())):
        return None
    parts = [values[start : start + _PART] for start in range(0, len(values), _PART)]
    distinct = np.unique(np.concatenate([np.unique(part) for part in parts]))
    found = np.empty(len(distinct), np.int64)
    for row, value in enumerate(distinct.tolist()):
        if not _FIRST_YEAR <= int(str(value)[:4]) < 2100:
            return None
        try:
            found[row] = _since(datetime.strptime(str(value), form))
        except ValueError:
            return None
    return np.concatenate([found[np.searchsorted(distinct, part)] for part in parts])
