"""Data frames as the files that `table` reads, so that both are read by the same rules.

A frame is what pandas or polars make, or a mapping of names to columns of equal length.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.sources.columns import ITEM, ITEM_ID, USER, plain_name, usual
from bbqrec_cli.data.sources.files import EXACT_IN_32, as_written, between, no_id, whole
from bbqrec_cli.data.sources.table import PICTURE_FIELDS
from bbqrec_cli.errors import DataError, UsageError

_NARROW: dict[str, Any] = {
    "float32": np.float32, "float16": np.float16, "float[pyarrow]": np.float32, "halffloat[pyarrow]": np.float16,
}  # fmt: skip
"""Types of columns in pandas and polars -> NumPy's type of such numbers."""


def is_frame(value: Any) -> bool:
    """Whether it is a frame; neither pandas nor polars is imported to find out."""
    libraries = {cls.__module__.partition(".")[0] for cls in type(value).__mro__}
    return isinstance(value, Mapping) or (bool(libraries & {"pandas", "polars"}) and hasattr(type(value), "columns"))


def write_frame(frame: Any, path: Path, *, items: bool, user: str | None = None, item: str | None = None) -> None:
    """Write a frame as CSV: whole numbers without a point, times as ISO 8601, None and NaN as empty cells.

    items: of items, where cells may be lists, which are joined, and pictures are paths relative to the working folder;
    user, item: the columns of ids, None: by their usual names.

    Raises:
        UsageError: columns without names, of equal names or of unequal length.
        DataError: a cell that is no text, number or time, or an id that is no text or whole number, with its column and
            line (the names are line 1).
    """
    columns = columns_of(frame)
    names = [(item, ITEM_ID)] if items else [(user, USER), (item, ITEM)]
    ids = {usual(list(columns), (given, *others) if given else others) for given, others in names}
    for name in PICTURE_FIELDS if items else ():
        for column in (values for key, values in columns.items() if plain_name(key).casefold() == name):
            column[:] = [_absolute(value) for value in column]
    texts = [_texts(each, items, place in ids, path.name, name) for place, (name, each) in enumerate(columns.items())]
    with path.open("w", encoding="utf-8", newline="") as stream:
        made = csv.writer(stream, lineterminator="\n")
        made.writerow(columns)
        made.writerows(zip(*texts, strict=True))


def columns_of(frame: Any) -> dict[str, list[Any]]:
    """Name -> values of a frame's columns. Raises: UsageError: as `write_frame`."""
    if hasattr(frame, "collect"):  # a lazy frame of polars
        frame = frame.collect()
    names = list(frame if isinstance(frame, Mapping) else frame.columns)
    if bad := [name for name in names if not isinstance(name, str) or not name.strip() or name.strip().isdecimal()]:
        raise UsageError(
            f"the frame has a column {bad[0]!r}; names are needed", "frame.columns = ['user', 'item', 'time']"
        )
    plain = [" ".join(name.split()) for name in names]
    if len(set(plain)) < len(plain):
        twice = next(name for name in plain if plain.count(name) > 1)
        raise UsageError(f"the frame has several columns {twice!r}", "keep one of each name")
    found = {name: _list(frame[name]) for name in names}
    if len(set(map(len, found.values()))) > 1:
        lengths = ", ".join(f"{name} {len(values):,}" for name, values in found.items())
        raise UsageError(f"the columns differ in length: {lengths}", "one value per row is needed in each")
    return dict(zip(plain, found.values(), strict=True))


def _list(column: Any) -> list[Any]:
    """The values; floats of fewer than 64 bits as such, which pandas and polars widen."""
    values = column.to_list() if hasattr(column, "to_list") else list(column)
    narrow = _NARROW.get(str(getattr(column, "dtype", "")).casefold())
    if narrow is None:
        return values
    return [narrow(each) if isinstance(each, float) else each for each in values]


def _absolute(value: Any) -> Any:
    """A picture's path, whole, since the file that names it is elsewhere; URLs and what is no path stay."""
    return os.path.abspath(value) if isinstance(value, str) and value.strip() and "://" not in value else value


def _check_id(value: Any, where: str) -> None:
    merged = isinstance(value, np.float32) and abs(value) >= EXACT_IN_32
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy
    if merged or no_id(value):
        hint = "give the ids as texts or integers, before missing ones make them floats"
        raise DataError(f"{where} is {value!r}; an id is a text or a whole number", hint)


def _texts(values: list[Any], items: bool, ids: bool, file: str, name: str) -> list[str]:
    if set(map(type, values)) == {int}:  # the usual case, and a long one
        return list(map(str, values))
    for line, value in enumerate(values if ids else (), start=2):
        _check_id(value, f"{file}, line {line}: {name}")
    values = list(map(whole, values)) if ids else values
    separator = between(name) if items else ""
    return [_text(value, separator, f"{file}, line {line}: {name}") for line, value in enumerate(values, start=2)]


def _text(value: Any, separator: str, where: str) -> str:
    """separator: what joins the values of a list; '': there can be none."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, (np.float32, np.float16)):
        value = as_written(value)
    if hasattr(value, "tolist") and not isinstance(value, float):  # NumPy
        value = value.tolist()
    if separator and isinstance(value, (list, tuple)):
        return separator.join(filter(None, (_text(each, separator, where) for each in value)))
    if separator and isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(float(value))
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (int, Decimal)):
        return str(value)
    needed = "a text, a number, a time" + (" or a list" if separator else "")
    raise DataError(f"{where} is of the type {type(value).__name__}; {needed} is needed", "convert the column")
