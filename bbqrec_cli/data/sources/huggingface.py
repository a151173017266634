"""Hugging Face data sets on disk and Parquet files: a row per interaction, or per user with a list of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.sources import columns
from bbqrec_cli.data.sources import times as clock
from bbqrec_cli.data.sources.arrow import ITEMS, batches_of, import_pyarrow, schema_of, splits_of
from bbqrec_cli.data.sources.base import Interactions, Items, by_user
from bbqrec_cli.data.sources.files import (
    as_field,
    as_written,
    check_header,
    fields_of,
    first_few,
    no_id,
    read_items,
    whole,
)
from bbqrec_cli.data.sources.options.huggingface import HuggingFaceOptions
from bbqrec_cli.data.sources.paths import only_path
from bbqrec_cli.data.sources.pictures import find_pictures, pictures_of
from bbqrec_cli.data.sources.vectors import as_vector, features_of
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress

TARGETS = ("target", "target_item", "target_id", "target_item_id", "next_item", "label")
"""Usual names of a column with the item after a history."""
_ARROW = (".parquet", ".arrow")
TYPED, NUMBERS, TEXTS = "times as timestamps", "times as numbers", "times as texts"
"""How a column stores times."""


class HuggingFace:
    """PATH: a folder of `save_to_disk`, a folder of Parquet files, or one file.

    Raises:
        UsageError: not one path.
        MissingFileError, DataError, MissingPackageError.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: HuggingFaceOptions, *, seed: int, progress: Progress) -> None:
        path = only_path(paths, "huggingface", "bbqrec prepare huggingface FOLDER")
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder", "check the name, or give it in full")
        import_pyarrow()
        found = splits_of(path)
        self._splits = {name: files for name, files in found.items() if name not in ITEMS}
        if not self._splits:
            raise DataError(f"{path}: holds only items ({', '.join(found)})", "interactions are needed")
        beside = next((files for name, files in found.items() if name in ITEMS), [])
        self._item_files = [options.items] if options.items else beside
        self.images = options.images or find_pictures(path)
        self._name, self._options, self._seed, self._progress = path.name, options, seed, progress
        self.files = [*(file for files in self._splits.values() for file in files), *self._item_files]
        self._item_column = ""
        self._first_times: tuple[str, Path] | None = None
        self._low = 0

    def interactions(self) -> Interactions:
        """Each user's interactions by time, or as they stand where there are no times.

        Raises:
            DataError: a missing column, a missing value, lists of different lengths, splits that repeat each other or
                store times differently.
        """
        users: list[str] = []
        items: list[str] = []
        times: list[Any] = []
        seen: dict[str, list[str]] = {}
        for split, files in self._splits.items():
            for path in files:
                for user, found, stamps in self._rows(path):
                    if isinstance(found, list):
                        check_apart(user, found, seen, f"{path} ({split})")
                    users += [user] * (len(found) if isinstance(found, list) else 1)
                    items += found if isinstance(found, list) else [found]
                    times += stamps
        if not users:
            raise DataError(f"{self._name}: no interactions in it", "lower --min-rating, or give another folder")
        if len(self._splits) > 1:
            self._progress.log(f"{self._name}: the splits {', '.join(self._splits)} are joined in this order")
        made = by_user(users, items) if not times else self._by_time(users, items, times)
        return replace(made, left_out=made.left_out | ({"ratings": self._low} if self._low else {}))

    def _by_time(self, users: list[str], items: list[str], times: list[Any]) -> Interactions:
        assert self._first_times is not None  # it has read a file
        kind, _ = self._first_times
        dates, values = kind != NUMBERS, times
        if kind == TEXTS:
            values, dates = clock.of_texts(list(map(str, times)))
        if (row := clock.first_wrong(values)) is not None:
            what = f"{self._name}: user {users[row]!r}, item {items[row]!r}: the time is {times[row]!r}"
            raise DataError(f"{what}; 1970 or later is needed", "correct or remove the row")
        found = clock.resolved(values, dates=dates, unit=self._options.time_unit)
        self._progress.log(f"{self._name}: times are read as {found.what}")
        return by_user(
            users, items, found.values, per_second=found.per_second, ties=self._options.ties, seed=self._seed
        )  # fmt: skip

    def _rows(self, path: Path) -> Iterator[tuple[str, Any, list[Any]]]:
        """(user, item or items, times or []) of each row of a file."""
        names, listed = self._columns(path)
        minimum, number = self._options.min_rating, 0
        for batch in batches_of(path, list(names.values())):
            table = {role: self._values(batch.column(batch.schema.get_field_index(n))) for role, n in names.items()}
            for row in range(batch.num_rows):
                number += 1
                where = f"{path}, row {number}"
                if minimum is not None and not _at_least(table["rating"][row], minimum, where):
                    self._low += 1
                    continue
                stamps = table["time"][row] if "time" in table else None
                user, found = _id(table["user"][row], where), table["item"][row]
                many = listed and found is not None
                found = [_id(each, where) for each in found] if many else _id(found, where)
                times = [] if "time" not in table else stamps if many else [stamps]
                if not user or not found or (many and "" in found) or (times is None or None in times):
                    raise DataError(f"{where}: a user, item or time is missing", "correct or remove the row")
                if times and many and len(times) != len(found):
                    raise DataError(f"{where}: {len(found)} items, but {len(times)} times", "correct the row")
                yield user, found, times

    def _values(self, column: Any) -> list[Any]:
        """The values of a column; timestamps and dates as microseconds since 1970."""
        pyarrow = import_pyarrow()
        kind = column.type
        inner = _inner(kind)
        if pyarrow.types.is_temporal(inner):
            fine = pyarrow.timestamp("us", getattr(inner, "tz", None))
            column = column.cast(pyarrow.list_(fine) if _is_list(kind) else fine, safe=False)
            column = column.cast(pyarrow.list_(pyarrow.int64()) if _is_list(kind) else pyarrow.int64())
        found: list[Any] = column.to_pylist()
        few = _few_bits(kind)
        return found if few is None else [None if each is None else as_written(few(each)) for each in found]

    def _columns(self, path: Path) -> tuple[dict[str, str], bool]:
        """What a column is for -> its name; whether a row has a list of items.

        Raises:
            DataError: a missing column; times that an earlier file stores differently.
        """
        options, schema = self._options, schema_of(path)
        wanted = {"user": options.user_column, "item": options.item_column}
        wanted |= {} if options.order == "file" else {"time": options.time_column}
        wanted |= {} if options.min_rating is None else {"rating": options.rating_column}
        found = columns.find(schema.names, wanted).found
        if "item" not in found and options.item_column is None:
            place = columns.usual(schema.names, columns.LISTS)
            found |= {} if place is None else {"item": place}
            if place is not None and (target := columns.usual(schema.names, TARGETS)) is not None:
                what = f"{path}: {schema.names[place]} and {schema.names[target]} look like a history and its target"
                raise DataError(what, "a row per interaction, or per user with the whole list, is needed")
        if "time" in wanted and "time" not in found and options.time_column is None and "item" in found:
            place = columns.usual(schema.names, columns.TIME_LISTS)
            if place is not None and all(_is_list(schema.field(at).type) for at in (place, found["item"])):
                found |= {"time": place}
        missing = [role for role in wanted if role not in found and (role != "time" or options.time_column)]
        if missing:
            what = f"{path}: no column for {', '.join(missing)} among {', '.join(schema.names)}"
            near = did_you_mean(str(wanted[missing[0]] or missing[0]), schema.names)
            raise DataError(what + near, " ".join(f"--{role}-column NAME" for role in missing))
        names = {role: schema.names[place] for role, place in found.items()}
        if "time" not in names and (options.duplicates == "drop" or options.ties != "file"):
            asked = "--duplicates drop" if options.duplicates == "drop" else f"--ties {options.ties}"
            raise UsageError(f"{path}: {asked} compares times, and no column has any", "name it with --time-column")
        if "time" not in names and "time" in wanted:
            self._progress.log(f"{self._name}: no column of times; the order is that of the rows")
        read = ", ".join(f"{name} ({role})" for role, name in names.items())
        self._progress.log(f"{path.parent.name}/{path.name}: columns: {read}")
        self._item_column = names["item"]
        types = {role: schema.field(name).type for role, name in names.items()}
        listed = _is_list(types["item"])
        if "time" in names and _is_list(types["time"]) != listed:
            raise DataError(f"{path}: only one of {names['item']} and {names['time']} holds lists", "--order file")
        for role in ("user", "item"):
            if import_pyarrow().types.is_floating(_inner(types[role])):
                self._progress.log(f"{path.name}: {names[role]} holds floats; an id such as 12.0 is read as 12")
        kind = _kind_of_times(types["time"]) if "time" in names else "no times"
        before, first = self._first_times = self._first_times or (kind, path)
        if kind != before:
            what = f"{path} has {kind}, but {first} has {before}: their interactions have no common order"
            raise DataError(what, "store times alike in all files, or --order file, which reads none")
        return names, listed

    def items(self, item_ids: list[str]) -> Items:
        """Fields of the items, from a split or file called items or from --items; lists of floats are features, columns
        of type Image and the files of a folder are pictures."""
        fields: dict[str, list[str]] = {}
        images: Sequence[bytes] = []
        vectors: dict[str, dict[str, np.ndarray]] = {}
        if self._item_files:
            first = self._item_files[0]
            known: dict[str, dict[str, Any]] = {}
            for path in self._item_files:
                more = self._known(path) if path.suffix in _ARROW else read_items(path, id_column=self._item_column)
                if twice := next(iter(known.keys() & more.keys()), None):
                    raise DataError(f"{path}: item {twice!r} is in an earlier file, too", "keep one row per item")
                known |= more
            images, vectors = _pictures(item_ids, known), _vectors(known)
            fields = fields_of(item_ids, known, first, self._progress)
        if self.images:
            images = pictures_of(self.images, item_ids, self._progress)
        return Items(fields=fields, images=images, features=features_of(item_ids, vectors, self._name))

    def _known(self, path: Path) -> dict[str, dict[str, Any]]:
        """Item id -> fields of a file of items, one row each."""
        schema = schema_of(path)
        check_header(str(path), schema.names)
        place = columns.usual(schema.names, (self._item_column, *columns.ITEM_ID))
        if place is None:
            raise DataError(f"{path}: no column of item ids among {first_few(schema.names)}, …", "--item-column NAME")
        made: dict[str, dict[str, Any]] = {}
        kinds = {name: _few_bits(schema.field(name).type) for name in schema.names}
        narrow = {name: few for name, few in kinds.items() if few is not None}
        for batch in batches_of(path, schema.names):
            for row in batch.to_pylist():
                item = _id(row.pop(schema.names[place]), str(path))
                if not item or item in made:
                    what = "a row has no item id" if not item else f"item {item!r} appears twice"
                    raise DataError(f"{path}: {what}", "keep one row per item")
                made[item] = {name: _compact(value) for name, value in row.items()}
                for name, few in narrow.items():
                    if row.get(name) is not None:
                        made[item][name] = as_written(few(row[name]))
        return made


def _few_bits(kind: Any) -> Any:
    """NumPy's type of numbers of 32 or 16 bits, None for other types."""
    types = import_pyarrow().types
    return np.float32 if types.is_float32(kind) else np.float16 if types.is_float16(kind) else None


def _pictures(item_ids: list[str], known: dict[str, dict[str, Any]]) -> list[bytes]:
    """The encoded pictures (I,) in columns of the type Image, or []; bytes are taken out of `known`."""
    found: dict[str, bytes] = {}
    for item, row in known.items():
        for name, value in list(row.items()):
            blob = value.get("bytes") if isinstance(value, dict) else value
            if isinstance(blob, bytes):
                found.setdefault(item, blob)
                del row[name]
    return [found.get(item, b"") for item in item_ids] if found else []


def _compact(value: Any) -> Any:
    """A list of floats as a vector, which takes an eighth of the memory; another value as it is. A null among floats is
    NaN, which no feature may hold."""
    kinds = set(map(type, value)) if isinstance(value, list) else set()
    return as_vector(value) if float in kinds and kinds <= {float, type(None)} else value


def _vectors(known: dict[str, dict[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Column -> item -> vector, of the columns with lists of floats; they are taken out of `known`."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for item, row in known.items():
        for name, value in list(row.items()):
            if isinstance(vector := _compact(value), np.ndarray):
                found.setdefault(name, {})[item] = vector
                del row[name]
    return found


def check_apart(user: str, found: list[str], seen: dict[str, list[str]], where: str) -> None:
    """Notes a user's list in `seen`. Raises: DataError: an earlier list of the user begins it, or is begun by it."""
    before = seen.get(user)
    if before is not None:
        shorter = min(len(before), len(found))
        if before[:shorter] == found[:shorter] and (len(found) > 1 or len(before) == 1):
            what = f"{where}: the list of user {user!r} repeats that of an earlier row"
            raise DataError(what, "give the one split that holds whole lists")
    seen[user] = [*(before or []), *found]


def _is_list(kind: Any) -> bool:
    types = import_pyarrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _inner(kind: Any) -> Any:
    """The type of what lists hold, or a type itself."""
    return kind.value_type if _is_list(kind) else kind


def _kind_of_times(kind: Any) -> str:
    """TYPED, NUMBERS or TEXTS."""
    types, inner = import_pyarrow().types, _inner(kind)
    if types.is_timestamp(inner) or types.is_date(inner):
        return TYPED
    if types.is_temporal(inner):
        raise DataError(f"the times are of the type {inner}; moments are needed", "--order file reads no times")
    return NUMBERS if types.is_integer(inner) or types.is_floating(inner) or types.is_decimal(inner) else TEXTS


def _id(value: Any, where: str) -> str:
    """An id as text: 12 for 12.0, bytes as UTF-8. Raises: DataError: other floats, truths, bytes that are not UTF-8."""
    if no_id(value):
        raise DataError(f"{where}: the id is {value!r}; an id is a text or a whole number", "correct or remove the row")
    try:
        return as_field(value.decode() if isinstance(value, bytes) else whole(value))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: the id {value!r} is not UTF-8", "correct or remove the row") from error


def _at_least(rating: Any, minimum: float, where: str) -> bool:
    if not isinstance(rating, (int, float, Decimal)) or rating != rating:
        raise DataError(f"{where}: the rating is {rating!r}; a number is needed", "correct or remove the row")
    return rating >= minimum
