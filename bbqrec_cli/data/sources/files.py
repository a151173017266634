"""Reading raw files: text that may be compressed, tables of items. Errors carry file and line."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from bbqrec_cli.data.sources.columns import ITEM_ID, plain_name, usual
from bbqrec_cli.data.sources.opening import COMPRESSED, open_text, plain_suffix, reading
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import LIST_SEPARATOR

EXACT, EXACT_IN_32 = 2**53, 2**24
"""From here on, neighbouring whole numbers are one float, of 64 bits and of 32."""
TABLES = tuple(f"{suffix}{more}" for suffix in (".csv", ".tsv") for more in ("", *COMPRESSED))
TABBED = (".tsv", ".inter", ".item")
"""Tables that usually have tabs, the last two RecBole's."""
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", "::": "'::'", " ": "spaces"}
"""What may separate cells -> how messages call it."""
TYPED = (".parquet", ".arrow", ".feather", ".ipc")
"""Ends of names of files whose columns have types."""
JSON_LINES = (".jsonl", ".ndjson")
UNQUOTED = ("::", " ")
"""Separators of tables whose quotes mean nothing."""
_OBJECT = 'it should look like {"i1": {"title": "…"}, …}'


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of the lines that are not blank. Raises: those of `open_text`."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if stripped := line.strip():
                yield number, stripped


def table_rows(path: Path, *, names: bool = True, between: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a table; the header first, blank lines left out.

    Args:
        names: whether the first line holds the columns' names, none of which may be repeated.
        between: what separates cells; None: see `separator`.

    Raises:
        DataError: broken quoting, a row whose width is not the header's, a repeated column name; and the errors of
            `open_text`.
    """
    between = separator(path) if between is None else between
    with open_text(path) as stream:
        for place, (number, row) in enumerate(rows_of(path, stream, between)):
            if names and not place:
                check_header(f"{path}, line {number}", row)
            yield number, row


def rows_of(
    path: Path, stream: IO[str], between: str, *, line: int = 0, width: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of an opened table, blank lines left out.

    Args:
        line: lines before it, if it is a part of a table.
        width: cells of a row; 0: as many as the first one has.

    Raises:
        DataError: broken quoting, a row of another width.
    """
    reader = _quoted(path, stream, between, line) if quotes(between) else _split_lines(stream, between, line)
    for number, row in reader:
        width = width or len(row)
        if len(row) != width:
            what = f"{path}, line {number}: {len(row)} columns; the header has {width}"
            raise DataError(
                f"{what} (split at {called(between)})", "put double quotes around cells that contain the separator"
            )
        yield number, row


def quotes(between: str) -> bool:
    """Whether cells that hold the separator may be in double quotes."""
    return len(between) == 1 and between not in UNQUOTED


def called(between: str) -> str:
    """What messages call a separator."""
    return SEPARATORS.get(between, repr(between))


def _quoted(path: Path, stream: IO[str], between: str, line: int) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # the csv module's own limit is 131,072 characters
    reader = csv.reader(stream, delimiter=between, strict=True)
    try:
        yield from ((line + reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line + reader.line_num}: not a readable table ({error})",
            "put double quotes around cells that contain one, and double it; or use JSON lines",
        ) from error


def _split_lines(stream: IO[str], between: str, line: int) -> Iterator[tuple[int, list[str]]]:
    for number, text in enumerate(stream, start=line + 1):
        if text.strip():
            yield number, text.split() if between == " " else text.rstrip("\r\n").split(between)


def separator(path: Path) -> str:
    """What separates a table's cells: tabs in .tsv, .inter, .item, commas in others, if the first line holds one.

    Else the one of SEPARATORS that splits the first line into most cells. Raises: those of `open_text`.
    """
    first = next((line for _, line in lines(path)), "")
    usual = "\t" if plain_suffix(path.name).endswith(TABBED) else ","
    if usual in first:
        return usual
    counts = {each: len(first.split() if each == " " else first.split(each)) for each in SEPARATORS}
    best = max(counts, key=lambda each: (counts[each], each == usual))
    return best if counts[best] > 1 else usual


def check_header(where: str, names: list[str]) -> None:
    """Raises: DataError: a repeated column name, whatever type RecBole adds."""
    name, times = Counter(filter(None, map(plain_name, names))).most_common(1)[0] if any(names) else ("", 0)
    if times > 1:
        raise DataError(f"{where}: the column {name!r} appears {times} times", "keep one of each name")


def as_id(text: str) -> str:
    """An id as it is kept, in every file: without spaces at its ends, others folded."""
    return " ".join(text.split())


def id_text(value: Any) -> str | None:
    """An id that is given as a value, as text; None for what is neither a text nor a whole number."""
    return None if isinstance(value, bool) or not isinstance(value, (str, int)) else str(value)


TITLES = ("title", "name", "movie_title", "item_name")
"""Fields that are an item's title: the first that there is; the last two are those of RecBole's sets."""
PROSE = (*TITLES, "text")
"""Fields in which a bar is a bar."""


def between(name: str) -> str:
    """What joins the values of a list in a field."""
    return ", " if name.casefold() in PROSE else LIST_SEPARATOR


def as_field(value: Any, separator: str = LIST_SEPARATOR) -> str:
    """A field's value as text, spaces folded; the values of a list are joined; None and NaN are missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (list, tuple)):
        return separator.join(filter(None, (as_field(each, separator) for each in value)))
    return " ".join(
        (json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict) else str(value)).split()
    )


def fields_of(
    item_ids: list[str], known: dict[str, dict[str, Any]], path: Path, progress: Progress
) -> dict[str, list[str]]:
    """name -> one string per item, for every field that any of the items has; logs missing and unused entries.

    Args:
        known: the entries of the items file `path`.

    Raises:
        DataError: none of the items has an entry; two fields have the same name in the file that is written.
    """
    without = sum(item not in known for item in item_ids)
    if without == len(item_ids):
        raise DataError(
            f"{path}: none of the {len(item_ids):,} items has an entry; their ids look like {first_few(item_ids)}, "
            f"those of its {len(known):,} entries like {first_few(known)}",
            "use the same item ids as the interactions, or give another --items file",
        )
    if without:
        progress.warn(f"{path.name}: {without:,} of {len(item_ids):,} items have no entry, so no title and no text")
    if left := len(known) - (len(item_ids) - without):
        progress.log(f"{path.name}: {left:,} entries are left out: their items have no interactions among those kept")
    rows = [known.get(item, {}) for item in item_ids]
    stored = stored_names((name for row in rows for name in row if name), field_name, f"{path}: the fields")
    fields = {plain: [as_field(row.get(name), between(plain)) for row in rows] for plain, name in stored.items()}
    return {name: values for name, values in fields.items() if any(values)}


def stored_names(names: Iterable[str], stored: Callable[[str], str], what: str) -> dict[str, str]:
    """The name in the file that is written -> the name. Raises: DataError: two names (`what`) are stored as one."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (other := found.setdefault(stored(name), name)) != name:
            said = f"{what} {other!r} and {name!r} would both be stored as {stored(name)!r}"
            raise DataError(said, "rename one of them")
    return found


def field_name(name: str) -> str:
    """The name as HDF5 can store it: no '/', which makes groups, no lone '.', no control characters."""
    plain = "".join(c if c.isprintable() and c != "/" else "_" for c in name)
    return plain if plain.strip(".") else "_" * len(plain)


def first_few(names: Iterable[str]) -> str:
    """The first few, for a message."""
    first = list(islice(names, 3))
    return ", ".join(map(repr, first)) or "nothing"


def read_items(path: Path, *, id_column: str | None) -> dict[str, dict[str, Any]]:
    """Item id -> fields, from a table (.csv, .tsv, .item, .dat), JSON lines (.jsonl, .ndjson), Parquet, Arrow or one
    JSON object (id -> fields); texts may be compressed.

    The id is in `id_column`, or else under one of the usual names (`columns.ITEM_ID`). An id 12.0 is read as 12 where
    it is a number, not a text.

    Raises:
        DataError: a malformed line, a line without an id, a repeated id; with file and line.
    """
    name, typed = plain_suffix(path.name), is_typed(path)
    table = name.endswith((".csv", *TABBED, ".dat"))
    if not table and not typed and not name.endswith(JSON_LINES):
        # A file that is called .json, or begins so.
        if name.endswith(".json") or next((line for _, line in lines(path)), "{").startswith(("{", "[")):
            return _json_object(path)
        table = True
    found: dict[str, dict[str, Any]] = {}
    rows, unit = (typed_rows(path), "row") if typed else (_table_items(path) if table else json_lines(path), "line")
    for number, row in rows:
        # In a table, typed or not, one column has all ids; objects may differ in what they name it.
        key = id_key(tuple(row if table or typed else filter(lambda name: as_field(row[name]), row)), id_column)
        item = "" if key is None else as_field(whole(row[key]))
        if key is None or not item:
            what = f"{path}, {unit} {number}: no item id among {first_few(row)}, …; one of the fields "
            what += f"{', '.join(dict.fromkeys((*filter(None, [id_column]), 'id', 'item_id', 'asin')))}, … is needed"
            hint = "name its column with --item-column"
            if key is not None:
                hint = f"give every {unit} one"
            elif id_column:
                hint = f"call its field {id_column!r}, as in the interactions, or 'id'"
            raise DataError(what, hint)
        del row[key]
        if item in found:
            raise DataError(f"{path}, {unit} {number}: item {item!r} appears twice", f"keep one {unit} per item")
        found[item] = row
    return found


@lru_cache(maxsize=1024)
def id_key(names: tuple[str, ...], id_column: str | None) -> str | None:
    """The one of an item's fields that has its id: `id_column`, or else the first of the usual names; None without."""
    if id_column in names:
        return id_column
    place = usual(names, (id_column, *ITEM_ID) if id_column else ITEM_ID)
    return None if place is None else names[place]


def is_typed(path: Path) -> bool:
    """Whether a file is Parquet or Arrow, by its first bytes or its name."""
    with reading(path) as stream:
        return stream.read(6).startswith((b"PAR1", b"ARROW1")) or plain_suffix(path.name).endswith(TYPED)


def typed_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, column -> value) of the rows of a Parquet or Arrow file; columns of bytes are left out."""
    from bbqrec_cli.data.sources.typed import read_typed

    table = read_typed(path)
    check_header(str(path), table.columns)
    yield from enumerate(table.iter_rows(named=True), start=1)


def whole(value: Any) -> Any:
    """12 for an id 12.0, as pandas stores integers beside missing ones, or a decimal 12.00; another value as it is,
    also a float so large that neighbouring whole numbers are one."""
    if not isinstance(value, (float, Decimal)) or not math.isfinite(value) or value != int(value):
        return value
    return int(value) if isinstance(value, Decimal) or abs(value) < EXACT else value


def no_id(value: Any) -> bool:
    """Whether a value is a truth or a number that is not whole; NaN is missing."""
    number = isinstance(value, (float, Decimal)) and value == value
    return isinstance(value, bool) or (number and not isinstance(whole(value), int))


def as_written(value: np.floating) -> float:
    """A number of few bits as it was written before it was rounded to them: 4.1, not 4.099999904632568. What is whole
    stays."""
    wide = float(value)
    return wide if wide.is_integer() else float(str(value))


def _table_items(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = table_rows(path)
    _, header = next(rows, (0, []))
    names = [plain_name(name) for name in header]
    yield from ((number, dict(zip(names, row, strict=True))) for number, row in rows)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of the lines that are not blank. Raises: as `json_object`, and those of `lines`."""
    for number, line in lines(path):
        yield number, json_object(line, f"{path}, line {number}", 'an object per line, such as {"id": "i1", …}')


def json_object(line: str, where: str, hint: str) -> dict[str, Any]:
    """The fields of a line that holds a JSON object.

    Raises:
        DataError: not JSON, or no object; `where` it stands.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}): {line[:60]!r}", hint) from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: holds {line[:60]!r}; an object of fields is needed", hint)
    return row


def read_json(path: Path, example: str) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        DataError: not JSON, no object, a key twice; the hint is `example`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(f"{path}: the key {twice!r} appears twice in one object", "keep one entry per key")
        return found

    try:
        with open_text(path) as stream:
            found = json.load(stream, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        hint = "if it holds one object per line, rename it to .jsonl" if error.msg == "Extra data" else example
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})", hint) from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply", example) from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: not JSON ({error})", example) from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}; an object is needed", example)
    return found


def _json_object(path: Path) -> dict[str, dict[str, Any]]:
    found = read_json(path, _OBJECT)
    for item, row in found.items():
        if not isinstance(row, dict):
            raise DataError(f"{path}: the entry of item {item!r} is {row!r}; an object of fields is needed", _OBJECT)
    kept = {as_id(item): row for item, row in found.items()}
    if len(kept) != len(found):
        twice = Counter(map(as_id, found)).most_common(1)[0][0]
        raise DataError(f"{path}: item {twice!r} appears twice, with and without spaces", "keep one entry per item")
    return kept
